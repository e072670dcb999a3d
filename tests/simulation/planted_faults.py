"""Faults to plant, each an undone fix or an omitted condition, and how often stories find them.

`python -m tests.simulation.planted_faults STORIES` prints the table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from sessions import authentication, lifetime, store, table, token
from sessions.rotation import Rotation
from sessions.session import Session
from sessions.store import SessionStore
from sessions.table import Proof, SessionTable
from sessions.token import Token
from tests.simulation.callers import live
from tests.simulation.story import STEP_UPS, THEMES, draw
from tests.simulation.world import authorizer_module
from tests.support.plant import Plant, in_source, rewritten

_WAS_MADE = "if verdict.is_valid:"
_OTHER_KIND = "has_previous(item) is (self.methods is None)"
_FORMER_IN_TIME = 'is_unseen(item) or seconds(item, "PreviousTokenUntil") > now'
_FIRST_USE = Proof.is_first_use.fget  # type: ignore[attr-defined]


def _constant(name: str, old: object, new: object) -> Plant:
    """Replace `old` by `new`, which is a constant of the table or one of its members."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        value = getattr(table, name)
        members = value if isinstance(value, tuple) else (value,)
        assert old in members, f"{old!r} is not in {name}"
        replaced = tuple(new if member == old else member for member in members)
        patch.setattr(table, name, replaced if isinstance(value, tuple) else replaced[0])

    return plant


def _authorizer(name: str, old: str, new: str) -> Plant:
    """Replace `old` by `new` in a function of the authorizer."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        in_source(getattr(authorizer_module(), name), old, new)(patch)

    return plant


FAULTS: dict[str, Plant] = {
    "a log-out just after an expiry writes nothing": _constant("WRITE_SECONDS", 60, 0),
    "a write succeeds in the second of the expiry": _constant(
        "_LIVE", "ExpirationTime > :now", "ExpirationTime >= :now"
    ),
    "a revoked session is live": in_source(lifetime.is_live, '"RevokedAt" in item', "False"),
    "a revoked session keeps its last client": in_source(SessionTable.revoke, '"LastClient",', ""),
    "a revoked session keeps its hashes": in_source(SessionTable.revoke, "*TOKEN_ATTRIBUTES,", ""),
    "a revoked session keeps its proofs": in_source(
        SessionTable.revoke, "*AUTHENTICATION_ATTRIBUTES,", ""
    ),
    "a write with a known request id counts as made without its effect": in_source(
        SessionTable._write, "not has_effect(failed.item)", "False"
    ),
    "a write that is sent twice takes effect twice": in_source(
        SessionTable._write, '(*update.conditions, "RequestId <> :request_id")', "update.conditions"
    ),
    "a late clock shortens a renewal": in_source(
        store._renewal, 'conditions=["RenewedAt <= :now"]', "conditions=[]"
    ),
    "a renewal extends beyond the absolute end": in_source(
        store._renewal, 'conditions=[f"RenewableUntil {comparison} :now"]', ""
    ),
    "a renewal removes the last client": in_source(
        SessionStore._verify_and_write,
        'sets=["LastClient = :client"], values={":client": last_client(client)}',
        "",
    ),
    "a last window does not move the absolute end": in_source(
        store._renewal, 'sets=["AbsoluteExpirationTime = :end"]', ""
    ),
    "a user's session gets a last window": in_source(
        store._renewal, 'conditions=["attribute_not_exists(UserId)"]', ""
    ),
    "a creation is recognized by a former hash": in_source(
        SessionStore.create,
        "not verdict.is_valid or",
        'not verdict.is_valid and item.get("PreviousTokenHash") != {"B": hashes.secret} or',
    ),
    "a rotation is recognized by a former hash": in_source(
        Rotation.earlier_verdict,
        _WAS_MADE,
        f"if is_replaced(self.hashes.secret, item) or {_WAS_MADE[3:]}",
    ),
    "a repeated rotation is not recognized": in_source(
        Rotation.earlier_verdict, _WAS_MADE, "if False:"
    ),
    "a repeated rotation is not recognized after one by the session's id": in_source(
        Rotation.earlier_verdict,
        _WAS_MADE,
        'if (not self.presented or self.presented.hashes.family == item["FamilyHash"]["B"])'
        f" and {_WAS_MADE[3:]}",
    ),
    "a former hash becomes the newest again": in_source(
        Rotation._new_token,
        "(attribute_not_exists(PreviousTokenHash) OR PreviousTokenHash <> :hash)",
        "attribute_exists(TokenHash)",
    ),
    "a retired hash becomes the newest again": in_source(
        Rotation._new_token,
        "(attribute_not_exists(RetiredTokenHash) OR RetiredTokenHash <> :hash)",
        "attribute_exists(TokenHash)",
    ),
    "a rotation with a token begins a new family": in_source(
        Token.successor, "self.secret[:FAMILY_CHARACTERS]", "_random(FAMILY_CHARACTERS)"
    ),
    "a rotation by the session's id ignores that the newest token is unseen": in_source(
        Rotation._permission, '"attribute_not_exists(PreviousTokenGrace)",', ""
    ),
    "the newest token can't be rotated before its first use": in_source(
        Rotation._permission,
        '["TokenHash = :presented"]',
        '["TokenHash = :presented", "attribute_not_exists(PreviousTokenGrace)"]',
    ),
    "the newest token is replaced during its grace period": in_source(
        Rotation.second_try,
        'is_unseen(item) and seconds(item, "PreviousTokenUntil") <= now',
        "is_unseen(item)",
    ),
    "the newest token is replaced although it was used in the meantime": in_source(
        Rotation.second_try, 'unchanged(item, "PreviousTokenUntil", "PreviousTokenGrace") | ', ""
    ),
    "a lost token is not replaced": in_source(
        Rotation.second_try, "verdict is not Verdict.FORMER or not was_lost", "True"
    ),
    "without a grace period, a former token immediately counts as a theft": in_source(
        Rotation._new_token, "(self.grace_seconds or self.retired_seconds)", "self.grace_seconds"
    ),
    "a retired token immediately counts as a theft": in_source(
        token.judge, "if (former or retired) and", "if former and"
    ),
    "a former token is valid for a second too long": in_source(
        token.judge, _FORMER_IN_TIME, _FORMER_IN_TIME.replace("> now", ">= now")
    ),
    "a former token stays valid after the first use of the newest one": in_source(
        token.judge, _FORMER_IN_TIME, "True"
    ),
    "a former token is only valid for its grace period, even if the newest is unseen": in_source(
        token.judge, _FORMER_IN_TIME, _FORMER_IN_TIME.removeprefix("is_unseen(item) or ")
    ),
    "a token with only the right family is valid": in_source(
        token.judge, "if newest:", "if newest or family:"
    ),
    "an older token of the family does not count as a theft": in_source(
        token.judge, "former or retired or family", "former or retired"
    ),
    "a theft ends nothing": in_source(
        SessionTable.prove, 'self.revoke(token.session_id, reason="token_reuse", by=by)', "pass"
    ),
    "a token that is replaced during its request counts as a theft": in_source(
        SessionTable.record_use,
        "raise InvalidToken from failed",
        'self.revoke(proof.token.session_id, reason="token_reuse", by=by); raise InvalidToken',
    ),
    "verify renews even if its token was replaced in the meantime": in_source(
        SessionTable.record_use,
        "_same_token(proof), dict",
        "(_same_token(proof) if proof.is_first_use else Update()), dict",
    ),
    "a first use is recorded even if the token was replaced in the meantime": in_source(
        SessionTable.record_use,
        "_same_token(proof), dict",
        "(Update() if proof.is_first_use else _same_token(proof)), dict",
    ),
    "a first use shortens the grace period": in_source(
        SessionTable.record_use, 'now + seconds(proof.item, "PreviousTokenGrace")', "now"
    ),
    "a first use is not recorded": in_source(_FIRST_USE, "is_unseen(self.item)", "False"),
    "the use of a former token counts as a use of the newest one": in_source(
        _FIRST_USE, "self.verdict is Verdict.NEWEST and ", ""
    ),
}
# Faults in what a session says about its user, which are looked for in stories with step-ups.
PROOF_FAULTS: dict[str, Plant] = {
    "a renewal counts as a proof": in_source(
        store._renewal,
        'sets=["RenewedAt = :now"]',
        'sets=["RenewedAt = :now", "AuthenticatedAt = :now"]',
    ),
    "a rotation counts as a proof": in_source(
        Rotation._authentication, "sets=back if differs else []", 'sets=["AuthenticatedAt = :now"]'
    ),
    "a rotation is taken for a step-up": in_source(
        Rotation.has_effect, _OTHER_KIND, f"self.methods is None and {_OTHER_KIND}"
    ),
    "a step-up is taken for a rotation": in_source(
        Rotation.has_effect, _OTHER_KIND, f"self.methods is not None and {_OTHER_KIND}"
    ),
    "a step-up with other methods is taken for this one": in_source(
        Rotation.has_effect, "self.methods in (None, shown)", "True"
    ),
    "a former token shows what the newest one shows": in_source(
        authentication.authentication, "former and has_previous(item)", "False"
    ),
    "a former token shows more to verify": in_source(
        SessionStore.verify, "former=proof.is_former", "former=False"
    ),
    "a former token that renews shows more": in_source(
        SessionStore._verify_and_write, "former=proof.is_former", "former=False"
    ),
    "a token that becomes the former one during its request shows more": in_source(
        SessionTable.record_use, "verdict=verdict, ", ""
    ),
    "a former token shows more to the authorizer": _authorizer(
        "_session", "former=proof.is_former", "former=False"
    ),
    "a repeated step-up shows more than its token": in_source(
        SessionStore.rotate, "former=verdict is Verdict.FORMER", "former=False"
    ),
    "a step-up for the owner of the former token raises that token": rewritten(
        Rotation._authentication,
        ("previous if differs else newest", "newest"),
        ("{} if differs else ", ""),
    ),
    "a rotation that replaces a lost token does not put back what was proved": in_source(
        Rotation._authentication, "back if differs else []", "[]"
    ),
    "a rotation leaves its token what the one before showed": in_source(
        Rotation._authentication, ", removes=previous", ""
    ),
    "a visitor steps up": in_source(Rotation._authentication, '"attribute_exists(UserId)", ', ""),
    "an impersonator steps up": in_source(
        Rotation._authentication, ', "attribute_not_exists(Impersonator)"', ""
    ),
    "an impersonated session outlives its limit": in_source(
        Session.start.__func__,  # type: ignore[attr-defined]
        "min(most, limits.max_impersonation_seconds)",
        "most",
    ),
    "a rotation makes an impersonated session an ordinary one": in_source(
        Rotation._authentication, "removes=previous", 'removes=[*previous, "Impersonator"]'
    ),
    "an impersonated session looks like an ordinary one": in_source(
        authentication.impersonator, '"Impersonator" not in item', "True"
    ),
}


def find(fault: str, stories: range) -> Iterator[int]:
    """Return the seeds of the stories in which the planted fault breaks a promise."""
    themes = STEP_UPS if fault in PROOF_FAULTS else THEMES
    with pytest.MonkeyPatch.context() as patch:
        (FAULTS | PROOF_FAULTS)[fault](patch)
        for seed in stories:
            if live(draw(seed, themes)).broken:
                yield seed


if __name__ == "__main__":
    total = int(sys.argv[1])
    for fault in (*FAULTS, *PROOF_FAULTS):
        seeds = list(find(fault, range(total)))
        print(f"{len(seeds):6} of {total}, first {seeds[:1]}: {fault}", flush=True)
