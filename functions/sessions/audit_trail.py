"""The `SessionAudit` table: events are added and read, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic, sleep
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sessions.audit_event import AuditEvent
from sessions.cursor import Position
from sessions.dynamodb import DynamoDB, Item, translated_errors
from sessions.errors import InvalidField, Unavailable

# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
_STATEMENTS_PER_REQUEST = 25
_TRIES = 4
_PAUSE_SECONDS = 0.1
# Leaves a Lambda function of a minute time for the request under way and its answer.
_APPEND_SECONDS = 30

# {"ttl_lag_seconds": "TtlLagSeconds", …}
_ATTRIBUTES = {
    field: "".join(word.capitalize() for word in field.split("_"))
    for field in AuditEvent.__struct_fields__
}


class EventPosition(Position, frozen=True):
    """Where a trail goes on: behind this event."""

    event_id: Annotated[str, Meta(pattern=r"^[0-9]{10}#[0-9]{40}\Z")]


class Page(Struct, frozen=True):
    """Events in the order asked for; `position` is None at the end, and only there."""

    events: list[AuditEvent]
    position: EventPosition | None


class AuditTrail:
    """Audit events in DynamoDB."""

    def __init__(self, client: DynamoDB, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def append(self, events: Sequence[AuditEvent], *, retention_seconds: int) -> list[AuditEvent]:
        """Add events with distinct keys, to be kept for so long after their time of record.

        Answers those that DynamoDB did not take. An event that is already there counts as taken,
        so a repeated delivery changes nothing. PartiQL's INSERT is the one write that can be
        allowed without overwriting too.
        """
        deadline = monotonic() + _APPEND_SECONDS
        waiting = list(events)
        for attempt in range(_TRIES):
            if attempt:
                sleep(_PAUSE_SECONDS * 2**attempt)
            refused: list[AuditEvent] = []
            for start in range(0, len(waiting), _STATEMENTS_PER_REQUEST):
                batch = waiting[start : start + _STATEMENTS_PER_REQUEST]
                late = monotonic() > deadline
                refused += batch if late else self._insert(batch, retention_seconds)
            waiting = refused
            if not waiting:
                break
        return waiting

    def _insert(self, events: list[AuditEvent], retention_seconds: int) -> list[AuditEvent]:
        statements: Any = [self._statement(event, retention_seconds) for event in events]
        try:
            with translated_errors():
                answer = self._client.batch_execute_statement(Statements=statements)
        except Unavailable:
            return events
        return [
            event
            for event, response in zip(events, answer["Responses"], strict=True)
            if response.get("Error", {}).get("Code", "DuplicateItem") != "DuplicateItem"
        ]

    def _statement(self, event: AuditEvent, retention_seconds: int) -> dict[str, Any]:
        item = _to_item(event, event.recorded_at + retention_seconds)
        members = ", ".join(f"'{name}': ?" for name in item)
        return {
            "Statement": f'INSERT INTO "{self._table_name}" VALUE {{{members}}}',
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
        return Page([_from_item(item) for item in answer["Items"]], position)


def _to_item(event: AuditEvent, expiration_time: int) -> Item:
    """Attributes that do not apply are left out; `ExpirationTime` is what TTL goes by."""
    item: Item = {"ExpirationTime": {"N": str(expiration_time)}}
    for field, name in _ATTRIBUTES.items():
        value = getattr(event, field)
        if isinstance(value, str):
            item[name] = {"S": value}
        elif isinstance(value, int):
            item[name] = {"N": str(value)}
        elif isinstance(value, list):
            item[name] = {"L": [{"S": each} for each in value]}
    return item


def _from_item(item: Item) -> AuditEvent:
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
