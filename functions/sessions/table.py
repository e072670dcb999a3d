"""The `Sessions` table: reads by id, and the conditional writes that keep dead sessions dead.

The authorizer uses this module without the rest of the store, so it imports next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from sessions.dynamodb import Attribute, ConditionFailed, DynamoDB, Item, translated_errors
from sessions.errors import InvalidToken, SessionNotFound, Unavailable
from sessions.lifetime import NUMBERS, seconds
from sessions.limits import MAX_LIFETIME_SECONDS, MAX_SECONDS, WRITE_SECONDS
from sessions.token import Token, Verdict, is_unseen, judge

# The condition of every write but a revocation. All of it is needed: `:now` can be seconds older
# than the write, and a renewal that began before a revocation must not undo it. The same condition
# fails when the item does not exist, so no update creates one.
# Without its numbers and its data, an item is no session, and a write of it would fail or bring
# something dead to life: `sessions.lifetime.is_live` has the same rule for readers.
_LIVE = (
    "ExpirationTime > :now",
    "attribute_not_exists(RevokedAt)",
    "CreatedAt >= :not_before",
    "attribute_type(#data, :map)",
    *(f"{name} BETWEEN :one AND :last_second" for name in NUMBERS),
    "TtlSeconds <= :longest",
)
# A revocation also marks a session that has just expired: a renewal may be under way whose `:now`
# is older, and would bring it back.
_REVOCABLE = ("ExpirationTime > :just_now", "attribute_not_exists(RevokedAt)")
# What proves tokens: a revocation removes all of it.
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
    """Who writes, and in which request; both go into the item and so into the audit trail."""

    actor: str
    request_id: str

    @property
    def attributes(self) -> Item:
        return {"Actor": {"S": self.actor}, "RequestId": {"S": self.request_id}}


class Proof(NamedTuple):
    """A token that signs its holder in; `item` and `now` are what that was judged by."""

    token: Token
    verdict: Verdict
    item: Item
    now: int

    @property
    def is_first_use(self) -> bool:
        """Whether nobody has presented the newest token before."""
        return self.verdict is Verdict.NEWEST and is_unseen(self.item)


class Update(NamedTuple):
    """Clauses of an UpdateItem, with the names and values that they use."""

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
    """Sessions by id. Times are Unix epoch seconds; each request has its own `clock()`.

    Sessions that were created before `not_before` count as absent, except to `revoke`.

    Any method raises `Unavailable` when DynamoDB throttles or does not answer in time.

    If the client resends a write, because its answer was lost, the item has our request id and
    shows the effect. The write has then happened, and its answer comes from that item. If another
    write came between the two, a change of data is not recognised: it is made again, or raises
    `VersionMismatch`.
    """

    def __init__(
        self, client: DynamoDB, table_name: str, *, clock: Callable[[], int], not_before: int
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._clock = clock
        self._not_before = not_before

    def prove(self, token: Token, *, attributes: str | None = None, by: Writer) -> Proof:
        """Read the session that `token` proves; `attributes` is a ProjectionExpression.

        Raises `InvalidToken`, whatever is wrong. A token that is used again after a rotation ends
        the session: either its user or a thief has a newer one, and nobody can tell which.
        """
        item, now = self._read(token.session_id, attributes), self._clock()
        verdict = judge(token.hashes, item, now, self._not_before)
        if verdict is Verdict.REUSED:
            with suppress(SessionNotFound):
                self.revoke(token.session_id, reason="token_reuse", by=by)
        if not verdict.is_valid:
            raise InvalidToken
        return Proof(token, verdict, item, now)

    def use(self, proof: Proof, renewal: Update | None = None, *, now: int, by: Writer) -> Item:
        """Note that the newest token has been seen, and make a renewal as of `now` with it.

        From now on the grace period of the former token runs. Raises `InvalidToken` if the token
        has become worthless since it was judged; that is no theft, for its holder began before.
        """
        update, shown = _same_token(proof), dict[str, Attribute | None]()
        if proof.is_first_use:
            until = _number(now + seconds(proof.item, "PreviousTokenGrace"))
            update |= Update(
                sets=["PreviousTokenUntil = :seen_until"],
                removes=["PreviousTokenGrace"],
                values={":seen_until": until},
            )
            shown = {"PreviousTokenUntil": until, "PreviousTokenGrace": None}
        if renewal:
            update |= renewal
            shown["RenewedAt"] = _number(now)
        try:
            return self._update(
                proof.token.session_id,
                update,
                shows=lambda item: all(item.get(name) == value for name, value in shown.items()),
                now=now,
                by=by,
            )
        except ConditionFailed as failed:
            verdict = judge(proof.token.hashes, failed.item, self._clock(), self._not_before)
            if not verdict.is_valid:
                raise InvalidToken from failed
            return failed.item

    def revoke(self, session_id: str, *, reason: str, by: Writer) -> None:
        """End a session, for good and at once, even if it has just expired.

        An update rather than a delete: it costs half, and its stream record says who ended the
        session and why. The user's data and the token hashes go now, TTL takes the rest. Raises
        `SessionNotFound` if there is nothing to end.
        """
        now = self._clock()
        try:
            self._write(
                session_id,
                Update(
                    sets=["ExpirationTime = :now", "RevokedAt = :now", "RevokedReason = :reason"],
                    removes=["#data", "Client", "LastClient", *TOKEN_ATTRIBUTES],
                    conditions=_REVOCABLE,
                    values={
                        ":now": _number(now),
                        ":just_now": _number(now - WRITE_SECONDS),
                        ":reason": {"S": reason},
                    },
                ),
                shows=lambda item: "RevokedAt" in item,
                by=by,
            )
        except ConditionFailed as failed:
            raise SessionNotFound from failed

    def _read(self, session_id: str, attributes: str | None = None) -> Item:
        """The item, read strongly consistent; empty if there is none."""
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
        shows: Callable[[Item], bool],
        now: int,
        by: Writer,
    ) -> Item:
        """Change a live session in one request and return its item, as `_write` does."""
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
        return self._write(session_id, live | update, shows=shows, by=by)

    def _write(
        self, session_id: str, update: Update, *, shows: Callable[[Item], bool], by: Writer
    ) -> Item:
        """Change an item in one request and return the new one; raises `ConditionFailed`.

        The client may send it twice. The second time, the item has our request id and, as `shows`
        tells, the effect. A request id that somebody used before proves nothing: `Unavailable`.
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
            if not shows(failed.item):
                raise Unavailable("the request id was used before") from failed
            return failed.item
        attributes: Item = answer["Attributes"]
        return attributes


def is_revocable(item: Item, now: int) -> bool:
    """Whether `revoke` has something to end in `item`; the same rule as its condition."""
    return "RevokedAt" not in item and seconds(item, "ExpirationTime") > now - WRITE_SECONDS


def as_read(item: Item, *names: str) -> Update:
    """The condition that these attributes, numbers, are still what they are in `item`."""
    conditions = [
        f"{name} = :read_{name}" if name in item else f"attribute_not_exists({name})"
        for name in names
    ]
    values = {f":read_{name}": item[name] for name in names if name in item}
    return Update(conditions=conditions, values=values)


def _same_token(proof: Proof) -> Update:
    """The condition that a token is still what it was when it was judged."""
    slot = "TokenHash" if proof.verdict is Verdict.NEWEST else "PreviousTokenHash"
    return as_read(proof.item, "PreviousTokenUntil", "PreviousTokenGrace") | Update(
        conditions=[f"{slot} = :hash"], values={":hash": {"B": proof.token.hashes.secret}}
    )


def _all(conditions: Iterable[str]) -> str:
    return " AND ".join(conditions)


def _number(value: int) -> Attribute:
    return {"N": str(value)}
