"""The rotation of a session's token: the clauses of the write, and who may make it.

A session has the hashes of three tokens. A rotation shifts them: the newest token becomes the
former one, and the former one becomes the retired one. `sessions.token.judge` decides which of them
are valid.
"""

from __future__ import annotations

from typing import NamedTuple

from sessions.dynamodb import Item
from sessions.errors import InvalidToken, NoToken, RotationInGrace, TokenSuperseded
from sessions.lifetime import seconds
from sessions.table import Update, unchanged
from sessions.token import Hashes, Token, Verdict, is_replaced, is_unseen, judge


class Rotation(NamedTuple):
    """A new token for a session, represented by its hashes.

    `presented` is the token of the end user for whom the rotation is made. It is None if a backend
    rotates by the session's id alone. The former token stays valid until `grace_seconds` after the
    first use of the new one. If `grace_seconds` is 0, the former token is refused at once, and its
    use counts as a theft only after `retired_seconds`.
    """

    hashes: Hashes
    presented: Token | None
    grace_seconds: int
    retired_seconds: int

    def first_try(self, now: int) -> Update:
        """Return the write that succeeds unless another rotation came first."""
        shift = Update(
            sets=[
                "PreviousTokenHash = TokenHash",
                # The first rotation has no former token to retire, so it stores the newest twice.
                "RetiredTokenHash = if_not_exists(PreviousTokenHash, TokenHash)",
            ]
        )
        return shift | self._new_token(now) | self._permission()

    def second_try(self, item: Item, now: int, not_before: int) -> Update:
        """Return the write that replaces a newest token that was lost together with its answer.

        `item` is the session after the first try was refused. The answer counts as lost if the
        presented token is the former one, and the newest one has been unseen for longer than the
        grace period. Otherwise another request has just rotated the token: raises
        `RotationInGrace`.
        """
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
        return shift | self._new_token(now) | same_state

    def was_made(self, item: Item, now: int, not_before: int) -> bool:
        """Whether the live session in `item` shows that this call has made the rotation before.

        Raises `InvalidToken` if the presented token is not valid, `NoToken` if the session has no
        token, and `TokenSuperseded` if a later rotation has replaced this hash.
        """
        if "TokenHash" not in item:
            raise NoToken
        # This check comes first because a repeated call may present a token that is no longer
        # valid: the first call has replaced it, and other rotations may have followed.
        if judge(self.hashes, item, now, not_before).is_valid:
            return True
        if is_replaced(self.hashes.secret, item):
            raise TokenSuperseded
        if self.presented and not judge(self.presented.hashes, item, now, not_before).is_valid:
            raise InvalidToken
        return False

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
