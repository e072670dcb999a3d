"""Which cookies of a request are used, and how often their tokens are verified."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from serverless_sessions._core.calls import Answer
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.secret import Secret
from serverless_sessions._web.cookies import Cookie, read_tokens
from serverless_sessions._web.session import WebSession
from tests.client.sites import FRAMEWORKS, Browser
from tests.support.service import Service

A, B, C, D = (f"{letter * 12}.{letter * 27}" for letter in "ABCD")
# Python treats these characters as white space. For a browser they are part of a name.
STRANGE = ("\u2000", "\u00a0", "\u0085", "\u3000", "\u2028", "\x1c", "\x0b", "\x0c")


@pytest.mark.parametrize(
    ("header", "tokens"),
    [
        ("", []),
        (f"session={A}", [A]),
        (f"other=1; session={A};session={B}", [A, B]),
        (f" \tsession={A}\t ; x", [A]),
        (f"session={A}; session={A}", [A]),
        (f"session={A}; session={B}; session={C}; session={D}", [A, B, C]),
        (f"session=nonsense; session={B}", [B]),
        (f"Session={A}; sessions={B}; session ={C}", []),
        (f'session="{A}"', []),
        *((f"{strange}session={A}", []) for strange in STRANGE),
        *((f"session{strange}={A}", []) for strange in STRANGE),
        *((f"x=1;{strange}session={A}; session={B}", [B]) for strange in STRANGE),
    ],
)
def test_tokens_of_a_cookie_header(header: str, tokens: list[str]) -> None:
    """Names are compared exactly, because a subdomain can set a cookie with a similar name."""
    assert read_tokens(header, "session") == tokens


def test_cookie_of_an_expired_session_is_not_deleted() -> None:
    """A `Max-Age` of 0 would delete the cookie after a slow response, or with a fast clock."""
    operations = Operations(
        "http://localhost",
        "us-east-1",
        deadline_seconds=1,
        verify_deadline_seconds=1,
        sign_out_deadline_seconds=1,
        reader=None,
    )
    web = WebSession(
        operations,
        [],
        client=None,
        user_of=lambda values: "ada",
        dumps=json.dumps,
        loads=json.loads,
    )
    now = int(time.time())
    session_id = web.prepare_session()[:12]
    session = {
        "session_id": session_id, "user_id": "ada", "data": {}, "version": 1,
        "client": {}, "last_client": {},
        "created_at": now - 70, "renewed_at": now - 70, "ttl_seconds": 60,
        "expires_at": now - 10, "absolute_expires_at": now - 10,
    }  # fmt: skip
    plan = web.save(Secret({"a": 1}), ttl_seconds=60)
    next(plan)
    with pytest.raises(StopIteration):
        plan.send(Answer(201, {}, json.dumps(session).encode()))

    [change] = web.cookie_changes()
    assert change.token
    assert (change.cookie, change.token.value, change.max_age) == (Cookie.USER, web.token, 1)


@pytest.fixture(params=FRAMEWORKS)
def browser(request: pytest.FixtureRequest, service: Service) -> Iterator[Browser]:
    with FRAMEWORKS[request.param](service) as browser:
        yield browser


def test_planted_cookie_of_the_same_name_signs_nobody_out(browser: Browser) -> None:
    """A browser also sends cookies of a longer path or another domain, in any order."""
    browser.do("log-in 1")
    token, name = browser.token(), browser.cookie
    for header in (
        f"{name}={token}",
        f"{name}={A}; {name}={token}",
        f"{name}={token}; {name}={A}",
        f"{name}=nonsense; {name}=; {name}={A}; {name}={B}; {name}={token}",
    ):
        assert browser.user(header) == "1"
        assert browser.set_cookies == []


@pytest.mark.parametrize("strange", ["\u2000", "\u00a0", "\u0085"])
def test_cookie_with_a_similar_name_signs_nobody_in(browser: Browser, strange: str) -> None:
    """A browser sends the name as UTF-8, and a web server decodes it as Latin-1."""
    browser.do("log-in 1")
    planted = f"{strange}{browser.cookie}={browser.token()}".encode().decode("latin-1")

    assert browser.user(planted) == "None"


def test_visitors_token_is_invalid_in_the_users_cookie(browser: Browser, service: Service) -> None:
    """If visitors have a separate cookie, either cookie is valid for its kind of session only."""
    browser.do("write")
    visitor = browser.token()
    service.plan()

    assert browser.user(f"{browser.cookie}={visitor}") == "None"
    assert browser.set_cookies == []


@pytest.mark.parametrize("name", ["read at once", "read in tasks"])
def test_session_is_loaded_once(browser: Browser, service: Service, name: str) -> None:
    """Several threads or tasks need the session at the same time."""
    browser.do("log-in 1")
    service.plan()

    browser.do(name)

    assert service.calls == ["POST /sessions/verify"]
