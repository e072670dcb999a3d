"""An EventBridge bus, which accepts a few events per request."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

import clock
from audit.event import AuditEvent

SOURCE = "serverless-sessions"
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
_ENTRIES_PER_REQUEST = 10
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html
_BYTES_PER_REQUEST = 256 * 1024
_TRIES = 4
_PAUSE_SECONDS = 0.1
# Errors of a whole request that a retry can't fix. The last one comes from boto3 itself. Any other
# error, such as a missing permission or bus, may be gone when the event is delivered again. The
# HTTP status does not tell them apart, because AWS also answers 400 to throttled requests.
_TOO_LARGE = "RequestEntityTooLarge"
_REQUEST_REFUSED = {
    _TOO_LARGE,
    "SerializationException",
    "ValidationException",
    "ParamValidationError",
}
# Errors of a single entry that a retry can't fix:
# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
_ENTRY_REFUSED = {
    "InvalidArgument",
    "MalformedDetail",
    "NotAuthorizedForDetailTypeException",
    "NotAuthorizedForSourceException",
}

Entry = dict[str, str]


class Failures(NamedTuple):
    """Keys of events that are not on the bus, with the codes of their errors.

    A retry can fix `temporary` failures, but not `permanent` ones.
    """

    temporary: dict[str, str]
    permanent: dict[str, str]


class EventBus:
    """The bus with this name or ARN. `client` is boto3's client of EventBridge."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def put(self, events: Mapping[str, AuditEvent], *, deadline: float) -> Failures:
        """Put events on the bus.

        No request begins after `deadline`, by `clock.monotonic()`.
        """
        waiting = {key: self._entry(event) for key, event in events.items()}
        failures = Failures(dict.fromkeys(waiting, "no time left"), {})
        for attempt in range(_TRIES):
            if attempt:
                clock.sleep(_PAUSE_SECONDS * 2**attempt)
            batches = deque(_batches({key: waiting[key] for key in failures.temporary}))
            while batches and clock.monotonic() <= deadline:
                batch = batches.popleft()
                codes = self._send(batch)
                if len(batch) > 1 and _REQUEST_REFUSED.issuperset(codes.values()):
                    # The halves are sent separately, so that a bad entry fails alone in the end.
                    batches.extendleft(reversed(_halves(batch)))
                    continue
                for key, code in codes.items():
                    del failures.temporary[key]
                    if code in _REQUEST_REFUSED | _ENTRY_REFUSED:
                        failures.permanent[key] = code
                    elif code:
                        failures.temporary[key] = code
            if not failures.temporary:
                break
        return failures

    def _entry(self, event: AuditEvent) -> Entry:
        return {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": event.type,
            "Detail": msgspec.json.encode(event).decode(),
        }

    def _send(self, batch: Mapping[str, Entry]) -> dict[str, str]:
        """Return the error code of every entry. It is empty for an entry that is on the bus."""
        try:
            answer = self._client.put_events(Entries=list(batch.values()))
        except ClientError as error:
            # The answer 413 has no body, so boto3 uses the status as the error's code.
            # https://github.com/boto/boto3/issues/3411
            too_large = error.response["ResponseMetadata"]["HTTPStatusCode"] == 413
            return dict.fromkeys(
                batch, _TOO_LARGE if too_large else error.response["Error"]["Code"]
            )
        except BotoCoreError as error:
            return dict.fromkeys(batch, type(error).__name__)
        codes = [entry.get("ErrorCode", "") for entry in answer["Entries"]]
        return dict(zip(batch, codes, strict=True))


def _batches(entries: Mapping[str, Entry]) -> Iterator[dict[str, Entry]]:
    """Split the entries into batches that fit into a request."""
    batch: dict[str, Entry] = {}
    # There is one separator fewer than there are entries.
    empty = size = len(json.dumps({"Entries": []})) - len(", ")
    for key, entry in entries.items():
        # boto3 escapes quotes in `Detail` and all characters that are not ASCII.
        added = len(json.dumps(entry)) + len(", ")
        if batch and (len(batch) == _ENTRIES_PER_REQUEST or size + added > _BYTES_PER_REQUEST):
            yield batch
            batch, size = {}, empty
        batch[key] = entry
        size += added
    if batch:
        yield batch


def _halves(batch: Mapping[str, Entry]) -> list[dict[str, Entry]]:
    """Return two batches, in the order of the entries."""
    entries = list(batch.items())
    middle = len(entries) // 2
    return [dict(entries[:middle]), dict(entries[middle:])]
