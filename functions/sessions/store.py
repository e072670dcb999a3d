"""The operations on one session. Most take one request to DynamoDB; all writes are conditional."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

import clock
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
from sessions.lifetime import expiry, number, recorded_by
from sessions.rotation import Rotation
from sessions.session import Session, last_client
from sessions.table import Proof, SessionTable, Update, Writer, unchanged
from sessions.token import Hashes, Token, Verdict, judge

# A renewal may need several requests if other renewals of the session are made at the same time.
_RENEWAL_TRIES = 4


class Verification(NamedTuple):
    """The session that a token proves.

    A renewal may be due, or the first use of the token may have to be recorded. `failure` is the
    reason why such a write did not happen, or None.
    """

    session: Session
    failure: Exception | None


class SessionStore(SessionTable):
    """Sessions in DynamoDB.

    Methods that name a session raise `SessionNotFound` when it is absent, expired or revoked.
    """

    def create(self, session: Session, hashes: Hashes, *, by: Writer) -> Session:
        """Store a new session, or return the one that an earlier call with these hashes has stored.

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
            now, item = clock.now(), failed.item
            verdict = judge(hashes, item, now, self._not_before)
            same = all(item.get(name) == new.get(name) for name in ("UserId", "Impersonator"))
            if not verdict.is_valid or not same:
                raise SessionExists from failed
            return self._require_live(item, now, former=verdict is Verdict.FORMER)
        # Return the data in its stored form, so that numbers look the same in every answer.
        return replace(session, data=from_attributes(new["Data"]["M"]))

    def get(self, session_id: str) -> Session:
        """Read a session with strong consistency, without extending it."""
        return self._require_live(self._read(session_id), clock.now())

    def pending_expiry(
        self, session_id: str, *, record_anonymous: bool, prompt_expiry: bool
    ) -> dict[str, Any] | None:
        """Return the `expired` event that is not recorded yet, or None.

        Its members are `type`, `at`, `cause` and `expected_by`. Anonymous sessions have such an
        event only with the setting `record_anonymous`. This reads the whole item, for up to 100
        read units, because DynamoDB bills for unread attributes too.
        """
        item, now = self._read(session_id), clock.now()
        end = expiry(item, self._not_before)
        if end is None or end["at"] > now or "RevokedAt" in item:
            return None
        if "UserId" not in item and not record_anonymous:
            return None
        expected_by = recorded_by(item, end) if prompt_expiry else None
        return {"type": "expired"} | end | {"expected_by": expected_by}

    def inspect(self, token: Token) -> Session:
        """Return the session whose newest token this is. Raises `InvalidToken` for any other token.

        This writes nothing: it neither renews the session nor ends it when an old token is reused.
        """
        item, now = self._read(token.session_id), clock.now()
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
    ) -> Verification:
        """Return the session that `token` proves. Raises `InvalidToken` if the token is not valid.

        With `renew`, the session is renewed if at least `renewal_fraction` of its window has passed
        since the last renewal. That is decided before the write, because DynamoDB also bills for a
        write whose condition fails. A renewal stores `client`, if any, as the session's last
        client. The first use of a rotated token is written as well. If the write fails, the session
        is returned anyway.
        """
        proof = self.prove(token, by=by)
        try:
            session = self._require_live(proof.item, proof.now, former=proof.is_former)
        except SessionNotFound as malformed:
            raise InvalidToken from malformed
        is_due = renew and _is_renewal_due(session, renewal_fraction, proof.now)
        if not is_due and not proof.is_first_use:
            return Verification(session, None)
        return self._verify_and_write(proof, session, client if is_due else None, by)

    def _verify_and_write(
        self, proof: Proof, session: Session, client: Mapping[str, str] | None, by: Writer
    ) -> Verification:
        """Record that the token has been seen. Unless `client` is None, renew the session as well.

        The write requires that the token is still valid, because a rotation may have replaced it
        since the session was read.
        """
        now, renewal = clock.now(), None
        if client is not None:
            full = _is_full(proof.item, now)
            renewal = _renewal(now, full=full) | unchanged(proof.item, "TtlSeconds")
            if client:
                renewal |= Update(
                    sets=["LastClient = :client"], values={":client": last_client(client)}
                )
        try:
            proof = self.record_use(proof, renewal, now=now, by=by)
            session = self._require_live(proof.item, now, former=proof.is_former)
            return Verification(session, None)
        except SessionNotFound as ended:
            raise InvalidToken from ended
        except InvalidToken:
            raise
        except (SessionsError, DynamoDBError) as failure:
            if client and isinstance(failure, DocumentTooLarge):
                # A session must not end because its item has no room for its last client.
                return self._verify_and_write(proof, session, {}, by)
            # It is unknown whether the write took effect. If it did, the session is still live.
            if session.expires_at <= clock.now():
                raise Unavailable("expired while its renewal failed") from failure
            return Verification(session, failure)

    def rotate(self, session_id: str, rotation: Rotation, *, by: Writer) -> Session:
        """Give a session a new token. A repeated call with the same hash has no further effect.

        Raises `InvalidToken` if the presented token is not valid, which does not end the session.
        Raises `NoToken` if the session has no token. Raises `TokenSuperseded` if another rotation
        has already used or replaced this hash. For a step-up, raises `AnonymousSession` or
        `ImpersonatedSession` if nobody can prove to be the user.

        Raises `RotationInGrace` if another request has just rotated the token. A rotation without a
        presented token also raises it while the newest token is unseen or a grace period runs,
        unless its `grace_seconds` are 0.
        """

        def write(update: Update, now: int) -> Session:
            item = self._update(
                session_id,
                update,
                has_effect=lambda item: (
                    item.get("TokenHash") == {"B": rotation.hashes.secret}
                    and rotation.has_effect(item, Verdict.NEWEST)
                ),
                now=now,
                by=by,
            )
            return self._require_live(item, now)

        def earlier_result(item: Item, now: int) -> Session | None:
            self._require_live(item, now)
            verdict = rotation.earlier_verdict(item, now, self._not_before)
            return verdict and self._require_live(item, now, former=verdict is Verdict.FORMER)

        now = clock.now()
        try:
            return write(rotation.first_try(now), now)
        except ConditionFailed as failed:
            item, now = failed.item, clock.now()
            if session := earlier_result(item, now):
                return session
            update = rotation.second_try(item, now, self._not_before)
        try:
            return write(update, now)
        except ConditionFailed as overtaken:
            if session := earlier_result(overtaken.item, clock.now()):
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
        """Replace the session's document with `data`. Everything else is as in `change`."""
        document = to_attributes(data, "/data")
        return self._write_data(
            session_id,
            Update(sets=["#data = :data"], values={":data": {"M": document}}),
            has_effect=lambda stored: stored == from_attributes(document),
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
        """Set top-level keys of the document, and remove those whose value is None.

        `versions` are the versions that the caller accepts, or None if it accepts all.
        Raises `VersionMismatch`, `InvalidField`, `DocumentTooLarge`.
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
            has_effect=lambda data: {key: data.get(key) for key in changed} == changed,
            versions=versions,
            by=by,
        )

    def _write_data(
        self,
        session_id: str,
        update: Update,
        *,
        has_effect: Callable[[dict[str, Any]], bool],
        versions: Collection[int] | None,
        by: Writer,
    ) -> Session:
        update |= Update(sets=["Version = Version + :one"], values={":one": _number(1)})
        if versions is not None:
            accepted = {f":accepted{i}": _number(v) for i, v in enumerate(versions)}
            update |= Update(conditions=[f"Version IN ({', '.join(accepted)})"], values=accepted)
        now = clock.now()
        try:
            item = self._update(
                session_id,
                update,
                has_effect=lambda item: (
                    "Data" in item and has_effect(from_attributes(item["Data"]["M"]))
                ),
                now=now,
                by=by,
            )
        except ConditionFailed as failed:
            self._require_live(failed.item, clock.now())
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
        """Move the expiration time to a full window from now, or to the absolute end if that is
        earlier.

        `ttl_seconds` becomes the session's window. Without it, the session stays as it is if its
        last renewal is later than this clock's time. The renewal takes a second request if less
        than a window is left until the absolute end.

        With `final`, which requires `ttl_seconds`, the absolute end moves to the end of this
        window, so that the session can't be renewed any more. Raises `NotAnonymous` if the session
        has a user: only an anonymous session can get such a last window.
        """
        now, full = clock.now(), True
        for _ in range(_RENEWAL_TRIES):
            try:
                item = self._renew(
                    session_id, now, full=full, ttl_seconds=ttl_seconds, final=final, by=by
                )
            except ConditionFailed as failed:
                now = clock.now()
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
        effect = {"RenewedAt": _number(now)}
        if ttl_seconds is not None:
            effect["TtlSeconds"] = _number(ttl_seconds)
        return self._update(
            session_id,
            renewal,
            has_effect=lambda item: effect.items() <= item.items(),
            now=now,
            by=by,
        )

    def _require_live(self, item: Item, now: int, *, former: bool = False) -> Session:
        session = Session.from_item(item, now, self._not_before, former=former)
        if session is None:
            raise SessionNotFound
        return session


def _renewal(
    now: int, *, full: bool, ttl_seconds: int | None = None, final: bool = False
) -> Update:
    """Return the write that renews to a full window or, unless `full`, to the absolute end.

    DynamoDB can't compute the smaller of two values. So the condition fails if the renewal must
    end at the other of the two. A clock that is behind can't undo a later renewal.
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
    """Whether a full window ends before the absolute end, by the same rule as in the condition of
    the write (`_renewal`).
    """
    if ttl_seconds is None:
        return number(item, "RenewableUntil") >= now
    return number(item, "AbsoluteExpirationTime") >= now + ttl_seconds


def _number(value: int) -> Attribute:
    return {"N": str(value)}


def _is_renewal_due(session: Session, renewal_fraction: float, now: int) -> bool:
    """Whether enough of the window has passed, and a renewal would extend the session."""
    has_aged = now - session.renewed_at >= session.ttl_seconds * renewal_fraction
    return has_aged and session.expires_at < session.absolute_expires_at
