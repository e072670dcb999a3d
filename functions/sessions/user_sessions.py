"""All sessions of a user, found through an index that lags by up to about a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from time import monotonic, sleep
from typing import Annotated, Any

from msgspec import Meta, Struct

from sessions.cursor import Position
from sessions.document import check_number
from sessions.dynamodb import DynamoDB, Item, translated_errors
from sessions.errors import InvalidField, SessionNotFound, Unavailable
from sessions.lifetime import NUMBERS
from sessions.session import Session
from sessions.store import SessionStore
from sessions.table import Writer, is_revocable

# What a list shows; the data and the token hashes stay in the table.
_SUMMARY = ", ".join(("SessionId", "UserId", *NUMBERS, "Client", "LastClient", "RevokedAt"))
# What decides whether there is something to end.
_REVOCABILITY = "SessionId, ExpirationTime, RevokedAt"
# A session may be in the index only now that was created before the first look at it.
_INDEX_LAG_SECONDS = 60
_LIST_ROUNDS = 4
_LIST_SECONDS = 10
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_BATCH = 100
_BATCH_TRIES = 5
_PARALLEL_WRITES = 10


class SessionPosition(Position, frozen=True):
    """Where a user's list goes on: behind this entry of `UserIndex`.

    `created_at` is the number as DynamoDB spells it, since the index also has the entries of
    malformed items.
    """

    created_at: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.created_at, "/cursor")


class Page(Struct, frozen=True):
    """Live sessions, newest first; `position` is None at the end, and only there."""

    sessions: list[Session]
    position: SessionPosition | None


class SignOutPosition(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where signing out goes on: behind the last page that is done, None if there is none.

    It looks twice. The second time, at what was created from `began_at` minus a minute on: the
    index may not have shown it the first time.
    """

    began_at: Annotated[int, Meta(ge=0, lt=10**10)]
    second_look: bool
    after: SessionPosition | None

    @property
    def since(self) -> int:
        """The earliest creation that it looks for."""
        return max(0, self.began_at - _INDEX_LAG_SECONDS) if self.second_look else 0


class Ended(Struct, frozen=True):
    """How many sessions were revoked; `position` is where to go on, None if that was all."""

    revoked: int
    position: SignOutPosition | None


class _OutOfTime(Exception):
    """What remains is for the caller's next try."""


def _check(deadline: float) -> None:
    if monotonic() > deadline:
        raise _OutOfTime


class UserSessions:
    """A user's sessions. Any method raises `Unavailable` when DynamoDB throttles or is slow.

    `clock` and `not_before` are those of the `SessionStore`.
    """

    def __init__(
        self,
        client: DynamoDB,
        table_name: str,
        store: SessionStore,
        *,
        clock: Callable[[], int],
        not_before: int,
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._store = store
        self._clock = clock
        self._not_before = not_before

    def list_live(self, user_id: str, *, limit: int, after: SessionPosition | None) -> Page:
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
            items, now = {item["SessionId"]["S"]: item for item in found}, self._clock()
            read = (
                Session.from_item(items.get(i, {}), now, self._not_before, with_data=False)
                for i in ids
            )
            sessions += [session for session in read if session]
            if after is None or len(sessions) == limit or monotonic() > deadline:
                break
        return Page(sessions, after)

    def end_all(
        self,
        user_id: str,
        *,
        keep: str | None,
        reason: str,
        seconds: float,
        after: SignOutPosition | None,
        by: Writer,
    ) -> Ended:
        """Revoke all sessions of a user but one; no request begins after `seconds`.

        Raises `InvalidField` for a position that no call came to. Once something is done, trouble
        with DynamoDB is no error: the caller goes on from the position.
        """
        deadline = monotonic() + seconds
        start = after or SignOutPosition(self._clock(), second_look=False, after=None)
        position = start
        ended: list[str] = []

        def end(session_id: str) -> None:
            _check(deadline)
            with suppress(SessionNotFound):
                self._store.revoke(session_id, reason=reason, by=by)
                ended.append(session_id)

        try:
            with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
                while True:
                    _check(deadline)
                    ids, last = self._index_page(
                        user_id, _BATCH, position.after, since=position.since
                    )
                    items = self._batch_get(ids, _REVOCABILITY, deadline)
                    found = [i["SessionId"]["S"] for i in items if is_revocable(i, self._clock())]
                    # The list is what raises here whatever was raised in a thread.
                    list(pool.map(end, [each for each in found if each != keep]))
                    if last is None and position.second_look:
                        return Ended(len(ended), None)
                    position = SignOutPosition(
                        position.began_at, position.second_look or last is None, last
                    )
        except (_OutOfTime, Unavailable) as trouble:
            if isinstance(trouble, Unavailable) and not ended and position == start:
                raise
            return Ended(len(ended), position)

    def _index_page(
        self, user_id: str, limit: int, after: SessionPosition | None, *, since: int = 0
    ) -> tuple[list[str], SessionPosition | None]:
        """Ids of a user's sessions that were created from `since` on, newest first."""
        start: dict[str, Any] = {}
        if after:
            if Decimal(after.created_at) < since:
                raise InvalidField("/cursor", "outside of the time that it is about")
            start["ExclusiveStartKey"] = {
                "UserId": {"S": user_id},
                "CreatedAt": {"N": after.created_at},
                "SessionId": {"S": after.session_id},
            }
        with translated_errors():
            answer = self._client.query(
                TableName=self._table_name,
                IndexName="UserIndex",
                KeyConditionExpression="UserId = :user AND CreatedAt >= :since",
                ExpressionAttributeValues={":user": {"S": user_id}, ":since": {"N": str(since)}},
                ScanIndexForward=False,
                Limit=limit,
                **start,
            )
        last = answer.get("LastEvaluatedKey")
        position = SessionPosition(last["SessionId"]["S"], last["CreatedAt"]["N"]) if last else None
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
