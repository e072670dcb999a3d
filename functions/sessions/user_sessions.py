"""All sessions of a user, read through an index that lags by up to about a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta, Struct

import clock
from dynamodb import batches
from dynamodb.batches import KEYS_PER_REQUEST, OutOfTime, check_time
from dynamodb.errors import DynamoDBError
from sessions.cursor import Position
from sessions.document import check_number
from sessions.dynamodb import DynamoDB, Item, translated_errors
from sessions.errors import InvalidField, SessionNotFound, SessionsError, Unavailable
from sessions.lifetime import NUMBERS
from sessions.session import Session
from sessions.store import SessionStore
from sessions.table import Writer, is_revocable

# The attributes that a list shows. The data and the token hashes are not read.
_SUMMARY = ", ".join(
    (
        *("SessionId", "UserId", *NUMBERS, "Client", "LastClient", "RevokedAt"),
        *("AuthenticatedAt", "Methods", "Impersonator"),
    )
)
# The attributes that decide whether a session counts towards a limit.
_LIVENESS = ", ".join(("SessionId", *NUMBERS, "RevokedAt", "Impersonator"))
# The attributes that decide whether a session can be revoked.
_REVOCABILITY = "SessionId, ExpirationTime, RevokedAt"
# A session that was created within this time before the first look may not be in the index yet.
_INDEX_LAG_SECONDS = 60
_BATCH = KEYS_PER_REQUEST
_LIST_ROUNDS = 4
_LIST_SECONDS = 10
_LIMIT_SECONDS = 2
_PARALLEL_WRITES = 10


class SessionPosition(Position, frozen=True):
    """The place where a user's list continues: after this entry of `UserIndex`.

    `created_at` is the number in DynamoDB's spelling, because the index also has entries of
    malformed items.
    """

    created_at: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.created_at, "/cursor")


class Page(Struct, frozen=True):
    """Live sessions, newest first. `position` is None if and only if the list ends here."""

    sessions: list[Session]
    position: SessionPosition | None


class SignOutPosition(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The place where a sign-out continues: after the page `after`, or at the start if it is None.

    A sign-out looks at the index twice. The second look covers the sessions that were created since
    a minute before `began_at`, because the index may not have shown them the first time.
    """

    began_at: Annotated[int, Meta(ge=0, lt=10**10)]
    second_look: bool
    after: SessionPosition | None

    @property
    def since(self) -> int:
        """The earliest time of creation that this look covers."""
        return max(0, self.began_at - _INDEX_LAG_SECONDS) if self.second_look else 0


class SignOut(Struct, frozen=True):
    """The number of revoked sessions. `position` is where to continue, or None if that was all."""

    revoked: int
    position: SignOutPosition | None


class UserSessions:
    """The sessions of a user. All methods raise `Unavailable` when DynamoDB throttles or is slow.

    `not_before` is that of the `SessionStore`.
    """

    def __init__(
        self,
        client: DynamoDB,
        table_name: str,
        store: SessionStore,
        *,
        not_before: int,
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._store = store
        self._not_before = not_before

    def list_live(self, user_id: str, *, limit: int, after: SessionPosition | None) -> Page:
        """Return at most `limit` live sessions of a user, newest first, without their data.

        The index also has entries of dead sessions that TTL has yet to remove. A page that is short
        because of them is filled up for a few rounds or seconds. After that it stays short, and has
        a position to continue from.
        """
        deadline = clock.monotonic() + _LIST_SECONDS
        sessions: list[Session] = []
        for _ in range(_LIST_ROUNDS):
            ids, after = self._index_page(user_id, limit - len(sessions), after)
            try:
                items = list(self._batch_get(ids, _SUMMARY, deadline))
            except OutOfTime as late:
                raise Unavailable("out of time") from late
            by_id, now = {item["SessionId"]["S"]: item for item in items}, clock.now()
            candidates = (
                Session.from_item(by_id.get(session_id, {}), now, self._not_before, with_data=False)
                for session_id in ids
            )
            sessions += [session for session in candidates if session]
            if after is None or len(sessions) == limit or clock.monotonic() > deadline:
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
    ) -> SignOut:
        """Revoke all sessions of a user except `keep`. No request begins after `seconds`.

        Raises `InvalidField` for a position that no call has returned. After the first progress, an
        outage of DynamoDB is not raised: the caller continues from the returned position.
        """
        deadline = clock.monotonic() + seconds
        start = after or SignOutPosition(clock.now(), second_look=False, after=None)
        position = start
        revoked: list[str] = []
        end = self._ending(revoked, reason=reason, deadline=deadline, by=by)
        try:
            with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
                while True:
                    check_time(deadline)
                    ids, last = self._index_page(
                        user_id, _BATCH, position.after, since=position.since
                    )
                    items = self._batch_get(ids, _REVOCABILITY, deadline)
                    live = [i["SessionId"]["S"] for i in items if is_revocable(i, clock.now())]
                    # Building the list raises the errors of the threads here.
                    list(pool.map(end, [session_id for session_id in live if session_id != keep]))
                    if last is None and position.second_look:
                        return SignOut(len(revoked), None)
                    position = SignOutPosition(
                        position.began_at, position.second_look or last is None, last
                    )
        except (OutOfTime, Unavailable) as trouble:
            if isinstance(trouble, Unavailable) and not revoked and position == start:
                raise
            return SignOut(len(revoked), position)

    def enforce_limit(
        self, user_id: str, *, most: int, new: Session, by: Writer
    ) -> Exception | None:
        """Revoke the sessions of a user that have at least `most` newer live ones.

        `new` is the session that has just been created. It counts even if the index does not show
        it yet. It is never revoked, so one session more than `most` is left if others rank before
        it. Sessions rank by their time of creation, then by their id. Sessions in which somebody
        else acts as the user do not count and are not revoked.

        No request begins after two seconds. Returns the failure that left sessions over, or None.
        The next creation revokes them.
        """
        deadline = clock.monotonic() + _LIMIT_SECONDS
        end = self._ending([], reason="session_limit", deadline=deadline, by=by)
        newest, after = {(new.created_at, new.session_id)}, None
        try:
            with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
                while True:
                    check_time(deadline)
                    ids, after = self._index_page(user_id, _BATCH, after)
                    items, now = list(self._batch_get(ids, _LIVENESS, deadline)), clock.now()
                    sessions = (
                        Session.from_item(item, now, self._not_before, with_data=False)
                        for item in items
                        if "Impersonator" not in item
                    )
                    live = {(s.created_at, s.session_id) for s in sessions if s}
                    ranking = sorted(newest | live, reverse=True)
                    newest = set(ranking[:most])
                    excess = [session_id for _, session_id in ranking[most:]]
                    # Building the list raises the errors of the threads here.
                    list(pool.map(end, [id for id in excess if id != new.session_id]))
                    if after is None:
                        return None
        except (OutOfTime, SessionsError, DynamoDBError) as failure:
            return failure

    def _ending(
        self, revoked: list[str], *, reason: str, deadline: float, by: Writer
    ) -> Callable[[str], None]:
        """Return the function that revokes a session in time, and adds its id to `revoked`."""

        def end(session_id: str) -> None:
            check_time(deadline)
            with suppress(SessionNotFound):
                self._store.revoke(session_id, reason=reason, by=by)
                revoked.append(session_id)

        return end

    def _index_page(
        self, user_id: str, limit: int, after: SessionPosition | None, *, since: int = 0
    ) -> tuple[list[str], SessionPosition | None]:
        """Return ids of a user's sessions that were created at `since` or later, newest first."""
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
        """Read these attributes of the sessions with strong consistency, in any order."""
        with translated_errors():
            yield from batches.read(
                self._client,
                self._table_name,
                [{"SessionId": {"S": session_id}} for session_id in session_ids],
                attributes=attributes,
                deadline=deadline,
            )
