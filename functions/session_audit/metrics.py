"""The metrics of the trail, as one line of the function's log for each batch.

CloudWatch makes metrics of what is logged in its embedded metric format. That costs no request, and
no caller waits for it. Powertools' Metrics would write the same line, and take 0.25 ms instead of
0.05 of the 4.4 ms that a batch of 100 takes.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from msgspec import UNSET
from msgspec.json import encode

from audit.event import AuditEvent

_NAMESPACE = "ServerlessSessions"


def emit(events: Iterable[AuditEvent], *, function_name: str, now: float) -> None:
    """Log the metrics of a batch of recorded events, if there are any."""
    if found := metrics(events, function_name=function_name, now=now):
        print(encode(found).decode())


def metrics(events: Iterable[AuditEvent], *, function_name: str, now: float) -> dict[str, Any]:
    """How many events there are of each kind, and how late TTL was at most, in seconds.

    Empty without events. `now`, in epoch seconds, is what alarms go by: they look at the last few
    minutes, and a record that comes late is news all the same. A record that Lambda delivers again
    counts again.
    """
    events = list(events)
    values: dict[str, Any] = Counter(map(_kind, events))
    units = dict.fromkeys(values, "Count")
    lags = [each.ttl_lag_seconds for each in events if each.ttl_lag_seconds is not UNSET]
    if lags:
        values["ttl_lag_seconds"] = max(lags)
        units["ttl_lag_seconds"] = "Seconds"
    if not events:
        return {}
    described = {
        "Namespace": _NAMESPACE,
        "Dimensions": [["FunctionName"]],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
    }
    return {
        "_aws": {"Timestamp": int(now * 1000), "CloudWatchMetrics": [described]},
        "FunctionName": function_name,
        **values,
    }


def _kind(event: AuditEvent) -> str:
    """The type; ends are told apart by cause, where the service itself gave it."""
    if event.type == "expired":
        return f"expired_{event.cause}"
    if event.type == "revoked" and event.reason == "token_reuse":
        return "token_reuse"
    return event.type
