"""The `SessionAudit` table, to which events are added and from which they are read."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

import clock
from audit.event import AuditEvent
from dynamodb import batches
from dynamodb.batches import KEYS_PER_REQUEST
from dynamodb.errors import DynamoDBError
from sessions.cursor import Position
from sessions.dynamodb import DynamoDB, Item, translated_errors
from sessions.errors import InvalidField

# The name of a user or a caller may be any text, and a character may take seven bytes in an answer.
# Lambda's limit for an answer is 6 MB:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_MAX_PAGE_BYTES = 5 * 1024 * 1024

# {"ttl_lag_seconds": "TtlLagSeconds", …}
_ATTRIBUTES = {
    field: "".join(word.capitalize() for word in field.split("_"))
    for field in AuditEvent.__struct_fields__
}


class EventPosition(Position, frozen=True):
    """The place where a trail continues: after this event."""

    event_id: Annotated[str, Meta(pattern=r"^[0-9]{10}#[0-9]{40}\Z")]


class Failures(Struct, frozen=True):
    """Events that could not be added to the trail.

    A retry can fix `temporary` failures, but not `permanent` ones. Another item has the key of each
    of the `displaced` events. They are paired with the event in this item, or with None if the item
    is not an event.
    """

    temporary: list[AuditEvent]
    permanent: list[AuditEvent]
    displaced: list[tuple[AuditEvent, AuditEvent | None]]


class Page(Struct, frozen=True):
    """Events in the requested order. `position` is None if and only if the trail ends here."""

    events: list[AuditEvent]
    position: EventPosition | None


class AuditTrail:
    """Audit events in DynamoDB."""

    def __init__(self, client: DynamoDB, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def append(
        self, events: Iterable[AuditEvent], *, retention_seconds: int, deadline: float
    ) -> Failures:
        """Add events with distinct keys. They are kept for `retention_seconds` after their time of
        record.

        An event that is already in the trail counts as added, so a repeated delivery changes
        nothing. If a key is taken, the table is read to find out whether the same event has it.
        The write is a PartiQL INSERT, because IAM can allow no other write without also allowing
        overwrites. No request begins after `deadline`, by `clock.monotonic()`.
        """
        failures = batches.execute(
            self._client,
            events,
            lambda event: self._statement(event, retention_seconds),
            deadline=deadline,
        )
        unread, displaced = self._compare(failures.condition_failed, deadline)
        return Failures(failures.temporary + unread, failures.permanent, displaced)

    def _compare(
        self, events: list[AuditEvent], deadline: float
    ) -> tuple[list[AuditEvent], list[tuple[AuditEvent, AuditEvent | None]]]:
        """Return the events whose keys could not be read, and those whose keys hold other events.

        A key can hold another event if somebody has called the function with a forged record before
        the real one came.
        """
        unread = list[AuditEvent]()
        displaced = list[tuple[AuditEvent, AuditEvent | None]]()
        for start in range(0, len(events), KEYS_PER_REQUEST):
            batch = {_key(event): event for event in events[start : start + KEYS_PER_REQUEST]}
            keys = [
                {"SessionId": {"S": session_id}, "EventId": {"S": event_id}}
                for session_id, event_id in batch
            ]
            request = {self._table_name: {"Keys": keys, "ConsistentRead": True}}
            items: list[Item] = []
            if clock.monotonic() <= deadline:
                with suppress(DynamoDBError):
                    answer = self._client.batch_get_item(RequestItems=request)
                    items = answer["Responses"].get(self._table_name, [])
            stored = {(item["SessionId"]["S"], item["EventId"]["S"]): item for item in items}
            unread += [batch[key] for key in batch.keys() - stored.keys()]
            displaced += [
                (batch[key], other)
                for key, item in stored.items()
                if (other := _event_in(item)) != batch[key]
            ]
        return unread, displaced

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
        """Return events of one session or of all sessions of a user.

        A session's events are read with strong consistency. The index of users lags by about a
        second.

        `since` (inclusive) and `until` (exclusive) bound the time of record, in epoch seconds.
        Raises `Unavailable`, and `InvalidField` for a position outside of these bounds.
        """
        first, last = f"{since:010d}", f"{until:010d}"
        query: dict[str, Any] = (
            {"IndexName": "UserIndex"} if owner == "UserId" else {"ConsistentRead": True}
        )
        if after:
            if not first <= after.event_id <= last:
                raise InvalidField("/cursor", "outside of the time asked for")
            # The owner is set last, so that a forged cursor can't lead to somebody else's events.
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
    """Return the first events that fit into an answer of Lambda, in which they are nested JSON."""
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
    """Return the text of the statement. It is cached because there are few sets of names."""
    members = ", ".join(f"'{name}': ?" for name in names)
    return f'INSERT INTO "{table_name}" VALUE {{{members}}}'


def _to_item(event: AuditEvent, expiration_time: int) -> Item:
    """Attributes that do not apply are left out. TTL deletes the item after `ExpirationTime`."""
    item: Item = {"ExpirationTime": {"N": str(expiration_time)}}
    for field, name in _ATTRIBUTES.items():
        value = getattr(event, field)
        kind = type(value)
        if kind is str:
            item[name] = {"S": value}
        elif kind is int:
            item[name] = {"N": str(value)}
        elif kind is list:
            item[name] = {"L": [{"S": text} for text in value]}
        elif kind is dict:
            item[name] = {"M": {member: {"S": text} for member, text in value.items()}}
    return item


def from_item(item: Item) -> AuditEvent:
    """Return the event in an item of the table."""
    facts: dict[str, Any] = {"user_id": None}
    for field, name in _ATTRIBUTES.items():
        match item.get(name):
            case {"S": text}:
                facts[field] = text
            case {"N": number}:
                facts[field] = int(number)
            case {"L": names}:
                facts[field] = [text["S"] for text in names]
            case {"M": members}:
                facts[field] = {member: text["S"] for member, text in members.items()}
    return AuditEvent(**facts)
