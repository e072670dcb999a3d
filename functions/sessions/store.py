"""One session in the `Sessions` table: each operation is one request, each write conditional."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from dynamodb.errors import DynamoDBError
from sessions.audit_event import expiry
from sessions.document import from_attributes, to_attributes
from sessions.dynamodb import Attribute, ConditionFailed, DynamoDB, Item, translated_errors
from sessions.errors import (
    DocumentTooLarge,
    InvalidToken,
    NoToken,
    RotationInGrace,
    SessionExists,
    SessionNotFound,
    SessionsError,
    TokenSuperseded,
    Unavailable,
    VersionMismatch,
)
from sessions.session import Session, last_client
from sessions.token import Token, Verdict, judge

# The condition of every write but a revocation. All of it is needed: `:now` can be seconds older
# than the write, and a renewal that began before a revocation must not undo it. An absent item
# fails it, so no update makes a ghost.
_LIVE = (
    "ExpirationTime > :now AND attribute_not_exists(RevokedAt) AND CreatedAt >= :not_before"
    " AND attribute_type(#data, :map)"
)
# A revocation also marks a session that has just expired: a renewal may be under way whose `:now`
# is older, by up to 7 s of waiting and 2 s between hosts' clocks, and would bring it back.
_JUST_NOW_SECONDS = 60
_REVOCABLE = "ExpirationTime > :just_now AND attribute_not_exists(RevokedAt)"
# Others may come between the requests of a renewal, again and again.
_RENEWAL_TRIES = 4


class Writer(Struct, frozen=True):
    """Who writes, and in which request; both go into the item and so into the audit trail."""

    actor: str
    request_id: str

    @property
    def attributes(self) -> Item:
        return {"Actor": {"S": self.actor}, "RequestId": {"S": self.request_id}}


class Verified(NamedTuple):
    """The session that a token proves; `failure` is why a renewal that was due did not happen."""

    session: Session
    failure: Exception | None


class SessionStore:
    """Sessions in DynamoDB. Times are Unix epoch seconds; each request has its own `clock()`.

    Sessions that were created before `not_before` count as absent, except to `revoke`.

    Any method raises `Unavailable` when DynamoDB throttles or does not answer in time. Those that
    name a session raise `SessionNotFound` when it is absent, expired or revoked.

    A write whose answer was lost is sent again by the client and then finds its own request id and
    its effect in the item: it has happened, and is answered from there. Should another write have
    come between the two, a change of data is no longer known for one: it is made again, or a
    `VersionMismatch`.
    """

    def __init__(
        self, client: DynamoDB, table_name: str, *, clock: Callable[[], int], not_before: int
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._clock = clock
        self._not_before = not_before

    def create(self, session: Session, token_hash: bytes, *, by: Writer) -> Session:
        """Store a new session, or answer the one that a call with the same hash has stored.

        Raises `SessionExists`, `DocumentTooLarge`, `InvalidField`.
        """
        new = session.to_item() | {"TokenHash": {"B": token_hash}} | by.attributes
        try:
            with translated_errors():
                self._client.put_item(
                    TableName=self._table_name,
                    Item=new,
                    ConditionExpression="attribute_not_exists(SessionId)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ConditionFailed as failed:
            now, item = self._clock(), failed.item
            proven = judge(token_hash, item, now, self._not_before) is Verdict.VALID
            if not proven or item.get("UserId") != new.get("UserId"):
                raise SessionExists from failed
            return self._require_live(item, now)
        # As it is stored, so that its numbers look the same in every answer.
        return replace(session, data=from_attributes(new["Data"]["M"]))

    def get(self, session_id: str) -> Session:
        """Read a session, strongly consistent, without extending it."""
        return self._require_live(self._read(session_id), self._clock())

    def pending_expiry(self, session_id: str, *, record_anonymous: bool) -> dict[str, Any] | None:
        """`type`, `at` and `cause` of the `expired` event that TTL has yet to bring, or None.

        Of an anonymous session only with `record_anonymous`, the setting. Reads the whole item, up
        to 100 read units: DynamoDB bills what it leaves out as well.
        """
        item, now = self._read(session_id), self._clock()
        ended = expiry(item, self._not_before)
        if ended is None or ended["at"] > now or "RevokedAt" in item:
            return None
        if "UserId" not in item and not record_anonymous:
            return None
        return {"type": "expired"} | ended

    def verify(
        self,
        token: Token,
        *,
        renew: bool,
        renewal_fraction: float,
        client: Mapping[str, str],
        by: Writer,
    ) -> Verified:
        """The session that `token` proves. Raises `InvalidToken`, whatever is wrong with it.

        With `renew`, the session is renewed once `renewal_fraction` of its window has passed since
        it last was: a condition can't spare that write, for a failed one is billed as well. The
        renewal stores `client`, if there is any, as the session's last one. If it fails, the token
        has been proven all the same.

        A former token that is used after its grace period ends the session: either the user or
        a thief has the new one, and nobody can tell which.
        """
        item, now = self._read(token.session_id), self._clock()
        verdict = judge(token.hash, item, now, self._not_before)
        try:
            if verdict is Verdict.REUSED:
                self.revoke(token.session_id, reason="token_reuse", by=by)
            if verdict is not Verdict.VALID:
                raise InvalidToken
            session = self._require_live(item, now)
            if renew and _is_renewal_due(session, renewal_fraction, now):
                return self._verify_and_renew(token, session, client, by)
        except SessionNotFound as ended:
            raise InvalidToken from ended
        return Verified(session, None)

    def _verify_and_renew(
        self, token: Token, session: Session, client: Mapping[str, str], by: Writer
    ) -> Verified:
        """Renew if `token` still proves the session: it may have been rotated away since the read.

        That is no theft: whoever holds it began before the rotation.
        """
        now = self._clock()
        full = now + session.ttl_seconds <= session.absolute_expires_at
        try:
            item = self._renew(
                token.session_id,
                now,
                full=full,
                condition=(
                    " AND TtlSeconds = :window AND (TokenHash = :hash"
                    " OR (PreviousTokenHash = :hash AND PreviousTokenUntil > :now))"
                ),
                values={
                    ":window": _number(session.ttl_seconds),
                    ":hash": {"B": token.hash},
                    **({":client": last_client(client)} if client else {}),
                },
                assignments=", LastClient = :client" if client else "",
                by=by,
            )
        except ConditionFailed as failed:
            item, now = failed.item, self._clock()
            if judge(token.hash, item, now, self._not_before) is not Verdict.VALID:
                raise InvalidToken from failed
        except (SessionsError, DynamoDBError) as failure:
            if client and isinstance(failure, DocumentTooLarge):
                # A session must not end because there is no room in its item for who uses it.
                return self._verify_and_renew(token, session, {}, by)
            # It may have landed, so that the session lives on: nobody knows.
            if session.expires_at <= self._clock():
                raise Unavailable("expired while its renewal failed") from failure
            return Verified(session, failure)
        return Verified(self._require_live(item, now), None)

    def rotate(
        self, session_id: str, token_hash: bytes, *, grace_seconds: int, by: Writer
    ) -> Session:
        """Give a session a new token; the former one verifies for `grace_seconds` more.

        The same hash again is the same rotation. Raises `RotationInGrace` while an earlier grace
        period runs, unless `grace_seconds` is 0; `TokenSuperseded` for a hash that was the
        session's; `NoToken` for a session that has none.
        """
        condition = (
            "attribute_exists(TokenHash) AND TokenHash <> :hash"
            " AND (attribute_not_exists(PreviousTokenHash) OR PreviousTokenHash <> :hash)"
        )
        if grace_seconds:
            condition += (
                " AND (attribute_not_exists(PreviousTokenUntil) OR PreviousTokenUntil <= :now)"
            )
        now = self._clock()
        try:
            item = self._update(
                session_id,
                "PreviousTokenHash = TokenHash, PreviousTokenUntil = :until, TokenHash = :hash",
                condition=condition,
                values={":until": _number(now + grace_seconds), ":hash": {"B": token_hash}},
                shows=lambda item: item.get("TokenHash") == {"B": token_hash},
                now=now,
                by=by,
            )
        except ConditionFailed as failed:
            item, now = failed.item, self._clock()
            self._require_live(item, now)
            if judge(token_hash, item, now, self._not_before) is not Verdict.VALID:
                if "TokenHash" not in item:
                    raise NoToken from failed
                if item.get("PreviousTokenHash") == {"B": token_hash}:
                    raise TokenSuperseded from failed
                raise RotationInGrace from failed
        return self._require_live(item, now)

    def replace(
        self,
        session_id: str,
        data: Mapping[str, Any],
        *,
        versions: Collection[int] | None,
        by: Writer,
    ) -> Session:
        """Put `data` in place of the session's document; otherwise like `change`."""
        document = to_attributes(data, "/data")
        return self._write_data(
            session_id,
            "#data = :data, Version = Version + :one",
            names={},
            values={":data": {"M": document}},
            shows=lambda found: found == from_attributes(document),
            versions=versions,
            by=by,
        )

    def change(
        self,
        session_id: str,
        changes: Mapping[str, Any],
        *,
        versions: Collection[int] | None,
        by: Writer,
    ) -> Session:
        """Set top-level keys of the document, or remove those whose value is None.

        `versions`, unless None, are those the caller accepts: else `VersionMismatch`.
        Raises `InvalidField`, `DocumentTooLarge`.
        """
        names, values, sets, removals = {}, {}, ["Version = Version + :one"], []
        attributes = to_attributes(changes, "/data")
        for i, (key, attribute) in enumerate(attributes.items()):
            names[f"#k{i}"] = key
            if attribute == {"NULL": True}:
                removals.append(f"#data.#k{i}")
            else:
                values[f":v{i}"] = attribute
                sets.append(f"#data.#k{i} = :v{i}")
        assignments = ", ".join(sets)
        if removals:
            assignments += f" REMOVE {', '.join(removals)}"
        changed = from_attributes(attributes)
        return self._write_data(
            session_id,
            assignments,
            names=names,
            values=values,
            shows=lambda data: {key: data.get(key) for key in changed} == changed,
            versions=versions,
            by=by,
        )

    def _write_data(
        self,
        session_id: str,
        assignments: str,
        *,
        names: dict[str, str],
        values: Item,
        shows: Callable[[dict[str, Any]], bool],
        versions: Collection[int] | None,
        by: Writer,
    ) -> Session:
        condition = ""
        if versions is not None:
            accepted = {f":accepted{i}": _number(v) for i, v in enumerate(versions)}
            condition = f"Version IN ({', '.join(accepted)})"
            values = values | accepted
        now = self._clock()
        try:
            item = self._update(
                session_id,
                assignments,
                condition=condition,
                names=names,
                values=values | {":one": _number(1)},
                shows=lambda item: "Data" in item and shows(from_attributes(item["Data"]["M"])),
                now=now,
                by=by,
            )
        except ConditionFailed as failed:
            self._require_live(failed.item, self._clock())
            raise VersionMismatch from failed
        return self._require_live(item, now)

    def renew(self, session_id: str, *, ttl_seconds: int | None = None, by: Writer) -> Session:
        """Push the expiration time to a full window from now, or to the absolute end.

        `ttl_seconds` becomes the session's window. Without it, a session that was renewed by
        a later clock stays as it is. Within a window of the absolute end it takes a second request.
        """
        now, full = self._clock(), True
        for _ in range(_RENEWAL_TRIES):
            try:
                item = self._renew(session_id, now, full=full, ttl_seconds=ttl_seconds, by=by)
            except ConditionFailed as failed:
                now = self._clock()
                session = self._require_live(failed.item, now)
                if session.renewed_at > now:
                    if ttl_seconds is None:
                        return session
                    now = session.renewed_at
                full = now + (ttl_seconds or session.ttl_seconds) <= session.absolute_expires_at
            else:
                return self._require_live(item, now)
        raise Unavailable("overtaken by other renewals")

    def _renew(
        self,
        session_id: str,
        now: int,
        *,
        full: bool,
        ttl_seconds: int | None = None,
        condition: str = "",
        values: Mapping[str, Attribute] | None = None,
        assignments: str = "",
        by: Writer,
    ) -> Item:
        """Renew to a full window or, not `full`, to the absolute end; `ConditionFailed` where it is
        to be the other one, since DynamoDB can't take the smaller of two values.

        A clock that is behind takes nothing back that a later renewal gave.
        """
        comparison = ">=" if full else "<"
        if ttl_seconds is None:
            end, fits, window, asked = ":now + TtlSeconds", "RenewableUntil {} :now", "", {}
        else:
            end, fits = ":end", "AbsoluteExpirationTime {} :end"
            window = ", TtlSeconds = :ttl, RenewableUntil = AbsoluteExpirationTime - :ttl"
            asked = {":end": _number(now + ttl_seconds), ":ttl": _number(ttl_seconds)}
        expiration = end if full else "AbsoluteExpirationTime"
        shown = {"RenewedAt": _number(now)} | ({"TtlSeconds": asked[":ttl"]} if asked else {})
        return self._update(
            session_id,
            f"ExpirationTime = {expiration}, RenewedAt = :now{window}{assignments}",
            condition=f"{fits.format(comparison)} AND RenewedAt <= :now{condition}",
            values={**asked, **(values or {})},
            shows=lambda item: shown.items() <= item.items(),
            now=now,
            by=by,
        )

    def revoke(self, session_id: str, *, reason: str, by: Writer) -> None:
        """End a session, for good and at once, even if it has just expired.

        An update rather than a delete: it costs half, and its stream record says who ended the
        session and why. The user's data and the token hashes go now, TTL takes the rest.
        """
        now = self._clock()
        try:
            self._write(
                session_id,
                "ExpirationTime = :now, RevokedAt = :now, RevokedReason = :reason REMOVE #data,"
                " Client, LastClient, TokenHash, PreviousTokenHash, PreviousTokenUntil",
                condition=_REVOCABLE,
                values={
                    ":now": _number(now),
                    ":just_now": _number(now - _JUST_NOW_SECONDS),
                    ":reason": {"S": reason},
                },
                shows=lambda item: "RevokedAt" in item,
                by=by,
            )
        except ConditionFailed as failed:
            raise SessionNotFound from failed

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
        shows: Callable[[Item], bool],
        now: int,
        by: Writer,
    ) -> Item:
        """Change a live session in one request; `_write` says what comes of it."""
        return self._write(
            session_id,
            assignments,
            condition=" AND ".join(filter(None, (_LIVE, condition))),
            names=names,
            values={
                ":now": _number(now),
                ":not_before": _number(self._not_before),
                ":map": {"S": "M"},
                **(values or {}),
            },
            shows=shows,
            by=by,
        )

    def _write(
        self,
        session_id: str,
        assignments: str,
        *,
        condition: str,
        names: Mapping[str, str] | None = None,
        values: Mapping[str, Attribute],
        shows: Callable[[Item], bool],
        by: Writer,
    ) -> Item:
        """Change an item in one request and answer the new one; raises `ConditionFailed`.

        The client may send it twice. The second time, the item has our request id and, as `shows`
        tells, the effect. A request id that somebody used before proves nothing: `Unavailable`.
        """
        try:
            with translated_errors():
                answer = self._client.update_item(
                    TableName=self._table_name,
                    Key={"SessionId": {"S": session_id}},
                    UpdateExpression=f"SET Actor = :actor, RequestId = :request_id, {assignments}",
                    ConditionExpression=f"{condition} AND RequestId <> :request_id",
                    ExpressionAttributeNames={"#data": "Data", **(names or {})},
                    ExpressionAttributeValues={
                        ":actor": {"S": by.actor},
                        ":request_id": {"S": by.request_id},
                        **values,
                    },
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ConditionFailed as failed:
            if failed.item.get("RequestId") != {"S": by.request_id}:
                raise
            if not shows(failed.item):
                raise Unavailable("the request id was used before") from failed
            return failed.item
        attributes: Item = answer["Attributes"]
        return attributes

    def _require_live(self, item: Item, now: int) -> Session:
        session = Session.from_item(item, now, self._not_before)
        if session is None:
            raise SessionNotFound
        return session


def is_revocable(item: Item, now: int) -> bool:
    """Whether `revoke` would find something to end in `item`; the same rule as its condition."""
    expires_at = item.get("ExpirationTime", {}).get("N", "")
    recently = expires_at.isdigit() and int(expires_at) > now - _JUST_NOW_SECONDS
    return recently and "RevokedAt" not in item


def _number(value: int) -> Attribute:
    return {"N": str(value)}


def _is_renewal_due(session: Session, renewal_fraction: float, now: int) -> bool:
    """Whether enough of the window has passed, and there is time left to gain."""
    worn = now - session.renewed_at >= session.ttl_seconds * renewal_fraction
    return worn and session.expires_at < session.absolute_expires_at
