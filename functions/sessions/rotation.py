"""The rotation of a session's token: the clauses of the write, and who may make it.

A session has the hashes of three tokens. A rotation shifts them: the newest token becomes the
former one, and the former one becomes the retired one. `sessions.token.judge` decides which of them
are valid.

A *step-up* is a rotation that also says that the user has just proved who they are. The former
token still shows what it showed before (`sessions.authentication`).
"""

from __future__ import annotations

from typing import NamedTuple

from sessions.authentication import authentication, has_previous, methods_attribute
from sessions.dynamodb import Item
from sessions.errors import (
    AnonymousSession,
    ImpersonatedSession,
    InvalidToken,
    NoToken,
    RotationInGrace,
    TokenSuperseded,
)
from sessions.lifetime import seconds
from sessions.table import Update, unchanged
from sessions.token import Hashes, Token, Verdict, is_replaced, is_unseen, judge


class Rotation(NamedTuple):
    """A new token for a session, represented by its hashes.

    `presented` is the token of the end user for whom the rotation is made. It is None if a backend
    rotates by the session's id alone. The former token stays valid until `grace_seconds` after the
    first use of the new one. If `grace_seconds` is 0, the former token is refused at once, and its
    use counts as a theft only after `retired_seconds`.

    `methods` are the methods of a step-up. They are None in a plain rotation.
    """

    hashes: Hashes
    presented: Token | None
    grace_seconds: int
    retired_seconds: int
    methods: list[str] | None = None

    def first_try(self, now: int) -> Update:
        """Return the write that succeeds unless another rotation came first."""
        shift = Update(
            sets=[
                "PreviousTokenHash = TokenHash",
                # The first rotation has no former token to retire, so it stores the newest twice.
                "RetiredTokenHash = if_not_exists(PreviousTokenHash, TokenHash)",
            ]
        )
        return shift | self._new_token(now) | self._authentication(None) | self._permission()

    def second_try(self, item: Item, now: int, not_before: int) -> Update:
        """Return the write that replaces a newest token that was lost together with its answer.

        `item` is the session after the first try was refused. The answer counts as lost if the
        presented token is the former one, and the newest one has been unseen for longer than the
        grace period. Otherwise another request has just rotated the token: raises
        `RotationInGrace`. A step-up raises `AnonymousSession` and `ImpersonatedSession` if nobody
        can prove to be the user.
        """
        if self.methods is not None:
            if "UserId" not in item:
                raise AnonymousSession
            if "Impersonator" in item:
                raise ImpersonatedSession
        presented = self.presented
        if presented is None:
            raise RotationInGrace
        verdict = judge(presented.hashes, item, now, not_before)
        was_lost = is_unseen(item) and seconds(item, "PreviousTokenUntil") <= now
        if verdict is not Verdict.FORMER or not was_lost:
            raise RotationInGrace
        shift = Update(sets=["RetiredTokenHash = TokenHash"])
        same_state = unchanged(item, "PreviousTokenUntil", "PreviousTokenGrace") | Update(
            conditions=["PreviousTokenHash = :presented"],
            values={":presented": {"B": presented.hashes.secret}},
        )
        return shift | self._new_token(now) | self._authentication(item) | same_state

    def earlier_verdict(self, item: Item, now: int, not_before: int) -> Verdict | None:
        """Return what the new token is by now if this call has made the rotation before, or None.

        `item` is a live session. Raises `InvalidToken` if the presented token is not valid,
        `NoToken` if the session has no token, and `TokenSuperseded` if a later rotation has
        replaced this hash, or if a rotation of the other kind has used it.
        """
        if "TokenHash" not in item:
            raise NoToken
        # This check comes first because a repeated call may present a token that is no longer
        # valid: the first call has replaced it, and other rotations may have followed.
        verdict = judge(self.hashes, item, now, not_before)
        if verdict.is_valid:
            if not self.has_effect(item, verdict):
                raise TokenSuperseded
            return verdict
        if is_replaced(self.hashes.secret, item):
            raise TokenSuperseded
        if self.presented and not judge(self.presented.hashes, item, now, not_before).is_valid:
            raise InvalidToken
        return None

    def has_effect(self, item: Item, verdict: Verdict) -> bool:
        """Whether the session in `item`, which has this hash, looks as this call leaves it.

        A step-up and a plain rotation are not taken for each other as long as the token is the
        newest one. Later, a step-up is recognised by the methods that its token shows.
        """
        if verdict is Verdict.NEWEST and has_previous(item) is (self.methods is None):
            return False
        _, shown = authentication(item, former=verdict is Verdict.FORMER)
        return self.methods in (None, shown)

    def _authentication(self, item: Item | None) -> Update:
        """Return the clauses that keep or put back what the presented token shows.

        `item` is None if that is the newest token. Otherwise it is the session as read, whose
        former token may show other values than its newest one.
        """
        previous = "PreviousAuthenticatedAt", "PreviousMethods"
        differs = item is not None and has_previous(item)
        if self.methods is None:
            back = ["AuthenticatedAt = PreviousAuthenticatedAt", "Methods = PreviousMethods"]
            return Update(sets=back if differs else [], removes=previous)
        # A session may have been created before these attributes existed.
        newest = "if_not_exists(AuthenticatedAt, CreatedAt)", "if_not_exists(Methods, :none)"
        shown = previous if differs else newest
        return Update(
            sets=[
                "AuthenticatedAt = :now",
                "Methods = :methods",
                *(f"{name} = {value}" for name, value in zip(previous, shown, strict=True)),
            ],
            conditions=["attribute_exists(UserId)", "attribute_not_exists(Impersonator)"],
            values={
                ":methods": methods_attribute(self.methods),
                **({} if differs else {":none": methods_attribute([])}),
            },
        )

    def _permission(self) -> Update:
        if self.presented:
            return Update(
                conditions=["TokenHash = :presented"],
                values={":presented": {"B": self.presented.hashes.secret}},
            )
        conditions = ["attribute_exists(TokenHash)"]
        if self.grace_seconds:
            conditions += [
                "attribute_not_exists(PreviousTokenGrace)",
                "(attribute_not_exists(PreviousTokenUntil) OR PreviousTokenUntil <= :now)",
            ]
        return Update(conditions=conditions)

    def _new_token(self, now: int) -> Update:
        """Return the clauses that store the new token, and the times of the tokens before it.

        A hash that the session already knows never becomes the newest one again.
        """
        return Update(
            sets=[
                "TokenHash = :hash",
                "FamilyHash = :family",
                "PreviousTokenUntil = :until",
                "RetiredTokenUntil = :refused_until",
                *(["PreviousTokenGrace = :grace"] if self.grace_seconds else []),
            ],
            removes=[] if self.grace_seconds else ["PreviousTokenGrace"],
            conditions=[
                "TokenHash <> :hash",
                "(attribute_not_exists(PreviousTokenHash) OR PreviousTokenHash <> :hash)",
                "(attribute_not_exists(RetiredTokenHash) OR RetiredTokenHash <> :hash)",
            ],
            values={
                ":hash": {"B": self.hashes.secret},
                ":family": {"B": self.hashes.family},
                ":until": {"N": str(now + self.grace_seconds)},
                ":refused_until": {"N": str(now + (self.grace_seconds or self.retired_seconds))},
                **({":grace": {"N": str(self.grace_seconds)}} if self.grace_seconds else {}),
            },
        )
