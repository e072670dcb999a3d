"""An EventBridge bus, which takes a few events at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from time import monotonic, sleep
from typing import Any, NamedTuple

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from audit.event import AuditEvent

SOURCE = "serverless-sessions"
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
_ENTRIES_PER_REQUEST = 10
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html
_BYTES_PER_REQUEST = 256 * 1024
# What stands around the detail in the event that the bus makes of an entry.
_ENVELOPE_BYTES = 1024
_TRIES = 4
_PAUSE_SECONDS = 0.1
# The first is said of a request, the others of an entry. Anything else, a missing permission or bus
# too, may be different when the event comes again.
# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
_REFUSED_FOR_GOOD = {
    "ValidationException",
    "InvalidArgument",
    "MalformedDetail",
    "NotAuthorizedForDetailTypeException",
    "NotAuthorizedForSourceException",
}

Entry = dict[str, str]


class Missed(NamedTuple):
    """Keys of events that are not on the bus, each with the code of its error.

    Some are missing `for_now`, and others the bus will never take.
    """

    for_now: dict[str, str]
    for_good: dict[str, str]


class EventBus:
    """The bus of this name or ARN, by way of boto3's client of EventBridge."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def put(self, events: Mapping[str, AuditEvent], *, deadline: float) -> Missed:
        """Put events on the bus.

        No request begins after `deadline`, by `time.monotonic()`.
        """
        waiting = {key: self._entry(event) for key, event in events.items()}
        missed = Missed(dict.fromkeys(waiting, "no time left"), {})
        for attempt in range(_TRIES):
            if attempt:
                sleep(_PAUSE_SECONDS * 2**attempt)
            lots = deque(_lots({key: waiting[key] for key in missed.for_now}))
            while lots and monotonic() <= deadline:
                lot = lots.popleft()
                for key, code in self._send(lot).items():
                    if code == "ValidationException" and len(lot) > 1:
                        # Sent alone, an entry costs no neighbour.
                        lots.appendleft({key: lot[key]})
                        continue
                    del missed.for_now[key]
                    if code in _REFUSED_FOR_GOOD:
                        missed.for_good[key] = code
                    elif code:
                        missed.for_now[key] = code
            if not missed.for_now:
                break
        return missed

    def _entry(self, event: AuditEvent) -> Entry:
        return {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": event.type,
            "Detail": msgspec.json.encode(event).decode(),
        }

    def _send(self, lot: Mapping[str, Entry]) -> dict[str, str]:
        """The code of each entry's error, empty for one that is on the bus."""
        try:
            answer = self._client.put_events(Entries=list(lot.values()))
        except ClientError as error:
            return dict.fromkeys(lot, error.response["Error"]["Code"])
        except BotoCoreError as error:
            return dict.fromkeys(lot, type(error).__name__)
        codes = [each.get("ErrorCode", "") for each in answer["Entries"]]
        return dict(zip(lot, codes, strict=True))


def _lots(entries: Mapping[str, Entry]) -> Iterator[dict[str, Entry]]:
    """The entries in as many parts as it takes for each to fit into a request."""
    lot: dict[str, Entry] = {}
    size = 0
    for key, entry in entries.items():
        added = len(entry["Detail"].encode()) + _ENVELOPE_BYTES
        if lot and (len(lot) == _ENTRIES_PER_REQUEST or size + added > _BYTES_PER_REQUEST):
            yield lot
            lot, size = {}, 0
        lot[key] = entry
        size += added
    if lot:
        yield lot
