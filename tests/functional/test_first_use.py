"""The first use of a rotated token is recorded, and begins the former token's grace period."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from io import StringIO
from types import ModuleType
from typing import Any

import pytest

from dynamodb.errors import RequestRefused, TransientError
from sessions.rotation import Rotation
from sessions.store import SessionStore
from sessions.token import Token
from tests.support.api import BY_OTHER, NOW, Answer, Api
from tests.support.backend import ON_BOTH
from tests.support.functions import ROLE, lambda_context
from tests.support.seam import seam
from tests.support.tokens import id_of, is_authorized, rotate, successor, token_of, verify

# The two clients differ most in binary values and failed conditions.
pytestmark = ON_BOTH


class Tokens:
    """The newest token of a session, which nobody has used yet, and the former one."""

    def __init__(self, api: Api, **fields: Any) -> None:
        self.former = api.log_in(data={"a": 1}, **fields)
        self.newest = successor(api, self.former)
        self.session_id = id_of(self.former)
        self.rotated_at = api.clock.now

    def rotate(self, other: SessionStore, token: Token, grace_seconds: int) -> None:
        """Rotate as another caller, for the owner of the newest token."""
        rotation = Rotation(
            token.hashes, Token.parse(self.newest), grace_seconds, retired_seconds=30
        )
        other.rotate(self.session_id, rotation, by=BY_OTHER)


@pytest.fixture
def tokens(api: Api) -> Tokens:
    return Tokens(api)


def after_the_read(act: Callable[[], object]) -> None:
    """Call `act` once, between the first request and the next one."""

    def after() -> None:
        seam.after = lambda: None
        act()

    seam.after = after


def fail_writes(error: Exception) -> None:
    def before() -> None:
        if seam.calls[-1][0] == "UpdateItem":
            raise error

    seam.before = before


def assert_marked(item: Any, at: int) -> None:
    assert "PreviousTokenGrace" not in item
    assert item["PreviousTokenUntil"] == {"N": str(at + 30)}


@pytest.mark.parametrize("options", [{}, {"renew": True}, {"renew": False}])
def test_verify_marks_the_newest_token_once(
    api: Api, tokens: Tokens, stored: Any, options: dict[str, Any]
) -> None:
    """The token is marked even if no renewal is due.

    A client that reads the table itself calls `verify` for this.
    """
    before = stored(tokens.session_id)
    api.clock.now += 100

    answer = verify(api, tokens.newest, **options)

    assert (answer.status, answer.json["expires_at"]) == (200, NOW + 1800)
    assert api.requests == ["GetItem", "UpdateItem"]
    item = stored(tokens.session_id)
    assert_marked(item, NOW + 100)
    changed = {name for name in before | item if before.get(name) != item.get(name)}
    assert changed == {"PreviousTokenUntil", "PreviousTokenGrace", "RequestId"}
    assert verify(api, tokens.newest, **options).json == answer.json
    assert api.requests == ["GetItem"]
    assert stored(tokens.session_id) == item


@pytest.mark.parametrize("client", [{}, {"ip": "203.0.113.7"}])
def test_mark_and_a_renewal_that_is_due_are_one_write(
    api: Api, tokens: Tokens, stored: Any, client: dict[str, str]
) -> None:
    api.clock.now += 600

    answer = verify(api, tokens.newest, client=client)

    assert api.requests == ["GetItem", "UpdateItem"]
    assert (answer.json["expires_at"], answer.json["last_client"]) == (NOW + 2400, client)
    item = stored(tokens.session_id)
    assert_marked(item, NOW + 600)
    assert item["RenewedAt"] == {"N": str(NOW + 600)}


def test_mark_without_renew_neither_renews_nor_stores_the_client(api: Api, stored: Any) -> None:
    """With `renew` false, a renewal that is due is not made, and `client` is not stored."""
    tokens = Tokens(api)
    api.clock.now += 600

    answer = verify(api, tokens.newest, renew=False, client={"ip": "203.0.113.7"})

    assert (answer.json["expires_at"], answer.json["last_client"]) == (NOW + 1800, {})
    assert_marked(stored(tokens.session_id), NOW + 600)


def test_mark_within_the_last_window_renews_to_the_absolute_end(api: Api, stored: Any) -> None:
    tokens = Tokens(api, ttl_seconds=600, absolute_ttl_seconds=700)
    api.clock.now += 300

    assert verify(api, tokens.newest).json["expires_at"] == NOW + 700
    assert api.requests == ["GetItem", "UpdateItem"]
    assert_marked(stored(tokens.session_id), NOW + 300)


def test_authorizer_marks_the_newest_token_once(
    api: Api, authorizer: ModuleType, tokens: Tokens, stored: Any
) -> None:
    """The write has the authorizer's name, and never renews."""
    api.clock.now += 600
    seam.calls.clear()

    assert is_authorized(authorizer, tokens.newest)

    assert api.requests == ["GetItem", "UpdateItem"]
    item = stored(tokens.session_id)
    assert_marked(item, NOW + 600)
    assert item["ExpirationTime"] == {"N": str(NOW + 1800)}
    assert item["Actor"] == {"S": ROLE}
    assert item["RequestId"] == {"S": lambda_context().aws_request_id}
    assert item["Data"] == {"M": {"a": {"N": "1"}}}
    seam.calls.clear()
    assert is_authorized(authorizer, tokens.newest)
    assert api.requests == ["GetItem"]


@pytest.mark.parametrize("anonymous", [True, False])
def test_authorizer_marks_tokens_of_anonymous_sessions_too(
    api: Api,
    authorizer: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    stored: Any,
    anonymous: bool,
) -> None:
    """A setting decides whether it accepts them. The token has been used in any case."""
    monkeypatch.setattr(authorizer, "authorize_anonymous", anonymous)
    newest = successor(api, api.log_in(None))

    assert is_authorized(authorizer, newest) is anonymous
    assert_marked(stored(id_of(newest)), NOW)


def test_former_token_marks_nothing(
    api: Api, authorizer: ModuleType, tokens: Tokens, stored: Any
) -> None:
    """The caller may never have received the newest token."""
    before = stored(tokens.session_id)
    api.clock.now += 100

    assert verify(api, tokens.former).status == 200
    assert is_authorized(authorizer, tokens.former)
    assert api.requests == ["GetItem", "GetItem"]
    assert stored(tokens.session_id) == before
    api.clock.now += 100
    assert verify(api, tokens.former).json["expires_at"] == NOW + 200 + 1800
    assert stored(tokens.session_id)["PreviousTokenGrace"] == {"N": "30"}


def test_first_token_of_a_session_needs_no_mark(api: Api, authorizer: ModuleType) -> None:
    token = api.log_in()

    assert verify(api, token).status == 200
    assert api.requests == ["GetItem"]
    assert is_authorized(authorizer, token)
    assert api.requests == ["GetItem", "GetItem"]


def test_token_of_a_rotation_without_a_grace_needs_no_mark(api: Api) -> None:
    newest = successor(api, api.log_in(), grace_seconds=0)

    assert verify(api, newest).status == 200
    assert api.requests == ["GetItem"]


# A failed write does not make the token invalid.

TROUBLE = [
    (TransientError("ThrottlingException"), "ThrottlingException"),
    (TransientError("TimeoutError"), "TimeoutError"),
    (RequestRefused("AccessDeniedException", "", {}), "AccessDeniedException"),
    (RequestRefused("ValidationException", "Item size to update", {}), "DocumentTooLarge"),
]


@pytest.mark.parametrize(("failure", "cause"), TROUBLE)
@pytest.mark.parametrize("after", [10, 600])
def test_newest_token_is_good_though_its_mark_fails(
    api: Api,
    tokens: Tokens,
    stored: Any,
    logged: StringIO,
    after: int,
    failure: Exception,
    cause: str,
) -> None:
    """This is tested with and without a renewal. The next request marks the token."""
    before = stored(tokens.session_id)
    api.clock.now += after
    fail_writes(failure)

    answer = verify(api, tokens.newest)

    assert (answer.status, answer.json["expires_at"]) == (200, NOW + 1800)
    assert stored(tokens.session_id) == before
    [line] = map(json.loads, logged.getvalue().splitlines())
    assert (line["level"], line["cause"]) == ("WARNING", cause)
    seam.before = lambda: None
    assert verify(api, tokens.newest).status == 200
    assert_marked(stored(tokens.session_id), api.clock.now)


@pytest.mark.parametrize(("failure", "cause"), TROUBLE)
def test_authorizer_lets_the_newest_token_in_though_its_mark_fails(
    api: Api,
    authorizer: ModuleType,
    tokens: Tokens,
    stored: Any,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    cause: str,
) -> None:
    before = stored(tokens.session_id)
    fail_writes(failure)

    with caplog.at_level(logging.INFO):
        assert is_authorized(authorizer, tokens.newest)

    assert stored(tokens.session_id) == before
    [line] = caplog.records
    assert (line.message, line.__dict__["cause"]) == ("first use not marked", cause)
    assert tokens.newest.partition(".")[2] not in repr(line.__dict__)
    seam.before = lambda: None
    assert is_authorized(authorizer, tokens.newest)
    assert_marked(stored(tokens.session_id), api.clock.now)


# Between the read and the mark.

Door = Callable[[Api, ModuleType, str], bool]


def by_verify(api: Api, _: ModuleType, token: str) -> bool:
    answer: Answer = verify(api, token)
    assert answer.status in (200, 401)
    return answer.status == 200


def by_authorizer(_: Api, authorizer: ModuleType, token: str) -> bool:
    return is_authorized(authorizer, token)


both_doors = pytest.mark.parametrize("is_let_in", [by_verify, by_authorizer])


@both_doors
@pytest.mark.parametrize("grace_seconds", [0, 9, 30])
def test_token_that_is_rotated_before_its_mark_is_checked_again(
    api: Api,
    authorizer: ModuleType,
    tokens: Tokens,
    other: SessionStore,
    stored: Any,
    is_let_in: Door,
    grace_seconds: int,
) -> None:
    """The token has become the former one. It is valid, or without a grace period refused, which is
    not a theft.

    If both rotations have the same grace period and happen in the same second, only the hashes
    differ.
    """
    new = Token.issue(tokens.session_id)
    after: list[Any] = []

    def rotate_it() -> None:
        tokens.rotate(other, new, grace_seconds)
        after.append(stored(tokens.session_id))

    after_the_read(rotate_it)

    assert is_let_in(api, authorizer, tokens.newest) is bool(grace_seconds)
    assert [stored(tokens.session_id)] == after
    unseen = {"N": str(grace_seconds)} if grace_seconds else None
    assert after[0].get("PreviousTokenGrace") == unseen


@both_doors
def test_token_that_is_marked_twice_at_once_is_marked_once(
    api: Api,
    authorizer: ModuleType,
    tokens: Tokens,
    other: SessionStore,
    stored: Any,
    is_let_in: Door,
) -> None:
    """The second mark would extend the grace period of the former token."""
    newest = Token.parse(tokens.newest)
    assert newest

    def mark() -> None:
        other.verify(newest, renew=False, renewal_fraction=1, client={}, by=BY_OTHER)
        api.clock.now += 5

    after_the_read(mark)

    assert is_let_in(api, authorizer, tokens.newest)
    assert_marked(stored(tokens.session_id), NOW)


@both_doors
def test_session_that_ends_before_the_mark_is_refused(
    api: Api,
    authorizer: ModuleType,
    tokens: Tokens,
    other: SessionStore,
    stored: Any,
    is_let_in: Door,
) -> None:
    """The mark does not make the session live again."""
    after_the_read(lambda: other.revoke(tokens.session_id, reason="first", by=BY_OTHER))

    assert not is_let_in(api, authorizer, tokens.newest)
    assert stored(tokens.session_id)["RevokedReason"] == {"S": "first"}
    assert "PreviousTokenUntil" not in stored(tokens.session_id)


@both_doors
def test_session_that_expires_before_the_mark_is_refused(
    api: Api, authorizer: ModuleType, tokens: Tokens, stored: Any, is_let_in: Door
) -> None:
    before = stored(tokens.session_id)
    api.clock.now = NOW + 1799
    after_the_read(lambda: setattr(api.clock, "now", NOW + 1800))

    assert not is_let_in(api, authorizer, tokens.newest)
    assert stored(tokens.session_id) == before


def test_mark_is_kept_though_a_rotation_in_progress_began_before_it(
    api: Api, tokens: Tokens, stored: Any
) -> None:
    """The grace period is not shortened, because the newest token replaces the former one."""
    verify(api, tokens.newest)
    third = token_of(rotate(api, tokens.session_id, token=tokens.newest))

    assert verify(api, tokens.newest).status == 200
    assert verify(api, tokens.former).status == 401
    assert api.requests == ["GetItem"]
    assert verify(api, third).status == 200
    assert_marked(stored(tokens.session_id), NOW)
