"""All sessions of a user, found through an index that lags by up to about a second."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic, sleep
from typing import Annotated, Any

from msgspec import Meta, Struct

from sessions.cursor import Position
from sessions.dynamodb import DynamoDB, Item, translated_errors
from sessions.errors import SessionNotFound, Unavailable
from sessions.live import is_live
from sessions.session import Session
from sessions.store import SessionStore, Writer

# What a list shows; the data and the token hashes stay in the table.
_SUMMARY = (
    "SessionId, UserId, ExpirationTime, AbsoluteExpirationTime, TtlSeconds, CreatedAt, RenewedAt,"
    " Version, Client, RevokedAt"
)
_LIVENESS = "SessionId, ExpirationTime, RevokedAt"
_LIST_ROUNDS = 4
_LIST_SECONDS = 10
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_BATCH = 100
_BATCH_TRIES = 5
_PARALLEL_WRITES = 10


class SessionPosition(Position, frozen=True):
    """Where a user's list goes on: behind this entry of `UserIndex`."""

    created_at: Annotated[int, Meta(ge=0, lt=10**10)]


class Page(Struct, frozen=True):
    """Live sessions, newest first; `position` is None at the end, and only there."""

    sessions: list[Session]
    position: SessionPosition | None


class Ended(Struct, frozen=True):
    """How many sessions were revoked, and whether that was all there were."""

    revoked: int
    complete: bool


class _OutOfTime(Exception):
    """What remains is for the caller's next try."""


def _check(deadline: float) -> None:
    if monotonic() > deadline:
        raise _OutOfTime


class UserSessions:
    """A user's sessions. Any method raises `Unavailable` when DynamoDB throttles or is slow."""

    def __init__(self, client: DynamoDB, table_name: str, store: SessionStore) -> None:
        self._client = client
        self._table_name = table_name
        self._store = store

    def list_live(
        self, user_id: str, *, limit: int, after: SessionPosition | None, now: int
    ) -> Page:
        """Live sessions of a user, newest first, at most `limit`, without their data.

        The index also names dead sessions that TTL has yet to remove. A page they leave short is
        filled up for a few rounds or seconds; then it stays short, with a position to go on from.
        """
        deadline = monotonic() + _LIST_SECONDS
        sessions: list[Session] = []
        for _ in range(_LIST_ROUNDS):
            ids, after = self._index_page(user_id, limit - len(sessions), after)
            try:
                found = list(self._batch_get(ids, _SUMMARY, deadline))
            except _OutOfTime as late:
                raise Unavailable("out of time") from late
            items = {item["SessionId"]["S"]: item for item in found}
            read = (Session.from_item(items.get(i, {}), now, with_data=False) for i in ids)
            sessions += [session for session in read if session]
            if after is None or len(sessions) == limit or monotonic() > deadline:
                break
        return Page(sessions, after)

    def end_all(
        self,
        user_id: str,
        *,
        but: str | None,
        reason: str,
        seconds: float,
        now: int,
        by: Writer,
    ) -> Ended:
        """Revoke all live sessions of a user but one; no request begins after `seconds`.

        Goes through them a second time if there were any: the index may have lagged behind a
        session that was created a moment before.
        """
        deadline = monotonic() + seconds
        ended: list[str] = []

        def end(session_id: str) -> None:
            _check(deadline)
            with suppress(SessionNotFound):
                self._store.revoke(session_id, reason=reason, now=now, by=by)
                ended.append(session_id)

        try:
            with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
                for _ in range(2):
                    before = len(ended)
                    for ids in self._live_ids(user_id, now, deadline):
                        # The list is what raises here whatever was raised in a thread.
                        list(pool.map(end, [each for each in ids if each != but]))
                    if len(ended) == before:
                        break
        except _OutOfTime:
            return Ended(len(ended), complete=False)
        return Ended(len(ended), complete=True)

    def _live_ids(self, user_id: str, now: int, deadline: float) -> Iterator[list[str]]:
        after: SessionPosition | None = None
        while True:
            _check(deadline)
            ids, after = self._index_page(user_id, _BATCH, after)
            items = self._batch_get(ids, _LIVENESS, deadline)
            yield [item["SessionId"]["S"] for item in items if is_live(item, now)]
            if after is None:
                return

    def _index_page(
        self, user_id: str, limit: int, after: SessionPosition | None
    ) -> tuple[list[str], SessionPosition | None]:
        start: dict[str, Any] = {}
        if after:
            start["ExclusiveStartKey"] = {
                "UserId": {"S": user_id},
                "CreatedAt": {"N": str(after.created_at)},
                "SessionId": {"S": after.session_id},
            }
        with translated_errors():
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
        position = (
            SessionPosition(last["SessionId"]["S"], int(last["CreatedAt"]["N"])) if last else None
        )
        return [item["SessionId"]["S"] for item in answer["Items"]], position

    def _batch_get(
        self, session_ids: list[str], attributes: str, deadline: float
    ) -> Iterator[Item]:
        """These attributes of the sessions, in any order, strongly consistent."""
        if not session_ids:
            return
        request: Any = {
            self._table_name: {
                "Keys": [{"SessionId": {"S": session_id}} for session_id in session_ids],
                "ProjectionExpression": attributes,
                "ConsistentRead": True,
            }
        }
        for attempt in range(_BATCH_TRIES):
            if attempt:
                sleep(0.05 * 2**attempt)
            _check(deadline)
            with translated_errors():
                answer = self._client.batch_get_item(RequestItems=request)
            yield from answer["Responses"].get(self._table_name, [])
            request = answer.get("UnprocessedKeys")
            if not request:
                return
        raise Unavailable("keys left unprocessed")
