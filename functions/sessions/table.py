"""The `Sessions` table: reads by id, and conditional writes that never revive an ended session.

The authorizer uses this module without the rest of the store, so it imports as little as possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import clock
from sessions.authentication import AUTHENTICATION_ATTRIBUTES
from sessions.dynamodb import Attribute, ConditionFailed, DynamoDB, Item, translated_errors
from sessions.errors import InvalidToken, SessionNotFound, Unavailable
from sessions.lifetime import NUMBERS, seconds
from sessions.limits import MAX_LIFETIME_SECONDS, MAX_SECONDS, WRITE_SECONDS
from sessions.token import Token, Verdict, is_unseen, judge

# The condition of every write except a revocation. `ExpirationTime` alone is not enough: `:now` is
# older than the write, and a renewal that began before a revocation must not undo it. The
# condition also fails when the item does not exist, so no update creates an item.
# An item without these numbers or without data is not a session. Writing to it would either fail or
# create a live session from it. `sessions.lifetime.is_live` has the same rule for readers.
_LIVE = (
    "ExpirationTime > :now",
    "attribute_not_exists(RevokedAt)",
    "CreatedAt >= :not_before",
    "attribute_type(#data, :map)",
    *(f"{name} BETWEEN :one AND :last_second" for name in NUMBERS),
    "TtlSeconds <= :longest",
)
# A revocation also marks a session that has just expired. A renewal with an older `:now` may still
# be under way, and would otherwise revive the session.
_REVOCABLE = ("ExpirationTime > :just_now", "attribute_not_exists(RevokedAt)")
# The attributes that tokens are judged by. A revocation removes all of them.
TOKEN_ATTRIBUTES = (
    "TokenHash",
    "FamilyHash",
    "PreviousTokenHash",
    "PreviousTokenUntil",
    "PreviousTokenGrace",
    "RetiredTokenHash",
    "RetiredTokenUntil",
)


class Writer(NamedTuple):
    """Who writes, and in which request. Both are stored in the item and reach the audit trail."""

    actor: str
    request_id: str

    @property
    def attributes(self) -> Item:
        return {"Actor": {"S": self.actor}, "RequestId": {"S": self.request_id}}


class Proof(NamedTuple):
    """A valid token. It was judged by the session in `item`, at the time `now`."""

    token: Token
    verdict: Verdict
    item: Item
    now: int

    @property
    def is_first_use(self) -> bool:
        """Whether this is the newest token, and nobody has presented it before."""
        return self.verdict is Verdict.NEWEST and is_unseen(self.item)

    @property
    def is_former(self) -> bool:
        """Whether this is the former token, which shows what it showed before a step-up."""
        return self.verdict is Verdict.FORMER


class Update(NamedTuple):
    """Clauses of an UpdateItem request, with the names and values that they use."""

    sets: Sequence[str] = ()
    removes: Sequence[str] = ()
    conditions: Sequence[str] = ()
    names: Mapping[str, str] = {}
    values: Mapping[str, Attribute] = {}

    def __or__(self, other: Update) -> Update:
        return Update(
            [*self.sets, *other.sets],
            [*self.removes, *other.removes],
            [*self.conditions, *other.conditions],
            {**self.names, **other.names},
            {**self.values, **other.values},
        )


class SessionTable:
    """Sessions by id. Times are Unix epoch seconds.

    Sessions that were created before `not_before` count as absent, except for `revoke`.

    All methods raise `Unavailable` when DynamoDB throttles or does not answer in time.

    If the client resends a write because the answer was lost, the condition fails, but the item has
    our request id and shows the effect of the write. The result is then taken from this item. There
    is one exception: if another write came in between, a change of data is not recognised. It is
    then made again, or raises `VersionMismatch`.
    """

    def __init__(self, client: DynamoDB, table_name: str, *, not_before: int) -> None:
        self._client = client
        self._table_name = table_name
        self._not_before = not_before

    def prove(self, token: Token, *, attributes: str | None = None, by: Writer) -> Proof:
        """Read the session that `token` proves. `attributes` is a ProjectionExpression.

        Raises `InvalidToken` if the token is not valid. If an old token is reused after a rotation,
        the session is ended as well: either the user or a thief has a newer token, and the service
        can't tell which.
        """
        item, now = self._read(token.session_id, attributes), clock.now()
        verdict = judge(token.hashes, item, now, self._not_before)
        if verdict is Verdict.REUSED:
            with suppress(SessionNotFound):
                self.revoke(token.session_id, reason="token_reuse", by=by)
        if not verdict.is_valid:
            raise InvalidToken
        return Proof(token, verdict, item, now)

    def record_use(
        self, proof: Proof, renewal: Update | None = None, *, now: int, by: Writer
    ) -> Proof:
        """Record the first use of the newest token, and make a `renewal` as of `now` in the same
        write. Returns the proof with the new item.

        The grace period of the former token begins with that first use. Raises `InvalidToken` if
        the token has become invalid since it was judged. This does not count as theft, because the
        holder sent the request while the token was valid.
        """
        update, effect = _same_token(proof), dict[str, Attribute | None]()
        if proof.is_first_use:
            until = _number(now + seconds(proof.item, "PreviousTokenGrace"))
            update |= Update(
                sets=["PreviousTokenUntil = :seen_until"],
                removes=["PreviousTokenGrace"],
                values={":seen_until": until},
            )
            effect = {"PreviousTokenUntil": until, "PreviousTokenGrace": None}
        if renewal:
            update |= renewal
            effect["RenewedAt"] = _number(now)
        try:
            item = self._update(
                proof.token.session_id,
                update,
                has_effect=lambda item: all(
                    item.get(name) == value for name, value in effect.items()
                ),
                now=now,
                by=by,
            )
            return proof._replace(item=item)
        except ConditionFailed as failed:
            verdict = judge(proof.token.hashes, failed.item, clock.now(), self._not_before)
            if not verdict.is_valid:
                raise InvalidToken from failed
            return proof._replace(verdict=verdict, item=failed.item)

    def revoke(self, session_id: str, *, reason: str, by: Writer) -> None:
        """End a session immediately and permanently, even if it has just expired.

        This is an update rather than a delete. It costs half as much, and its stream record says
        who ended the session and why. It removes the user's data, the token hashes and when the
        user has proved who they are, and TTL removes the rest later. Raises `SessionNotFound` if
        there is no session to end.
        """
        now = clock.now()
        try:
            self._write(
                session_id,
                Update(
                    sets=["ExpirationTime = :now", "RevokedAt = :now", "RevokedReason = :reason"],
                    removes=[
                        "#data",
                        "Client",
                        "LastClient",
                        *TOKEN_ATTRIBUTES,
                        *AUTHENTICATION_ATTRIBUTES,
                    ],
                    conditions=_REVOCABLE,
                    values={
                        ":now": _number(now),
                        ":just_now": _number(now - WRITE_SECONDS),
                        ":reason": {"S": reason},
                    },
                ),
                has_effect=lambda item: "RevokedAt" in item,
                by=by,
            )
        except ConditionFailed as failed:
            raise SessionNotFound from failed

    def _read(self, session_id: str, attributes: str | None = None) -> Item:
        """Read an item with strong consistency. Returns an empty one if there is none."""
        projection = {"ProjectionExpression": attributes} if attributes else {}
        with translated_errors():
            answer = self._client.get_item(
                TableName=self._table_name,
                Key={"SessionId": {"S": session_id}},
                ConsistentRead=True,
                **projection,
            )
        item: Item = answer.get("Item", {})
        return item

    def _update(
        self,
        session_id: str,
        update: Update,
        *,
        has_effect: Callable[[Item], bool],
        now: int,
        by: Writer,
    ) -> Item:
        """Change a live session in one request and return its new item, as `_write` does."""
        live = Update(
            conditions=_LIVE,
            values={
                ":now": _number(now),
                ":not_before": _number(self._not_before),
                ":map": {"S": "M"},
                ":one": _number(1),
                ":last_second": _number(MAX_SECONDS),
                ":longest": _number(MAX_LIFETIME_SECONDS),
            },
        )
        return self._write(session_id, live | update, has_effect=has_effect, by=by)

    def _write(
        self, session_id: str, update: Update, *, has_effect: Callable[[Item], bool], by: Writer
    ) -> Item:
        """Change an item in one request and return the new item. Raises `ConditionFailed`.

        The client may send the request twice. The second time, the item has our request id, and
        `has_effect` returns whether it also shows the effect of this write. If it does not, another
        write has used the request id before: raises `Unavailable`.
        """
        sets = ["Actor = :actor", "RequestId = :request_id", *update.sets]
        removes = f" REMOVE {', '.join(update.removes)}" if update.removes else ""
        try:
            with translated_errors():
                answer = self._client.update_item(
                    TableName=self._table_name,
                    Key={"SessionId": {"S": session_id}},
                    UpdateExpression=f"SET {', '.join(sets)}{removes}",
                    ConditionExpression=_all((*update.conditions, "RequestId <> :request_id")),
                    ExpressionAttributeNames={"#data": "Data", **update.names},
                    ExpressionAttributeValues={
                        ":actor": {"S": by.actor},
                        ":request_id": {"S": by.request_id},
                        **update.values,
                    },
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ConditionFailed as failed:
            if failed.item.get("RequestId") != {"S": by.request_id}:
                raise
            if not has_effect(failed.item):
                raise Unavailable("the request id was used before") from failed
            return failed.item
        attributes: Item = answer["Attributes"]
        return attributes


def is_revocable(item: Item, now: int) -> bool:
    """Whether `revoke` would end the session in `item`, by the same rule as in its condition."""
    return "RevokedAt" not in item and seconds(item, "ExpirationTime") > now - WRITE_SECONDS


def unchanged(item: Item, *names: str) -> Update:
    """Return the condition that these numeric attributes still have the values in `item`."""
    conditions = [
        f"{name} = :read_{name}" if name in item else f"attribute_not_exists({name})"
        for name in names
    ]
    values = {f":read_{name}": item[name] for name in names if name in item}
    return Update(conditions=conditions, values=values)


def _same_token(proof: Proof) -> Update:
    """Return the condition that the token's hash is still in the attribute that it was found in."""
    slot = "TokenHash" if proof.verdict is Verdict.NEWEST else "PreviousTokenHash"
    return unchanged(proof.item, "PreviousTokenUntil", "PreviousTokenGrace") | Update(
        conditions=[f"{slot} = :hash"], values={":hash": {"B": proof.token.hashes.secret}}
    )


def _all(conditions: Iterable[str]) -> str:
    return " AND ".join(conditions)


def _number(value: int) -> Attribute:
    return {"N": str(value)}
