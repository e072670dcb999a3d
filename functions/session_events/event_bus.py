"""An EventBridge bus, which takes a few events at a time."""

from __future__ import annotations

import json
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
_TRIES = 4
_PAUSE_SECONDS = 0.1
# What is wrong with a request itself, or with one of its entries. The last is boto3's own verdict.
# Any other error, a missing permission or bus too, may be gone when the event comes again. The HTTP
# status does not tell these apart: AWS's JSON protocols answer 400 to throttled requests as well.
_TOO_LARGE = "RequestEntityTooLarge"
_REQUEST_REFUSED = {
    _TOO_LARGE,
    "SerializationException",
    "ValidationException",
    "ParamValidationError",
}
# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
_ENTRY_REFUSED = {
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
                codes = self._send(lot)
                if len(lot) > 1 and _REQUEST_REFUSED.issuperset(codes.values()):
                    # Sent apart from each other, an entry costs no neighbour.
                    lots.extendleft(reversed(_halves(lot)))
                    continue
                for key, code in codes.items():
                    del missed.for_now[key]
                    if code in _REQUEST_REFUSED | _ENTRY_REFUSED:
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
            # Such an answer has no body: its code is the status, as a text.
            # https://github.com/boto/boto3/issues/3411
            too_large = error.response["ResponseMetadata"]["HTTPStatusCode"] == 413
            return dict.fromkeys(lot, _TOO_LARGE if too_large else error.response["Error"]["Code"])
        except BotoCoreError as error:
            return dict.fromkeys(lot, type(error).__name__)
        codes = [each.get("ErrorCode", "") for each in answer["Entries"]]
        return dict(zip(lot, codes, strict=True))


def _lots(entries: Mapping[str, Entry]) -> Iterator[dict[str, Entry]]:
    """The entries in as many parts as it takes for each to fit into a request."""
    lot: dict[str, Entry] = {}
    # A separator stands between entries alone.
    empty = size = len(json.dumps({"Entries": []})) - len(", ")
    for key, entry in entries.items():
        # As boto3 spells it: quotes in `Detail` and all that is not ASCII become longer.
        added = len(json.dumps(entry)) + len(", ")
        if lot and (len(lot) == _ENTRIES_PER_REQUEST or size + added > _BYTES_PER_REQUEST):
            yield lot
            lot, size = {}, empty
        lot[key] = entry
        size += added
    if lot:
        yield lot


def _halves(lot: Mapping[str, Entry]) -> list[dict[str, Entry]]:
    """Two lots, in the order of the entries."""
    entries = list(lot.items())
    middle = len(entries) // 2
    return [dict(entries[:middle]), dict(entries[middle:])]
