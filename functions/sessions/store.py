"""One session in the `Sessions` table: each operation is one request, each write conditional."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct

from sessions.document import to_attributes
from sessions.dynamodb import Attribute, ConditionFailed, DynamoDB, Item, translated_errors
from sessions.errors import (
    InvalidToken,
    NoToken,
    RotationInGrace,
    SessionNotFound,
    Unavailable,
    VersionMismatch,
)
from sessions.session import Session
from sessions.token import Token, Verdict

# Both halves are needed: `:now` can be seconds older than the write, and a renewal that began
# before a revocation must not undo it. An absent item fails both, so no update makes a ghost.
_LIVE = "ExpirationTime > :now AND attribute_not_exists(RevokedAt)"

# A clock that is behind takes nothing back that a later renewal gave.
_FORWARD = "RenewedAt <= :now"
_FULL_WINDOW = "ExpirationTime = :now + TtlSeconds, RenewedAt = :now"
_TO_THE_END = "ExpirationTime = AbsoluteExpirationTime, RenewedAt = :now"


class Writer(Struct, frozen=True):
    """Who writes, and in which request; both go into the item and so into the audit trail."""

    actor: str
    request_id: str

    @property
    def attributes(self) -> Item:
        return {"Actor": {"S": self.actor}, "RequestId": {"S": self.request_id}}


class SessionStore:
    """Sessions in DynamoDB. Times are Unix epoch seconds.

    Any method raises `Unavailable` when DynamoDB throttles or does not answer in time. Those that
    name a session raise `SessionNotFound` when it is absent, expired or revoked.

    A write whose answer was lost is sent again by the SDK and then finds its own request id in
    the item: it has happened, and is answered from there. Should another write have come between
    the two, a change of data is no longer known for one: it is made again, or a `VersionMismatch`.
    """

    def __init__(self, client: DynamoDB, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def create(self, session: Session, token: Token, *, by: Writer) -> None:
        """Store a new session with its token's hash. Raises `DocumentTooLarge`, `InvalidField`."""
        try:
            with translated_errors():
                self._client.put_item(
                    TableName=self._table_name,
                    Item=session.to_item() | {"TokenHash": {"B": token.hash}} | by.attributes,
                    ConditionExpression="attribute_not_exists(SessionId)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ConditionFailed as failed:
            if "RevokedAt" in failed.item:  # a sign-out came before the answer, or a twin's did
                raise Unavailable("ended before its creation was answered") from failed
            # Others may have renewed or rotated since a send whose answer was lost.
            if not _holds(failed.item, token):
                raise

    def get(self, session_id: str, *, now: int) -> Session:
        """Read a session, strongly consistent, without extending it."""
        return _live(self._read(session_id), now)

    def verify(
        self, token: Token, *, renew: bool, renewal_fraction: float, now: int, by: Writer
    ) -> Session:
        """The session that `token` proves. Raises `InvalidToken`, whatever is wrong with it.

        With `renew`, the session is renewed once `renewal_fraction` of its window has passed since
        it last was: a condition can't spare that write, for a failed one is billed as well.

        A former token that is used after its grace period ends the session: either the user or
        a thief has the new one, and nobody can tell which.
        """
        item = self._read(token.session_id)
        verdict = token.verdict(item, now)
        try:
            if verdict is Verdict.REUSED:
                self.revoke(token.session_id, reason="token_reuse", now=now, by=by)
            if verdict is not Verdict.VALID:
                raise InvalidToken
            session = _live(item, now)
            if renew and _is_renewal_due(session, renewal_fraction, now):
                # What decides between the two never changes, so it takes no second request.
                full = now + session.ttl_seconds <= session.absolute_expires_at
                renewal = _FULL_WINDOW if full else _TO_THE_END
                try:
                    item = self._update(
                        token.session_id, renewal, condition=_FORWARD, now=now, by=by
                    )
                except ConditionFailed as failed:
                    item = failed.item
                session = _live(item, now)
        except SessionNotFound as ended:
            raise InvalidToken from ended
        return session

    def rotate(
        self, session_id: str, *, grace_seconds: int, now: int, by: Writer
    ) -> tuple[Session, Token]:
        """Give a session a new token; the former one verifies for `grace_seconds` more.

        Raises `RotationInGrace` while an earlier grace period runs, unless `grace_seconds` is 0;
        `NoToken` for a session that has none.
        """
        token = Token.issue(session_id)
        # Others may have written since a send whose answer was lost, so its hash is what tells.
        condition = (
            "attribute_exists(TokenHash) AND TokenHash <> :hash"
            " AND (attribute_not_exists(PreviousTokenHash) OR PreviousTokenHash <> :hash)"
        )
        if grace_seconds:
            condition += (
                " AND (attribute_not_exists(PreviousTokenUntil) OR PreviousTokenUntil <= :now)"
            )
        try:
            item = self._update(
                session_id,
                "PreviousTokenHash = TokenHash, PreviousTokenUntil = :until, TokenHash = :hash",
                condition=condition,
                values={":until": {"N": str(now + grace_seconds)}, ":hash": {"B": token.hash}},
                now=now,
                by=by,
            )
        except ConditionFailed as failed:
            item = failed.item
            if not _holds(item, token):
                raise (RotationInGrace if "TokenHash" in item else NoToken) from failed
        return _live(item, now), token

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
        condition = "attribute_type(#data, :map)"
        if versions is not None:
            accepted = {f":accepted{i}": {"N": str(v)} for i, v in enumerate(versions)}
            condition += f" AND Version IN ({', '.join(accepted)})"
            values = values | accepted
        try:
            item = self._update(
                session_id,
                assignments,
                condition=condition,
                names=names | {"#data": "Data"},
                values=values | {":one": {"N": "1"}, ":map": {"S": "M"}},
                now=now,
                by=by,
            )
        except ConditionFailed as failed:
            raise VersionMismatch from failed
        return _live(item, now)

    def renew(self, session_id: str, *, now: int, by: Writer) -> Session:
        """Push the expiration time to a full window from `now`, or to the absolute end.

        DynamoDB can't take the smaller of two values, so a renewal within the last window
        before the absolute end takes a second request. One that was renewed by a later clock
        stays as it is.
        """
        try:
            item = self._update(
                session_id,
                _FULL_WINDOW,
                condition=f"RenewableUntil >= :now AND {_FORWARD}",
                now=now,
                by=by,
            )
        except ConditionFailed as failed:
            session = _live(failed.item, now)
            if session.renewed_at > now:
                return session
            item = self._update(session_id, _TO_THE_END, now=now, by=by)
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

    def _read(self, session_id: str) -> Item:
        with translated_errors():
            answer = self._client.get_item(
                TableName=self._table_name,
                Key={"SessionId": {"S": session_id}},
                ConsistentRead=True,
            )
        item: Item = answer.get("Item", {})
        return item

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
        conditions = (_LIVE, "RequestId <> :request_id", condition)
        try:
            with translated_errors():
                answer = self._client.update_item(
                    TableName=self._table_name,
                    Key={"SessionId": {"S": session_id}},
                    UpdateExpression=f"SET Actor = :actor, RequestId = :request_id, {assignments}",
                    ConditionExpression=" AND ".join(filter(None, conditions)),
                    ExpressionAttributeValues={
                        ":now": {"N": str(now)},
                        ":actor": {"S": by.actor},
                        ":request_id": {"S": by.request_id},
                        **(values or {}),
                    },
                    **({"ExpressionAttributeNames": names} if names else {}),
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ConditionFailed as failed:
            if _is_own(failed.item, by):
                return failed.item
            _live(failed.item, now)
            raise
        attributes: Item = answer["Attributes"]
        return attributes


def _is_own(item: Item, by: Writer) -> bool:
    return item.get("RequestId") == {"S": by.request_id}


def _holds(item: Item, token: Token) -> bool:
    return {"B": token.hash} in (item.get("TokenHash"), item.get("PreviousTokenHash"))


def _is_renewal_due(session: Session, renewal_fraction: float, now: int) -> bool:
    """Whether enough of the window has passed, and there is time left to gain."""
    worn = now - session.renewed_at >= session.ttl_seconds * renewal_fraction
    return worn and session.expires_at < session.absolute_expires_at


def _live(item: Item, now: int) -> Session:
    session = Session.from_item(item, now)
    if session is None:
        raise SessionNotFound
    return session
