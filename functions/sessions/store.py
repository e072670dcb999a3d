"""The `Sessions` table: every change of a session is one conditional request."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from msgspec import Meta, Struct

from sessions.document import to_attributes
from sessions.dynamodb import Attribute, ConditionFailed, Item, refusals
from sessions.errors import SessionNotFound, Unavailable, VersionMismatch
from sessions.session import Session

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Both halves are needed: `:now` can be seconds older than the write, and a renewal that began
# before a revocation must not undo it. An absent item fails both, so no update makes a ghost.
_LIVE = "ExpirationTime > :now AND attribute_not_exists(RevokedAt)"

# What a list shows; the data and the token hashes stay in the table.
_SUMMARY = (
    "SessionId, UserId, ExpirationTime, AbsoluteExpirationTime, TtlSeconds, CreatedAt, RenewedAt,"
    " Version, Client, RevokedAt"
)
_LIST_ROUNDS = 4
_BATCH_GET_TRIES = 5


class Writer(Struct, frozen=True):
    """Who writes, and in which request; both go into the item and so into the audit trail."""

    actor: str
    request_id: str

    @property
    def attributes(self) -> Item:
        return {"Actor": {"S": self.actor}, "RequestId": {"S": self.request_id}}


class Position(NamedTuple):
    """Where a user's list goes on: behind this entry of `UserIndex`."""

    created_at: Annotated[int, Meta(ge=0, lt=10**10)]
    session_id: Annotated[str, Meta(min_length=1, max_length=2048)]


class Page(NamedTuple):
    """Live sessions, newest first; `position` is None at the end, and only there."""

    sessions: list[Session]
    position: Position | None


class SessionStore:
    """Sessions in DynamoDB. Times are Unix epoch seconds.

    Any method raises `Unavailable` when DynamoDB throttles or does not answer in time. Those that
    name a session raise `SessionNotFound` when it is absent, expired or revoked.

    A write whose answer was lost is sent again by the SDK and then finds its own request id in
    the item: it has happened, and is answered from there.
    """

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def create(self, session: Session, *, by: Writer) -> Session:
        """Store a new session. Raises `DocumentTooLarge`, `InvalidField`."""
        try:
            with refusals():
                self._client.put_item(
                    TableName=self._table_name,
                    Item=session.to_item() | by.attributes,
                    ConditionExpression="attribute_not_exists(SessionId)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ConditionFailed as failed:
            if not _is_own(failed.item, by):
                raise
        return session

    def get(self, session_id: str, *, now: int) -> Session:
        """Read a session, strongly consistent, without extending it."""
        with refusals():
            answer = self._client.get_item(
                TableName=self._table_name,
                Key={"SessionId": {"S": session_id}},
                ConsistentRead=True,
            )
        return _live(answer.get("Item", {}), now)

    def replace(
        self,
        session_id: str,
        data: Mapping[str, Any],
        *,
        versions: Collection[int] | None,
        now: int,
        by: Writer,
    ) -> Session:
        """Put `data` in place of the session's document; otherwise like `change`."""
        return self._write_data(
            session_id,
            "#data = :data, Version = Version + :one",
            names={},
            values={":data": {"M": to_attributes(data, "/data")}},
            versions=versions,
            now=now,
            by=by,
        )

    def change(
        self,
        session_id: str,
        changes: Mapping[str, Any],
        *,
        versions: Collection[int] | None,
        now: int,
        by: Writer,
    ) -> Session:
        """Set top-level keys of the document, or remove those whose value is None.

        `versions`, unless None, are those the caller accepts: else `VersionMismatch`.
        Raises `InvalidField`, `DocumentTooLarge`.
        """
        names, values, sets, removals = {}, {}, ["Version = Version + :one"], []
        for i, (key, attribute) in enumerate(to_attributes(changes, "/data").items()):
            names[f"#k{i}"] = key
            if attribute == {"NULL": True}:
                removals.append(f"#data.#k{i}")
            else:
                values[f":v{i}"] = attribute
                sets.append(f"#data.#k{i} = :v{i}")
        assignments = ", ".join(sets)
        if removals:
            assignments += f" REMOVE {', '.join(removals)}"
        return self._write_data(
            session_id, assignments, names=names, values=values, versions=versions, now=now, by=by
        )

    def _write_data(
        self,
        session_id: str,
        assignments: str,
        *,
        names: dict[str, str],
        values: Item,
        versions: Collection[int] | None,
        now: int,
        by: Writer,
    ) -> Session:
        condition = ""
        if versions is not None:
            accepted = {f":accepted{i}": {"N": str(v)} for i, v in enumerate(versions)}
            condition = f" AND Version IN ({', '.join(accepted)})"
            values = values | accepted
        try:
            item = self._update(
                session_id,
                assignments,
                condition=condition,
                names=names | {"#data": "Data"},
                values=values | {":one": {"N": "1"}},
                now=now,
                by=by,
            )
        except ConditionFailed as failed:
            raise VersionMismatch from failed
        return _live(item, now)

    def renew(self, session_id: str, *, now: int, by: Writer) -> Session:
        """Push the expiration time to a full window from `now`, or to the absolute end.

        DynamoDB can't take the smaller of two values, so a renewal within the last window
        before the absolute end takes a second request.
        """
        try:
            item = self._update(
                session_id,
                "ExpirationTime = :now + TtlSeconds, RenewedAt = :now",
                condition=" AND RenewableUntil >= :now",
                now=now,
                by=by,
            )
        except ConditionFailed:
            item = self._update(
                session_id,
                "ExpirationTime = AbsoluteExpirationTime, RenewedAt = :now",
                now=now,
                by=by,
            )
        return _live(item, now)

    def revoke(self, session_id: str, *, reason: str, now: int, by: Writer) -> None:
        """End a live session, for good and at once.

        An update rather than a delete: it costs half, and its stream record says who ended the
        session and why. The user's data and the token hashes go now, TTL takes the rest.
        """
        self._update(
            session_id,
            "ExpirationTime = :now, RevokedAt = :now, RevokedReason = :reason"
            " REMOVE #data, Client, TokenHash, PreviousTokenHash, PreviousTokenUntil",
            names={"#data": "Data"},
            values={":reason": {"S": reason}},
            now=now,
            by=by,
        )

    def _update(
        self,
        session_id: str,
        assignments: str,
        *,
        condition: str = "",
        names: Mapping[str, str] | None = None,
        values: Mapping[str, Attribute] | None = None,
        now: int,
        by: Writer,
    ) -> Item:
        """Change a live session in one request and answer its new item.

        Raises `SessionNotFound`, or `ConditionFailed` where the session is live but `condition`
        does not hold.
        """
        try:
            with refusals():
                answer = self._client.update_item(
                    TableName=self._table_name,
                    Key={"SessionId": {"S": session_id}},
                    UpdateExpression=f"SET Actor = :actor, RequestId = :request_id, {assignments}",
                    ConditionExpression=f"{_LIVE} AND RequestId <> :request_id{condition}",
                    ExpressionAttributeValues={
                        ":now": {"N": str(now)},
                        ":actor": {"S": by.actor},
                        ":request_id": {"S": by.request_id},
                        **(values or {}),
                    },
                    **({"ExpressionAttributeNames": names} if names else {}),  # type: ignore[arg-type]
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ConditionFailed as failed:
            if _is_own(failed.item, by):
                return failed.item
            _live(failed.item, now)
            raise
        return answer["Attributes"]

    def list_live(self, user_id: str, *, limit: int, after: Position | None, now: int) -> Page:
        """Live sessions of a user, newest first, at most `limit`, without their data.

        The index also names dead sessions that TTL has yet to remove. A page they leave short
        is filled up for a few rounds; then it stays short, with a position to go on from.
        """
        sessions: list[Session] = []
        for _ in range(_LIST_ROUNDS):
            ids, after = self._index_page(user_id, limit - len(sessions), after)
            items = {item["SessionId"]["S"]: item for item in self._batch_get(ids)}
            found = (Session.from_item(items.get(i, {}), now, with_data=False) for i in ids)
            sessions += [session for session in found if session]
            if after is None or len(sessions) == limit:
                break
        return Page(sessions, after)

    def _index_page(
        self, user_id: str, limit: int, after: Position | None
    ) -> tuple[list[str], Position | None]:
        start: dict[str, Any] = {}
        if after:
            start["ExclusiveStartKey"] = {
                "UserId": {"S": user_id},
                "CreatedAt": {"N": str(after.created_at)},
                "SessionId": {"S": after.session_id},
            }
        with refusals():
            answer = self._client.query(
                TableName=self._table_name,
                IndexName="UserIndex",
                KeyConditionExpression="UserId = :user",
                ExpressionAttributeValues={":user": {"S": user_id}},
                ScanIndexForward=False,
                Limit=limit,
                **start,
            )
        last = answer.get("LastEvaluatedKey")
        position = Position(int(last["CreatedAt"]["N"]), last["SessionId"]["S"]) if last else None
        return [item["SessionId"]["S"] for item in answer["Items"]], position

    def _batch_get(self, session_ids: list[str]) -> Iterator[Item]:
        """What lists show of these sessions, in any order, strongly consistent."""
        if not session_ids:
            return
        request: Any = {
            self._table_name: {
                "Keys": [{"SessionId": {"S": session_id}} for session_id in session_ids],
                "ProjectionExpression": _SUMMARY,
                "ConsistentRead": True,
            }
        }
        for attempt in range(_BATCH_GET_TRIES):
            with refusals():
                answer = self._client.batch_get_item(RequestItems=request)
            yield from answer["Responses"].get(self._table_name, [])
            request = answer.get("UnprocessedKeys")
            if not request:
                return
            sleep(0.05 * 2**attempt)
        raise Unavailable


def _is_own(item: Item, by: Writer) -> bool:
    return item.get("RequestId") == {"S": by.request_id}


def _live(item: Item, now: int) -> Session:
    session = Session.from_item(item, now)
    if session is None:
        raise SessionNotFound
    return session
