"""Rules of cookies and rotation to remove, and how many browser stories break without them.

`python -m tests.simulation.browser_faults STORIES` prints the table for one adapter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from serverless_sessions._core.token import Token
from serverless_sessions._web import session as web_session
from serverless_sessions._web.session import WebSession
from sessions import token
from sessions.rotation import Rotation
from sessions.table import Proof, SessionTable
from tests.simulation.browser_stories import draw
from tests.simulation.browsers import live
from tests.simulation.web_apps import WebApp, web_app
from tests.simulation.world import authorizer_module
from tests.support.plant import Plant, rewritten

_FIRST_USE = Proof.is_first_use.fget  # type: ignore[attr-defined]
_COOKIE_OF_A_NEW_TOKEN = ("if self._is_token_issued and self.session", "if self.session")
_COOKIE_IS_DELETED = (
    "Cookie.USER: self._has_ended_users_session",
    "Cookie.USER: self._has_ended_users_session or self._tokens and not self.session",
)
_FORMER_WHILE_UNSEEN = ("is_unseen(item) or ", "")
_FAMILY = ('_matches(hashes.family, item, "FamilyHash")', "False")


def together(*plants: Plant) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        for part in plants:
            part(patch)

    return plant


def _no_last_window(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(web_session, "_LAST_WINDOW_SECONDS", 1)


def _authorizer_ends_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(authorizer_module().table, "revoke", lambda *_, **__: None)


def _authorizer_marks_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(authorizer_module(), "_record_first_use", lambda proof, _: proof)


_ONE_COOKIE = rewritten(
    WebSession.__init__,
    ("None if visitor_tokens is None else [*map(Secret, visitor_tokens)]", "None"),
)
_ROTATION_BY_ID = rewritten(
    WebSession._rotate, ("token=Secret(self.token) if self.token else None,", "token=None,")
)
_NOTHING_IS_SEEN = rewritten(_FIRST_USE, ("is_unseen(self.item)", "False"))

# The keys name the removed rule. The second member says whether stories with a thief find it.
FAULTS: dict[str, tuple[Plant, bool]] = {
    "every response sets the cookie": (
        rewritten(WebSession.cookie_changes, _COOKIE_OF_A_NEW_TOKEN),
        False,
    ),
    "an invalid token deletes the cookie": (
        rewritten(WebSession.cookie_changes, _COOKIE_IS_DELETED),
        False,
    ),
    "a log-in ends the visitor's session immediately": (_no_last_window, False),
    "visitors and users share one cookie": (_ONE_COOKIE, False),
    "the visitor's cookie is read first": (
        rewritten(
            WebSession._find,
            (
                "((self._tokens, False), (self._visitor_tokens or (), True))",
                "((self._visitor_tokens or (), True), (self._tokens, False))",
            ),
        ),
        False,
    ),
    "a log-out only deletes the cookie": (
        rewritten(
            WebSession._end_former,
            (
                "yield from self._operations.revoke(former_session.session_id, reason=reason)",
                "pass",
            ),
        ),
        False,
    ),
    "a rotation does not send the token of the request": (_ROTATION_BY_ID, False),
    "a second rotation is an error": (
        rewritten(WebSession._rotate, ("(RotationInGrace, TokenSuperseded,", "(TokenSuperseded,")),
        False,
    ),
    "the grace period begins with the rotation": (
        rewritten(token.judge, _FORMER_WHILE_UNSEEN),
        False,
    ),
    "no rotation during a grace period": (
        rewritten(
            Rotation._permission,
            (
                '["TokenHash = :presented"]',
                '["TokenHash = :presented",'
                ' "(attribute_not_exists(PreviousTokenUntil) OR PreviousTokenUntil <= :now)"]',
            ),
        ),
        False,
    ),
    "a lost token is not replaced": (
        rewritten(Rotation.second_try, ("verdict is not Verdict.FORMER or not was_lost", "True")),
        False,
    ),
    "the newest token is replaced while its response may be in progress": (
        rewritten(
            Rotation.second_try,
            (
                'is_unseen(item) and seconds(item, "PreviousTokenUntil") <= now',
                "is_unseen(item)",
            ),
        ),
        False,
    ),
    "a retired token immediately counts as a theft": (
        rewritten(token.judge, ("if (former or retired) and", "if former and")),
        False,
    ),
    "older tokens are not recognized by their family": (rewritten(token.judge, _FAMILY), True),
    "a rotation begins a new family": (
        rewritten(
            Token.successor,
            ("self.secret[:_FAMILY_CHARACTERS]", "_random(_FAMILY_CHARACTERS)"),
        ),
        True,
    ),
    "a first use is not recorded": (_NOTHING_IS_SEEN, True),
    "the authorizer does not record a first use": (_authorizer_marks_nothing, True),
    "the authorizer ends nothing": (_authorizer_ends_nothing, True),
    "a former token stays valid": (
        rewritten(
            token.judge,
            ('is_unseen(item) or seconds(item, "PreviousTokenUntil") > now', "True"),
        ),
        True,
    ),
    "a theft ends nothing": (
        rewritten(
            SessionTable.prove,
            ('self.revoke(token.session_id, reason="token_reuse", by=by)', "pass"),
        ),
        True,
    ),
}

_JUDGED_BY_TIME = rewritten(
    token.judge,
    _FORMER_WHILE_UNSEEN,
    _FAMILY,
    ('_matches(hashes.secret, item, "RetiredTokenHash")', "False"),
)
# The earlier behaviour, without any of the rules for cookies and rotation.
EARLIER_RULES = together(
    rewritten(WebSession.cookie_changes, _COOKIE_OF_A_NEW_TOKEN, _COOKIE_IS_DELETED),
    _no_last_window,
    _ONE_COOKIE,
    _ROTATION_BY_ID,
    _NOTHING_IS_SEEN,
    _JUDGED_BY_TIME,
    _authorizer_ends_nothing,
)


def find(app: WebApp, plant: Plant, stories: range, *, thief: bool) -> Iterator[int]:
    """Return the seeds of the stories that break without the rule."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        for seed in stories:
            if live(app, draw(seed, thief=thief)).broken:
                yield seed


if __name__ == "__main__":
    total = int(sys.argv[1])
    with web_app("flask") as app:
        for fault, (plant, thief) in FAULTS.items():
            broken = list(find(app, plant, range(total), thief=thief))
            kind = "thieves" if thief else "stories"
            print(f"{len(broken):6} of {total} {kind}, first {broken[:1]}: {fault}", flush=True)
        for thief in (False, True):
            broken = list(find(app, EARLIER_RULES, range(total), thief=thief))
            kind = "thieves" if thief else "stories"
            print(f"{len(broken):6} of {total} {kind}: the earlier rules", flush=True)
