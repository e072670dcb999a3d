"""The `SessionAudit` table: events are added and read, never changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from time import monotonic, sleep
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from audit.event import AuditEvent
from dynamodb.errors import DynamoDBError, RequestRefused
from sessions.cursor import Position
from sessions.dynamodb import DynamoDB, Item, translated_errors
from sessions.errors import InvalidField

# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
_STATEMENTS_PER_REQUEST = 25
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_KEYS_PER_REQUEST = 100
# A user's or a caller's name may be any text, and each of its characters may take seven bytes in an
# answer. Lambda carries 6 MB:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_MAX_PAGE_BYTES = 5 * 1024 * 1024
_TRIES = 4
_PAUSE_SECONDS = 0.1
# As a whole request says it, and as a single statement's answer says it. Anything else, a missing
# permission or table too, may be different when the event comes again.
_REFUSED_FOR_GOOD = "ValidationException", "SerializationException", "ValidationError"

# {"ttl_lag_seconds": "TtlLagSeconds", …}
_ATTRIBUTES = {
    field: "".join(word.capitalize() for word in field.split("_"))
    for field in AuditEvent.__struct_fields__
}


class EventPosition(Position, frozen=True):
    """Where a trail goes on: behind this event."""

    event_id: Annotated[str, Meta(pattern=r"^[0-9]{10}#[0-9]{40}\Z")]


class Missed(Struct, frozen=True):
    """Events that are not in the trail.

    Some are missing `for_now`, and others DynamoDB will never take. The keys of those that are
    `displaced` hold other events, which come with them; None for an item that is no event.
    """

    for_now: list[AuditEvent]
    for_good: list[AuditEvent]
    displaced: list[tuple[AuditEvent, AuditEvent | None]]


class Page(Struct, frozen=True):
    """Events in the order asked for; `position` is None at the end, and only there."""

    events: list[AuditEvent]
    position: EventPosition | None


class AuditTrail:
    """Audit events in DynamoDB."""

    def __init__(self, client: DynamoDB, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def append(
        self, events: Iterable[AuditEvent], *, retention_seconds: int, deadline: float
    ) -> Missed:
        """Add events with distinct keys, to be kept for so long after their time of record.

        An event that is already there counts as added, so a repeated delivery changes nothing. Only
        if a key is taken, the table is read, to see whether by the same event. PartiQL's INSERT is
        the one write that can be allowed without overwriting too. No request begins after
        `deadline`, by `time.monotonic()`.
        """
        waiting, for_good = list(events), list[AuditEvent]()
        repeated = list[AuditEvent]()
        for attempt in range(_TRIES):
            if attempt:
                sleep(_PAUSE_SECONDS * 2**attempt)
            waiting, refused, taken = self._insert(waiting, retention_seconds, deadline)
            for_good += refused
            repeated += taken
            if not waiting:
                break
        unknown, displaced = self._compare(repeated, deadline)
        return Missed(waiting + unknown, for_good, displaced)

    def _insert(
        self, events: list[AuditEvent], retention_seconds: int, deadline: float
    ) -> tuple[list[AuditEvent], list[AuditEvent], list[AuditEvent]]:
        """Add what can be added. Return what is missing for now, what is missing for good, and the
        events whose keys are taken.
        """
        for_now, for_good, taken = list[AuditEvent](), list[AuditEvent](), list[AuditEvent]()
        lots = deque(
            events[start : start + _STATEMENTS_PER_REQUEST]
            for start in range(0, len(events), _STATEMENTS_PER_REQUEST)
        )
        while lots:
            lot = lots.popleft()
            if monotonic() > deadline:
                for_now.extend(lot)
                continue
            statements: Any = [self._statement(event, retention_seconds) for event in lot]
            try:
                answer = self._client.batch_execute_statement(Statements=statements)
            except RequestRefused as refused:
                if refused.code not in _REFUSED_FOR_GOOD:
                    for_now.extend(lot)
                elif len(lot) > 1:
                    # A malformed number, say, fails its neighbours too.
                    lots.extendleft([event] for event in lot)
                else:
                    for_good.extend(lot)
                continue
            except DynamoDBError:
                for_now.extend(lot)
                continue
            for event, response in zip(lot, answer["Responses"], strict=True):
                code = response.get("Error", {}).get("Code")
                if code in _REFUSED_FOR_GOOD:
                    for_good.append(event)
                elif code == "DuplicateItem":
                    taken.append(event)
                elif code:
                    for_now.append(event)
        return for_now, for_good, taken

    def _compare(
        self, events: list[AuditEvent], deadline: float
    ) -> tuple[list[AuditEvent], list[tuple[AuditEvent, AuditEvent | None]]]:
        """Return the events whose keys could not be read, and those whose keys hold other events.

        Somebody may have called the function with a made-up record before the real one came.
        """
        unknown = list[AuditEvent]()
        displaced = list[tuple[AuditEvent, AuditEvent | None]]()
        for start in range(0, len(events), _KEYS_PER_REQUEST):
            lot = {_key(event): event for event in events[start : start + _KEYS_PER_REQUEST]}
            keys = [
                {"SessionId": {"S": session_id}, "EventId": {"S": event_id}}
                for session_id, event_id in lot
            ]
            request = {self._table_name: {"Keys": keys, "ConsistentRead": True}}
            items: list[Item] = []
            if monotonic() <= deadline:
                with suppress(DynamoDBError):
                    answer = self._client.batch_get_item(RequestItems=request)
                    items = answer["Responses"].get(self._table_name, [])
            stored = {(item["SessionId"]["S"], item["EventId"]["S"]): item for item in items}
            unknown += [lot[key] for key in lot.keys() - stored.keys()]
            displaced += [
                (lot[key], other)
                for key, item in stored.items()
                if (other := _event_in(item)) != lot[key]
            ]
        return unknown, displaced

    def _statement(self, event: AuditEvent, retention_seconds: int) -> dict[str, Any]:
        item = _to_item(event, event.recorded_at + retention_seconds)
        return {
            "Statement": _insert_into(self._table_name, tuple(item)),
            "Parameters": list(item.values()),
        }

    def read(
        self,
        owner: Literal["SessionId", "UserId"],
        name: str,
        *,
        since: int,
        until: int,
        newest_first: bool,
        limit: int,
        after: EventPosition | None,
    ) -> Page:
        """Events of one session (strongly consistent) or of all of a user's (about a second late).

        `since` (inclusive) and `until` (exclusive) bound the time of record, epoch seconds.
        Raises `Unavailable`, or `InvalidField` for a position outside of these bounds.
        """
        first, last = f"{since:010d}", f"{until:010d}"
        query: dict[str, Any] = (
            {"IndexName": "UserIndex"} if owner == "UserId" else {"ConsistentRead": True}
        )
        if after:
            if not first <= after.event_id <= last:
                raise InvalidField("/cursor", "outside of the time asked for")
            # The owner last: a cursor may be forged, and must not lead to another one's events.
            query["ExclusiveStartKey"] = {
                "SessionId": {"S": after.session_id},
                "EventId": {"S": after.event_id},
                owner: {"S": name},
            }
        with translated_errors():
            answer = self._client.query(
                TableName=self._table_name,
                KeyConditionExpression=f"{owner} = :owner AND EventId BETWEEN :first AND :last",
                ExpressionAttributeValues={
                    ":owner": {"S": name},
                    ":first": {"S": first},
                    ":last": {"S": last},
                },
                ScanIndexForward=not newest_first,
                Limit=limit,
                **query,
            )
        key = answer.get("LastEvaluatedKey")
        position = EventPosition(key["SessionId"]["S"], key["EventId"]["S"]) if key else None
        events = [from_item(item) for item in answer["Items"]]
        fitting = _fitting(events)
        if len(fitting) < len(events):
            position = EventPosition(fitting[-1].session_id, fitting[-1].event_id)
        return Page(fitting, position)


def _fitting(events: list[AuditEvent]) -> list[AuditEvent]:
    """The first of `events` that one answer of Lambda can carry, as JSON within JSON."""
    room = _MAX_PAGE_BYTES
    for count, event in enumerate(events):
        room -= len(msgspec.json.encode(msgspec.json.encode(event).decode()))
        if room < 0:
            return events[: max(count, 1)]
    return events


def _key(event: AuditEvent) -> tuple[str, str]:
    return event.session_id, event.event_id


def _event_in(item: Item) -> AuditEvent | None:
    try:
        return from_item(item)
    except (KeyError, TypeError, ValueError):
        return None


@cache
def _insert_into(table_name: str, names: tuple[str, ...]) -> str:
    """PartiQL's text; each type of event has its own few sets of names."""
    members = ", ".join(f"'{name}': ?" for name in names)
    return f'INSERT INTO "{table_name}" VALUE {{{members}}}'


def _to_item(event: AuditEvent, expiration_time: int) -> Item:
    """Attributes that do not apply are left out; `ExpirationTime` is what TTL goes by."""
    item: Item = {"ExpirationTime": {"N": str(expiration_time)}}
    for field, name in _ATTRIBUTES.items():
        value = getattr(event, field)
        kind = type(value)
        if kind is str:
            item[name] = {"S": value}
        elif kind is int:
            item[name] = {"N": str(value)}
        elif kind is list:
            item[name] = {"L": [{"S": each} for each in value]}
    return item


def from_item(item: Item) -> AuditEvent:
    """The event in an item of the table; encoding it gives an item of `GET /events`."""
    facts: dict[str, Any] = {"user_id": None}
    for field, name in _ATTRIBUTES.items():
        match item.get(name):
            case {"S": text}:
                facts[field] = text
            case {"N": number}:
                facts[field] = int(number)
            case {"L": names}:
                facts[field] = [each["S"] for each in names]
    return AuditEvent(**facts)
