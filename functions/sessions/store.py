"""The operations on one session: each is one request to DynamoDB, each write conditional."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from dynamodb.errors import DynamoDBError
from sessions.document import from_attributes, to_attributes
from sessions.dynamodb import Attribute, ConditionFailed, Item, translated_errors
from sessions.errors import (
    DocumentTooLarge,
    InvalidToken,
    NotAnonymous,
    RotationInGrace,
    SessionExists,
    SessionNotFound,
    SessionsError,
    Unavailable,
    VersionMismatch,
)
from sessions.lifetime import expiry, number
from sessions.rotation import Rotation
from sessions.session import Session, last_client
from sessions.table import Proof, SessionTable, Update, Writer, as_read
from sessions.token import Hashes, Token, Verdict, judge

# Others may come between the requests of a renewal, again and again.
_RENEWAL_TRIES = 4


class Verified(NamedTuple):
    """The session that a token proves; `failure` is why a write that was due did not happen: a
    renewal, or that the token has been used for the first time.
    """

    session: Session
    failure: Exception | None


class SessionStore(SessionTable):
    """Sessions in DynamoDB.

    Methods that name a session raise `SessionNotFound` when it is absent, expired or revoked.
    """

    def create(self, session: Session, hashes: Hashes, *, by: Writer) -> Session:
        """Store a new session, or return the one that a call with the same hashes has stored.

        Raises `SessionExists`, `DocumentTooLarge`, `InvalidField`.
        """
        token = {"TokenHash": {"B": hashes.secret}, "FamilyHash": {"B": hashes.family}}
        new = session.to_item() | token | by.attributes
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
            verdict = judge(hashes, item, now, self._not_before)
            if not verdict.is_valid or item.get("UserId") != new.get("UserId"):
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

    def inspect(self, token: Token) -> Session:
        """The session whose newest token this is. Raises `InvalidToken` for any other token.

        Nothing is written: the session is not renewed, and a token that is used again ends nothing.
        """
        item, now = self._read(token.session_id), self._clock()
        verdict = judge(token.hashes, item, now, self._not_before)
        session = Session.from_item(item, now, self._not_before)
        if verdict is not Verdict.NEWEST or session is None:
            raise InvalidToken
        return session

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
        renewal stores `client`, if there is any, as the session's last one. The first use of a
        rotated token is a write as well. If a write fails, the token is still proven.
        """
        proof = self.prove(token, by=by)
        try:
            session = self._require_live(proof.item, proof.now)
        except SessionNotFound as malformed:
            raise InvalidToken from malformed
        is_due = renew and _is_renewal_due(session, renewal_fraction, proof.now)
        if not is_due and not proof.is_first_use:
            return Verified(session, None)
        return self._verify_and_write(proof, session, client if is_due else None, by)

    def _verify_and_write(
        self, proof: Proof, session: Session, client: Mapping[str, str] | None, by: Writer
    ) -> Verified:
        """Write that the token has been seen. Unless `client` is None, renew the session as well.

        The token must still prove the session: it may have been rotated away since the read.
        """
        now, renewal = self._clock(), None
        if client is not None:
            full = _is_full(proof.item, now)
            renewal = _renewal(now, full=full) | as_read(proof.item, "TtlSeconds")
            if client:
                renewal |= Update(
                    sets=["LastClient = :client"], values={":client": last_client(client)}
                )
        try:
            item = self.use(proof, renewal, now=now, by=by)
            return Verified(self._require_live(item, now), None)
        except SessionNotFound as ended:
            raise InvalidToken from ended
        except InvalidToken:
            raise
        except (SessionsError, DynamoDBError) as failure:
            if client and isinstance(failure, DocumentTooLarge):
                # A session must not end because there is no room in its item for who uses it.
                return self._verify_and_write(proof, session, {}, by)
            # The write may have landed, so that the session lives on: nobody knows.
            if session.expires_at <= self._clock():
                raise Unavailable("expired while its renewal failed") from failure
            return Verified(session, failure)

    def rotate(self, session_id: str, rotation: Rotation, *, by: Writer) -> Session:
        """Give a session a new token.

        Raises `InvalidToken` for a presented token that is not good, and ends nothing. Raises
        `RotationInGrace` if another request has just rotated, or, for a rotation that presents no
        token, while the newest one is unseen or a grace period runs; with `grace_seconds` 0 such a
        rotation goes through all the same. Raises `NoToken` for a session that has none.

        The same hash again is the same rotation. Raises `TokenSuperseded` for a hash that was the
        session's before another rotation.
        """

        def write(update: Update, now: int) -> Session:
            item = self._update(
                session_id,
                update,
                shows=lambda item: item.get("TokenHash") == {"B": rotation.hashes.secret},
                now=now,
                by=by,
            )
            return self._require_live(item, now)

        def made_before(item: Item, now: int) -> Session | None:
            session = self._require_live(item, now)
            return session if rotation.is_made(item, now, self._not_before) else None

        now = self._clock()
        try:
            return write(rotation.first_try(now), now)
        except ConditionFailed as failed:
            item, now = failed.item, self._clock()
            if session := made_before(item, now):
                return session
            update = rotation.second_try(item, now, self._not_before)
        try:
            return write(update, now)
        except ConditionFailed as overtaken:
            if session := made_before(overtaken.item, self._clock()):
                return session
            raise RotationInGrace from overtaken

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
            Update(sets=["#data = :data"], values={":data": {"M": document}}),
            shows=lambda stored: stored == from_attributes(document),
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
        names, values, sets, removes = {}, {}, [], []
        attributes = to_attributes(changes, "/data")
        for i, (key, attribute) in enumerate(attributes.items()):
            names[f"#k{i}"] = key
            if attribute == {"NULL": True}:
                removes.append(f"#data.#k{i}")
            else:
                values[f":v{i}"] = attribute
                sets.append(f"#data.#k{i} = :v{i}")
        changed = from_attributes(attributes)
        return self._write_data(
            session_id,
            Update(sets, removes, names=names, values=values),
            shows=lambda data: {key: data.get(key) for key in changed} == changed,
            versions=versions,
            by=by,
        )

    def _write_data(
        self,
        session_id: str,
        update: Update,
        *,
        shows: Callable[[dict[str, Any]], bool],
        versions: Collection[int] | None,
        by: Writer,
    ) -> Session:
        update |= Update(sets=["Version = Version + :one"], values={":one": _number(1)})
        if versions is not None:
            accepted = {f":accepted{i}": _number(v) for i, v in enumerate(versions)}
            update |= Update(conditions=[f"Version IN ({', '.join(accepted)})"], values=accepted)
        now = self._clock()
        try:
            item = self._update(
                session_id,
                update,
                shows=lambda item: "Data" in item and shows(from_attributes(item["Data"]["M"])),
                now=now,
                by=by,
            )
        except ConditionFailed as failed:
            self._require_live(failed.item, self._clock())
            raise VersionMismatch from failed
        return self._require_live(item, now)

    def renew(
        self,
        session_id: str,
        *,
        ttl_seconds: int | None = None,
        final: bool = False,
        by: Writer,
    ) -> Session:
        """Push the expiration time to a full window from now, or to the absolute end.

        `ttl_seconds` becomes the session's window. Without it, a session that was renewed by
        a later clock stays as it is. Within a window of the absolute end it takes a second request.

        With `final`, which takes `ttl_seconds`, the absolute end moves to the end of this window,
        so that nothing renews the session any more. Only an anonymous session can get such a last
        window: else `NotAnonymous`.
        """
        now, full = self._clock(), True
        for _ in range(_RENEWAL_TRIES):
            try:
                item = self._renew(
                    session_id, now, full=full, ttl_seconds=ttl_seconds, final=final, by=by
                )
            except ConditionFailed as failed:
                now = self._clock()
                session = self._require_live(failed.item, now)
                if final and session.user_id is not None:
                    raise NotAnonymous from failed
                if session.renewed_at > now:
                    if ttl_seconds is None:
                        return session
                    now = session.renewed_at
                full = _is_full(failed.item, now, ttl_seconds)
            else:
                return self._require_live(item, now)
        raise Unavailable("overtaken by other renewals")

    def _renew(
        self,
        session_id: str,
        now: int,
        *,
        full: bool,
        ttl_seconds: int | None,
        final: bool,
        by: Writer,
    ) -> Item:
        renewal = _renewal(now, full=full, ttl_seconds=ttl_seconds, final=final)
        shown = {"RenewedAt": _number(now)}
        if ttl_seconds is not None:
            shown["TtlSeconds"] = _number(ttl_seconds)
        return self._update(
            session_id,
            renewal,
            shows=lambda item: shown.items() <= item.items(),
            now=now,
            by=by,
        )

    def _require_live(self, item: Item, now: int) -> Session:
        session = Session.from_item(item, now, self._not_before)
        if session is None:
            raise SessionNotFound
        return session


def _renewal(
    now: int, *, full: bool, ttl_seconds: int | None = None, final: bool = False
) -> Update:
    """The write that renews to a full window or, unless `full`, to the absolute end.

    Its condition fails if the renewal must end at the other one instead, since DynamoDB can't take
    the smaller of two values. A clock that is behind takes nothing back that a later renewal gave.
    """
    comparison = ">=" if full else "<"
    renewal = Update(sets=["RenewedAt = :now"], conditions=["RenewedAt <= :now"])
    if ttl_seconds is None:
        end = ":now + TtlSeconds"
        renewal |= Update(conditions=[f"RenewableUntil {comparison} :now"])
    else:
        end = ":end"
        last = ":end" if full and final else "AbsoluteExpirationTime"
        renewal |= Update(
            sets=["TtlSeconds = :ttl", f"RenewableUntil = {last} - :ttl"],
            conditions=[f"AbsoluteExpirationTime {comparison} :end"],
            values={":end": _number(now + ttl_seconds), ":ttl": _number(ttl_seconds)},
        )
    if final:
        renewal |= Update(conditions=["attribute_not_exists(UserId)"])
        if full:
            renewal |= Update(sets=["AbsoluteExpirationTime = :end"])
    return renewal | Update(
        sets=[f"ExpirationTime = {end if full else 'AbsoluteExpirationTime'}"],
    )


def _is_full(item: Item, now: int, ttl_seconds: int | None = None) -> bool:
    """Whether a renewal leads to the end of a full window; the rule of the condition that it has to
    meet (`_renewal`).
    """
    if ttl_seconds is None:
        return number(item, "RenewableUntil") >= now
    return number(item, "AbsoluteExpirationTime") >= now + ttl_seconds


def _number(value: int) -> Attribute:
    return {"N": str(value)}


def _is_renewal_due(session: Session, renewal_fraction: float, now: int) -> bool:
    """Whether enough of the window has passed, and there is time left to gain."""
    worn = now - session.renewed_at >= session.ttl_seconds * renewal_fraction
    return worn and session.expires_at < session.absolute_expires_at
