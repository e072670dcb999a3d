"""Step-ups, required proofs and impersonated sessions in every framework."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from serverless_sessions import AnonymousSession, ImpersonatedSession, Impersonator, Sessions
from serverless_sessions._web.guard import local_path, refusal
from tests.client import sites
from tests.client.moving_clock import MovingClock
from tests.client.sites import FRAMEWORKS, Browser
from tests.support import service as faults
from tests.support.django_users import Backend
from tests.support.service import Call, Service

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture
def service(service_in_memory: Service) -> Service:
    return service_in_memory


SITES = FRAMEWORKS | {"Django async": sites.DJANGO_ASYNC}


@pytest.fixture(params=SITES)
def browser(request: pytest.FixtureRequest, service: Service) -> Iterator[Browser]:
    sites.LOG_IN_METHODS[:] = []
    with SITES[request.param](service) as browser:
        yield browser


@pytest.fixture
def sessions(service: Service) -> Iterator[Sessions]:
    with Sessions(service.url, region=service.region, deadline_seconds=60.0) as sessions:
        yield sessions


def passes(call: Call) -> None:
    call.send(call.forward())


def do(browser: Browser, *names: str) -> str:
    for name in names:
        browser.do(name)
    return browser.text


def state(browser: Browser) -> str:
    return do(browser, "state")


def live(service: Service) -> dict[str, Any]:
    """Return the ids of the live sessions by user."""
    return {
        item["UserId"]["S"]: item["SessionId"]["S"]
        for item in service.items()
        if "RevokedAt" not in item and "UserId" in item
    }


def ends(service: Service) -> dict[str, str]:
    """Return the reasons of all revocations by user."""
    return {
        item["UserId"]["S"]: item["RevokedReason"]["S"]
        for item in service.items()
        if "RevokedAt" in item
    }


def methods(service: Service) -> list[str]:
    [item] = [item for item in service.items() if "UserId" in item and "RevokedAt" not in item]
    return [method["S"] for method in item["Methods"]["L"]]


# Step-up


def test_step_up_rotates_the_token_and_records_the_methods(
    browser: Browser, service: Service
) -> None:
    do(browser, "log-in 1")
    former = browser.token()
    service.plan()

    do(browser, "authenticate pwd otp")

    assert [call.rpartition("/")[2] for call in service.calls] == ["verify", "authenticate"]
    assert browser.token() not in (former, None)
    assert methods(service) == ["pwd", "otp"]
    # A request in progress still has the former token, and gets no new cookie.
    assert browser.user(f"{browser.cookie}={former}") == "1"
    assert browser.set_cookies == []


def test_methods_of_a_log_in_come_from_the_app(browser: Browser, service: Service) -> None:
    sites.LOG_IN_METHODS[:] = ["hwk"]
    do(browser, "write", "log-in 1")
    assert methods(service) == ["hwk"]
    do(browser, "regenerate" if browser.cookie == "__Host-session" else "cycle")
    assert methods(service) == ["hwk"]
    assert service.calls.count("POST /sessions") == 2


def test_proof_of_one_user_is_none_of_another(browser: Browser, service: Service) -> None:
    do(browser, "log-in 1")
    assert do(browser, "authenticate-and-log-in 2") == "False"
    assert set(live(service)) == {"2"}
    assert methods(service) == []


def test_only_a_user_can_step_up(browser: Browser, service: Service) -> None:
    for before in ("nothing", "write"):
        do(browser, before)
        with pytest.raises(AnonymousSession):
            do(browser, "authenticate pwd")
    assert "UserId" not in str(service.items())


def test_step_ups_of_one_browser_at_the_same_time(browser: Browser, service: Service) -> None:
    """The second request of a double click has the former token. It keeps its cookie."""
    do(browser, "log-in 1")
    former = browser.token()
    do(browser, "authenticate otp")
    newest = browser.token()

    browser.set_cookie(browser.cookie, former)
    do(browser, "authenticate otp")

    assert browser.set_cookies == []
    assert browser.user(f"{browser.cookie}={newest}") == "1"
    assert methods(service) == ["otp"]


def test_step_up_whose_answer_is_lost_is_made_once(browser: Browser, service: Service) -> None:
    do(browser, "log-in 1")
    service.plan(passes, faults.lose_answer)

    do(browser, "authenticate otp")

    assert browser.open("/guarded/otp", "*/*").status == 200


# What requires a recent proof


def test_recent_user_may_and_another_one_has_to_step_up(
    browser: Browser, clock: MovingClock
) -> None:
    do(browser, "log-in 1")
    assert browser.open("/guarded", HTML).text == "secret"
    clock.ahead = 301
    page = browser.open("/guarded?b=2&c=%2F", HTML)
    assert page.status in (302, 303)
    assert page.location == "/confirm?a=1&next=%2Fguarded%3Fb%3D2%26c%3D%252F"
    do(browser, "log-in 1")  # no step-up
    assert browser.open("/guarded", HTML).location == "/confirm?a=1&next=%2Fguarded"
    do(browser, "authenticate otp")
    assert browser.open("/guarded", HTML).text == "secret"
    assert browser.open("/guarded/otp", HTML).text == "secret"
    do(browser, "authenticate pwd")
    assert browser.open("/guarded/otp", HTML).location == "/confirm?a=1&next=%2Fguarded%2Fotp"


@pytest.mark.parametrize(
    ("method", "accept"), [("GET", "*/*"), ("GET", "application/json"), ("POST", HTML)]
)
def test_script_gets_a_problem(
    browser: Browser, clock: MovingClock, method: str, accept: str
) -> None:
    do(browser, "log-in 1")
    clock.ahead = 301

    answer = browser.open("/guarded", accept, method)

    assert (answer.status, answer.content_type) == (403, "application/problem+json")
    assert json.loads(answer.text) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "The user has to prove again who they are.",
        "code": "insufficient_user_authentication",
        "max_age": 300,
    }


@pytest.mark.parametrize("module", ["django.guard", "flask", "starlette"])
def test_methods_are_checked_when_a_view_is_decorated(module: str) -> None:
    decorate = import_module(f"serverless_sessions.{module}").require_recent
    with pytest.raises(TypeError, match="methods is a collection of names, not a string"):
        decorate(300, methods="otp")
    for wrong in (["OTP"], [""], ["a" * 33], ["otp", "otp"], [str(number) for number in range(9)]):
        with pytest.raises(ValueError, match="methods"):
            decorate(300, methods=wrong)


def test_methods_are_checked_when_they_are_recorded(browser: Browser) -> None:
    do(browser, "log-in 1")
    for wrong in ("OTP", "otp otp"):
        with pytest.raises(ValueError, match="methods are"):
            do(browser, f"authenticate {wrong}")


@pytest.mark.parametrize("reason", ["Ticket", "a" * 65, "token_reuse", "session_limit"])
def test_reason_is_checked_at_the_call(browser: Browser, service: Service, reason: str) -> None:
    do(browser, "log-in 7")
    with pytest.raises(ValueError, match="reason is 1 to 64"):
        do(browser, f"impersonate-because {reason}")
    assert set(live(service)) == {"7"}


def test_nobody_cannot_be_impersonated(browser: Browser) -> None:
    do(browser, "log-in 7")
    with pytest.raises(ValueError, match="no user to impersonate"):
        do(browser, "impersonate-nobody")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("limit", [0, 101, "3", True])
def test_limit_of_sessions_is_checked_at_the_start(
    service: Service, framework: str, limit: Any
) -> None:
    with (
        pytest.raises(ValueError, match="max_sessions is 1 to 100"),
        FRAMEWORKS[framework](service, max_sessions=limit) as browser,
    ):
        do(browser, "who")


def test_nobody_is_logged_in(browser: Browser) -> None:
    for before in ("nothing", "write"):
        do(browser, before)
        answer = browser.open("/guarded", HTML)
        if isinstance(browser, sites.DjangoBrowser):
            assert (answer.status, answer.location) == (302, "/accounts/login/?next=/guarded")
        else:
            assert (answer.status, answer.location) == (401, None)


@pytest.mark.parametrize("app", ["Starlette", "FastAPI"])
@pytest.mark.parametrize("handler", ["default", "own"])
def test_mounted_app_and_middleware_answer_what_the_app_does(
    service: Service, clock: MovingClock, app: str, handler: str
) -> None:
    """Their own handlers of exceptions come before those of the app and of the middleware."""
    with sites.mounted(service, app, has_own_handler=handler == "own") as client:
        client.get("/log-in")
        clock.ahead = 301
        page, script = [
            client.get("/mounted/guarded", headers={"Accept": accept}, follow_redirects=False)
            for accept in (HTML, "*/*")
        ]
        if handler == "own":
            assert (page.text, script.text) == ("own 303", "own 403")
            return
        assert page.status_code == 303
        assert page.headers["location"] == "/confirm?a=1&next=%2Fmounted%2Fguarded"
        assert script.status_code == 403
        assert script.headers["content-type"] == "application/problem+json"
        assert script.json()["code"] == "insufficient_user_authentication"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/a/b?c=%20&d=1#e", "/a/b?c=%20&d=1#e"),
        ("/", "/"),
        (None, "/default"),
        ("", "/default"),
        ("a", "/default"),
        ("//evil.example", "/default"),
        ("/\\evil.example", "/default"),
        ("/a\\b", "/default"),
        ("/\t/evil.example", "/default"),
        ("/\n/evil.example", "/default"),
        ("/a\n", "/default"),
        ("\\/evil.example", "/default"),
        (" /a", "/default"),
        ("https://evil.example/", "/default"),
        ("javascript:alert(1)", "/default"),
        ("/ä", "/default"),
    ],
)
def test_local_path(text: str | None, path: str) -> None:
    assert local_path(text, "/default") == path


@pytest.mark.parametrize(
    ("changes", "location"),
    [
        ({}, "/confirm?next=%2Fa"),
        ({"accept": "application/json, Text/HTML ; q=0.5"}, "/confirm?next=%2Fa"),
        ({"accept": "text/html;q=0"}, None),
        ({"accept": "text/html;q=0.000"}, None),
        ({"accept": "text/*"}, None),
        ({"accept": ""}, None),
        ({"method": "HEAD"}, None),
        ({"step_up_url": None}, None),
        ({"is_impersonated": True}, None),
        ({"path": "/a\\b\n c"}, "/confirm?next=%2Fa%255Cb%250A%2520c"),
        ({"path": "//evil.example"}, "/confirm?next=%2Fevil.example"),
        ({"query": "a\\b"}, "/confirm?next=%2Fa%3Fa%255Cb"),
        ({"query": "a=%2F&b=ä"}, "/confirm?next=%2Fa%3Fa%3D%252F%26b%3D%25C3%25A4"),
        ({"query": "'[]{}|^`~"}, "/confirm?next=%2Fa%3F%27%5B%5D%7B%7D%7C%5E%60~"),
    ],
)
def test_where_a_refused_request_is_sent(changes: dict[str, Any], location: str | None) -> None:
    arguments: dict[str, Any] = {
        "is_impersonated": False,
        "step_up_url": "/confirm",
        "method": "GET",
        "accept": "text/html",
        "path": "/a",
        "query": "",
    }
    assert refusal(300, ["otp"], **arguments | changes).location == location


# Impersonation


def test_agent_acts_as_a_user_and_returns(
    browser: Browser, service: Service, sessions: Sessions
) -> None:
    do(browser, "log-in 7", "write")
    agent = browser.token()
    service.plan()

    do(browser, "impersonate 1 7")

    assert service.calls == ["POST /sessions/verify", "POST /sessions"]
    assert browser.cookies() == {
        browser.cookie: browser.token(),
        browser.impersonator_cookie: agent,
    }
    kinds = [line.partition("=")[2].partition(";")[2].lower() for line in browser.set_cookies]
    attributes = [{part.strip() for part in kind.split(";")} for kind in kinds]
    assert all({"secure", "httponly", "samesite=lax", "path=/"} <= names for names in attributes)
    assert state(browser) == "1, by 7 ticket-42, a=None"
    do(browser, "write", "write")
    assert state(browser) == "1, by 7 ticket-42, a=2"
    session = sessions.get(live(service)["1"])
    assert session.absolute_expires_at - session.created_at == 3600
    assert agent
    assert agent not in str(session.data)
    answer = browser.open("/guarded", HTML)
    assert answer.status == 403
    assert json.loads(answer.text)["detail"] == "Somebody who acts as the user may not do this."

    assert do(browser, "stop") == "True"

    assert browser.cookies() == {browser.cookie: agent}
    assert ends(service) == {"1": "impersonation_stopped"}
    assert state(browser) == "7, by None, a=1"
    assert browser.open("/guarded", HTML).status == 200
    assert do(browser, "stop") == "False"
    assert state(browser) == "7, by None, a=1"


def test_impersonated_session_can_be_rotated_but_not_stepped_up(
    browser: Browser, service: Service
) -> None:
    do(browser, "log-in 7", "impersonate 1 7")
    before = browser.cookies()
    do(browser, "regenerate" if browser.cookie == "__Host-session" else "cycle")
    after = browser.cookies()
    assert after[browser.cookie] != before[browser.cookie]
    assert after[browser.impersonator_cookie] == before[browser.impersonator_cookie]
    for name in ("authenticate pwd", "impersonate 2 7", "impersonate 2 1"):
        service.plan()
        with pytest.raises(ImpersonatedSession):
            do(browser, name)
        assert set(service.calls) == {"POST /sessions/verify"}
    assert state(browser) == "1, by 7 ticket-42, a=None"


@pytest.mark.parametrize("before", ["nothing", "write"])
def test_nobody_can_impersonate_without_a_log_in(browser: Browser, before: str) -> None:
    do(browser, before)
    with pytest.raises(AnonymousSession):
        do(browser, "impersonate 1 7")


def test_by_is_the_user_of_the_session(browser: Browser, service: Service) -> None:
    do(browser, "log-in 7")
    with pytest.raises(ValueError, match="by is not the user"):
        do(browser, "impersonate 1 8")
    assert set(live(service)) == {"7"}


def test_log_out_ends_both_sessions(browser: Browser, service: Service) -> None:
    """Whoever logs out wants nobody to be signed in, least of all a support agent."""
    do(browser, "log-in 7", "impersonate 1 7", "write", "log-out")

    assert ends(service) == {"7": "logout", "1": "logout"}
    assert browser.cookie not in browser.cookies()
    assert browser.impersonator_cookie not in browser.cookies()
    assert do(browser, "who") == "None"
    assert do(browser, "stop") == "False"


def test_log_in_as_somebody_else_ends_both_sessions(browser: Browser, service: Service) -> None:
    do(browser, "log-in 7", "impersonate 1 7", "log-in 2")

    assert set(live(service)) == {"2"}
    assert browser.impersonator_cookie not in browser.cookies()
    assert state(browser) == "2, by None, a=None"


@pytest.mark.parametrize("cookie", ["kept", "gone"])
@pytest.mark.parametrize("meanwhile", ["nothing", "write"])
def test_agent_returns_explicitly_after_the_impersonated_session_has_expired(
    browser: Browser, service: Service, sessions: Sessions, cookie: str, meanwhile: str
) -> None:
    """Otherwise what they meant to do as the user would be done in their own name."""
    do(browser, "log-in 7")
    agent = browser.token()
    do(browser, "impersonate 1 7")
    sessions.revoke(live(service)["1"])
    if cookie == "gone":
        browser.set_cookie(browser.cookie, None)

    assert do(browser, "who") == "None"
    assert browser.open("/guarded", "*/*").status in (302, 401)
    do(browser, meanwhile)  # "write" makes a visitor's session
    assert do(browser, "stop") == "True"
    assert browser.cookies() == {browser.cookie: agent}
    assert state(browser) == "7, by None, a=None"


@pytest.mark.parametrize("cookie", ["kept", "gone"])
def test_log_in_after_the_expiry_ends_the_agents_session(
    browser: Browser, service: Service, sessions: Sessions, cookie: str
) -> None:
    do(browser, "log-in 7", "impersonate 1 7")
    sessions.revoke(live(service)["1"])
    if cookie == "gone":
        browser.set_cookie(browser.cookie, None)
    do(browser, "log-in 2")

    assert set(live(service)) == {"2"}
    assert browser.impersonator_cookie not in browser.cookies()


@pytest.mark.parametrize("framework", ["Flask", "Starlette"])
@pytest.mark.parametrize("meanwhile", ["nothing", "write"])
@pytest.mark.parametrize("log_out", ["clear", "pop"])
def test_log_out_after_the_expiry_ends_the_agents_session(
    service: Service, sessions: Sessions, framework: str, meanwhile: str, log_out: str
) -> None:
    with FRAMEWORKS[framework](service) as browser:
        do(browser, "log-in 7", "impersonate 1 7")
        sessions.revoke(live(service)["1"])
        do(browser, meanwhile, log_out)

        assert live(service) == {}
        assert browser.impersonator_cookie not in browser.cookies()
        assert do(browser, "stop") == "False"


def test_log_out_in_the_request_of_the_impersonation(browser: Browser, service: Service) -> None:
    do(browser, "log-in 7", "impersonate-and-log-out 1 7")

    assert live(service) == {}
    assert browser.cookies() == {}


@pytest.mark.parametrize("log_in", ["log-in 1", "authenticate-after-log-in 1"])
def test_log_in_as_the_impersonated_user_ends_both_sessions(
    browser: Browser, service: Service, log_in: str
) -> None:
    do(browser, "log-in 7", "impersonate 1 7")
    former = live(service)["1"]

    do(browser, log_in)

    assert set(live(service)) == {"1"}
    assert live(service)["1"] != former
    assert ends(service) == {"1": "signed_in", "7": "signed_in"}
    assert browser.impersonator_cookie not in browser.cookies()
    assert state(browser) == "1, by None, a=None"
    assert methods(service) == (["otp"] if "authenticate" in log_in else [])
    assert browser.open("/guarded", HTML).status == 200


def test_stop_in_a_thread_of_starlette_says_how(service: Service) -> None:
    """The call would otherwise return a coroutine that nobody awaits, and stop nothing."""
    with FRAMEWORKS["Starlette"](service) as browser:
        do(browser, "log-in 7", "impersonate 1 7")
        with pytest.raises(RuntimeError, match=r"from_thread\.run\(session\.stop_impersonating\)"):
            do(browser, "stop in thread")
        assert do(browser, "stop from thread") == "True"
        assert state(browser) == "7, by None, a=None"


def test_impersonated_session_does_not_outlast_the_agents(
    browser: Browser, service: Service, sessions: Sessions
) -> None:
    """To sign the agent out everywhere also ends what they do as other users."""
    do(browser, "log-in 7", "impersonate 1 7")
    sessions.revoke_all("7")

    assert do(browser, "who") == "None"
    assert browser.set_cookies == []
    assert do(browser, "stop") == "False"
    assert do(browser, "who") == "None"


@pytest.mark.parametrize("password", [None, "changed"])
@pytest.mark.parametrize("meanwhile", ["nothing", "expired"])
@pytest.mark.parametrize("views", ["Django", "Django async"])
def test_agent_whom_django_would_sign_out_no_longer_acts_as_the_user(
    service: Service,
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    views: str,
    meanwhile: str,
    password: str | None,
) -> None:
    original = Backend.get_user

    def get_user(backend: Backend, user_id: int) -> object:
        """Return no user who is deleted or inactive."""
        user = original(backend, user_id)
        if user_id == 7:
            user.password = password or ""
        return None if user_id == 7 and password is None else user

    with SITES[views](service) as browser:
        do(browser, "log-in 7", "impersonate 1 7")
        if meanwhile == "expired":
            sessions.revoke(live(service)["1"])
        monkeypatch.setattr(Backend, "get_user", get_user)

        assert do(browser, "stop") == "False"

        assert live(service) == {}
        assert browser.cookies() == {}
        monkeypatch.undo()
        do(browser, "log-in 7", "impersonate 1 7")
        monkeypatch.setattr(Backend, "get_user", get_user)
        assert do(browser, "state") == "None, by None, a=None"
        assert live(service) == {}


@pytest.mark.parametrize("is_known", [True, False])
def test_agent_is_checked_under_asgi(
    service: Service, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """A session whose request is not one of WSGI runs its calls on the event loop."""
    with SITES["Django"](service) as browser:
        do(browser, "log-in 7", "impersonate 1 7")
        original = Backend.get_user
        if not is_known:
            monkeypatch.setattr(
                Backend,
                "get_user",
                lambda backend, user_id: None if user_id == 7 else original(backend, user_id),
            )
        cookies = browser.cookies()
        user = asyncio.run(
            sites.django_user(cookies[browser.cookie], cookies[browser.impersonator_cookie])
        )
        assert user == ("1" if is_known else None)
        assert set(live(service)) == ({"1", "7"} if is_known else set())


def test_foreign_session_does_not_vouch_for_an_impersonated_one(
    browser: Browser, sessions: Sessions, service: Service
) -> None:
    do(browser, "log-in 7", "impersonate 1 7")
    agent = browser.cookies()[browser.impersonator_cookie]
    impersonated = browser.cookies()[browser.cookie]
    foreign = sessions.create("8").token
    visitor = sessions.create().token
    for value in (foreign, visitor, impersonated, f"{agent[:-1]}!", "nonsense", None):
        browser.set_cookie(browser.impersonator_cookie, value)
        assert do(browser, "who") == "None"
        assert do(browser, "stop") == "False"
        assert do(browser, "who") == "None"
    browser.set_cookie(browser.impersonator_cookie, agent)
    assert state(browser) == "1, by 7 ticket-42, a=None"


@pytest.mark.parametrize("kind", ["visitor", "impersonated", "forged"])
def test_nobody_returns_to_a_session_that_is_no_agents(
    browser: Browser, sessions: Sessions, kind: str
) -> None:
    tokens = {
        "visitor": sessions.create().token,
        "impersonated": sessions.create("1", impersonator=Impersonator("7", "x")).token,
        "forged": f"{'A' * 12}.{'B' * 27}",
    }
    browser.set_cookie(browser.impersonator_cookie, tokens[kind])
    assert do(browser, "stop") == "False"
    assert do(browser, "who") == "None"


def test_stale_cookie_of_an_agent_is_ignored_and_deleted_at_the_log_out(
    browser: Browser, sessions: Sessions, service: Service
) -> None:
    do(browser, "log-in 1")
    browser.set_cookie(browser.impersonator_cookie, sessions.create("7").token)
    service.plan()

    assert do(browser, "who") == "1"
    assert service.calls == ["POST /sessions/verify"]
    assert do(browser, "stop") == "False"
    do(browser, "log-out")
    assert browser.impersonator_cookie not in browser.cookies()
    assert set(live(service)) == {"7"}


def test_double_click_on_stop(browser: Browser, service: Service) -> None:
    """The second request still has the cookies of the impersonated session."""
    do(browser, "log-in 7", "impersonate 1 7")
    cookies = browser.cookies()
    do(browser, "stop")
    after = browser.cookies()
    for name, value in cookies.items():
        browser.set_cookie(name, value)

    assert do(browser, "stop") == "True"

    assert browser.cookies() == after
    assert state(browser) == "7, by None, a=None"


def test_outage_while_stopping_changes_nothing(browser: Browser, service: Service) -> None:
    do(browser, "log-in 7", "impersonate 1 7")
    before = browser.cookies()
    service.plan(passes, passes, always=faults.reset)
    with pytest.raises(AssertionError):
        do(browser, "stop")
    service.plan()
    assert browser.cookies() == before
    assert state(browser) == "1, by 7 ticket-42, a=None"


@pytest.mark.parametrize(
    ("framework", "before", "agents_age"),
    [
        ("Django", "nothing", 34_560_000),
        ("Django", "expire 0", None),
        ("Flask", "nothing", None),
        ("Flask", "permanent", 86_400),
        ("Starlette", "nothing", 34_560_000),
    ],
)
def test_cookies_are_kept_beyond_the_browsers_end_only_if_the_agents_is(
    service: Service, framework: str, before: str, agents_age: int | None
) -> None:
    with FRAMEWORKS[framework](service) as browser:
        do(browser, "log-in 7", before)
        for name in ("impersonate 1 7", "stop"):
            do(browser, name)
            ages = [
                int(match[1])
                for line in browser.set_cookies
                for match in [re.search("max-age=([0-9]+)", line, re.IGNORECASE)]
                if match and match[1] != "0"
            ]
            expected = [3600, agents_age] if name != "stop" else [agents_age]
            assert [*map(round_up, sorted(ages))] == (expected if agents_age else [])


def round_up(seconds: int) -> int:
    """Return the time without the seconds that have passed on a busy machine."""
    return -(-seconds // 600) * 600
