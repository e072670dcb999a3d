"""What the guide says of a request, row by row, on each framework."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import django
import pytest
from django.conf import settings
from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import path
from flask import Flask
from flask import session as flask_session
from flask.testing import FlaskClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serverless_sessions import AsyncSessions
from serverless_sessions.flask import ServerlessSessions
from serverless_sessions.starlette import SessionMiddleware, load_session
from tests.client.service import Service
from tests.template import ROOT

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests",
        USE_TZ=True,
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    )
    django.setup()

from tests.simulation.django_urls import BACKEND, Backend  # noqa: E402  # needs the settings

_CALLS = {
    "POST /sessions/verify": "verify",
    "POST /sessions": "create",
    "PATCH /sessions/{id}": "change",
    "DELETE /sessions/{id}": "revoke",
    "POST /sessions/{id}/renew": "renew",
    "POST /sessions/{id}/rotate": "rotate",
}


class Row(NamedTuple):
    """A row of the guide's table."""

    request: str
    frameworks: str
    calls: list[str]
    token: str
    cookie: str


def _rows() -> list[Row]:
    guide = (ROOT / "docs/integrating.md").read_text()
    section = guide.partition("## What a request does\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return [
        Row(request, where, re.findall("`(.*?)`", calls), token, cookie)
        for request, where, calls, token, cookie in cells[2:]
    ]


class Browser:
    """A browser of an app whose view `/do/<name>` does what `name` says with the session.

    `set_cookies` are the last answer's Set-Cookie headers.
    """

    set_cookies: list[str]

    def do(self, name: str) -> None:
        raise NotImplementedError

    def token(self) -> str | None:
        """The token in the cookie that counts: the user's, else the visitor's."""
        raise NotImplementedError


class DjangoBrowser(Browser):
    def __init__(self) -> None:
        self.client = DjangoClient()

    def do(self, name: str) -> None:
        answer = self.client.get(f"/do/{name}", secure=True)
        assert answer.status_code == 200
        self.set_cookies = [morsel.OutputString() for morsel in answer.cookies.values()]

    def token(self) -> str | None:
        cookie = self.client.cookies.get(settings.SESSION_COOKIE_NAME)
        return (cookie.value or None) if cookie else None


class FlaskBrowser(Browser):
    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def do(self, name: str) -> None:
        answer = self.client.get(f"/do/{name}")
        assert answer.status_code == 200
        self.set_cookies = answer.headers.getlist("Set-Cookie")

    def token(self) -> str | None:
        for name in ("session", "visitor"):
            cookie = self.client.get_cookie(f"__Host-{name}")
            if cookie:
                return cookie.value
        return None


class StarletteBrowser(Browser):
    def __init__(self, client: TestClient) -> None:
        self.client = client

    def do(self, name: str) -> None:
        answer = self.client.get(f"/do/{name}")
        assert answer.status_code == 200
        self.set_cookies = answer.headers.get_list("set-cookie")

    def token(self) -> str | None:
        cookies = self.client.cookies
        return cookies.get("__Host-session") or cookies.get("__Host-visitor")


# By the name of a view: what it does to a session.
_ACTIONS: dict[str, Callable[[Any], object]] = {
    "nothing": lambda session: None,
    "read": lambda session: session.get("a"),
    "write": lambda session: session.update({"a": session.get("a", 0) + 1}),
    "clear": lambda session: session.clear(),
    "cycle": lambda session: session.cycle_key(),
    "flush": lambda session: session.flush(),
    "expire 600": lambda session: session.set_expiry(600),
    "expire 0": lambda session: session.set_expiry(0),
    "regenerate": lambda session: session.regenerate(),
    "permanent": lambda session: setattr(session, "permanent", True),
}


def do(request: HttpRequest, name: str) -> HttpResponse:
    """Django's view."""
    match name.split():
        case ["log-in", user]:
            auth.login(request, Backend().get_user(int(user)), BACKEND)
        case ["log-out"]:
            auth.logout(request)
        case _:
            _ACTIONS[name](request.session)
    return HttpResponse()


urlpatterns = [path("do/<name>", do)]


@contextmanager
def _django(service: Service) -> Iterator[Browser]:
    from serverless_sessions.django import _sessions

    with override_settings(
        ALLOWED_HOSTS=["*"],
        AUTHENTICATION_BACKENDS=[BACKEND],
        MIDDLEWARE=[
            "serverless_sessions.django.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        ROOT_URLCONF=__name__,
        SERVERLESS_SESSIONS={"url": service.url, "region": service.region},
        SESSION_COOKIE_NAME="__Host-sessionid",
        SESSION_COOKIE_SECURE=True,
        SESSION_ENGINE="serverless_sessions.django",
    ):
        try:
            yield DjangoBrowser()
        finally:
            _sessions().close()


@contextmanager
def _flask(service: Service) -> Iterator[Browser]:
    app = Flask(__name__)
    app.config["SERVERLESS_SESSIONS"] = {"url": service.url, "region": service.region}
    ServerlessSessions(app)

    @app.get("/do/<name>")
    def view(name: str) -> str:
        _act(flask_session, name, "_user_id")
        return ""

    yield FlaskBrowser(app.test_client())
    app.extensions["serverless_sessions"].close()


@contextmanager
def _starlette(service: Service) -> Iterator[Browser]:
    sessions = AsyncSessions(service.url, region=service.region)

    async def view(request: Request) -> PlainTextResponse:
        name = request.path_params["name"]
        if name != "nothing":
            _act(await load_session(request), name, "user_id")
        return PlainTextResponse("")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with sessions:
            yield

    app = Starlette(
        routes=[Route("/do/{name}", view)],
        middleware=[Middleware(SessionMiddleware, client=sessions)],
        lifespan=lifespan,
    )
    with TestClient(app, base_url="https://testserver") as client:
        yield StarletteBrowser(client)


def _act(session: Any, name: str, user_key: str) -> None:
    match name.split():
        case ["log-in", user]:
            session[user_key] = user
        case ["log-out"]:
            session.pop(user_key)
            session.pop("a", None)
        case _:
            _ACTIONS[name](session)


_FRAMEWORKS = {"Django": _django, "Flask": _flask, "Starlette": _starlette}


def _once(name: str) -> Callable[[Browser], None]:
    return lambda browser: browser.do(name)


def _saving_every_request(browser: Browser) -> None:
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        browser.do("read")


def _force_login(browser: Browser) -> None:
    assert isinstance(browser, DjangoBrowser)
    browser.client.force_login(Backend().get_user(1), BACKEND)
    browser.set_cookies = [browser.client.cookies[settings.SESSION_COOKIE_NAME].OutputString()]


def _session_transaction(browser: Browser) -> None:
    assert isinstance(browser, FlaskBrowser)
    with browser.client.session_transaction() as session:
        session["a"] = 1
    browser.set_cookies = [str(browser.client.get_cookie("__Host-visitor"))]


# By the row's first cell: what happened before, and what the request does.
_REQUESTS: dict[str, tuple[list[str], Callable[[Browser], None]]] = {
    "does not touch the session": (["log-in 1"], _once("nothing")),
    "reads": (["log-in 1"], _once("read")),
    "writes": (["log-in 1"], _once("write")),
    "writes the first value of a visitor": ([], _once("write")),
    "logs in": ([], _once("log-in 1")),
    "logs in, as a visitor with a session": (["write"], _once("log-in 1")),
    "logs in as another user": (["log-in 1"], _once("log-in 2")),
    "logs out": (["log-in 1"], _once("log-out")),
    "calls `cycle_key()` for a visitor": (["write"], _once("cycle")),
    "calls `flush()`": (["log-in 1"], _once("flush")),
    "calls `flush()` for a visitor": (["write"], _once("flush")),
    "calls `clear()`": (["log-in 1"], _once("clear")),
    "calls `clear()` for a visitor": (["write"], _once("clear")),
    "calls `set_expiry(600)`": (["log-in 1"], _once("expire 600")),
    "calls `set_expiry(0)`": (["log-in 1"], _once("expire 0")),
    "makes the session permanent": (["log-in 1"], _once("permanent")),
    "reads, with `SESSION_SAVE_EVERY_REQUEST`": (["log-in 1"], _saving_every_request),
    "comes with the token of a session that has ended": (["log-in 1", "end"], _once("read")),
    "uses the test client's `force_login()`": ([], _force_login),
    "uses the test client's `session_transaction()`": ([], _session_transaction),
}


def _of(row: Row, framework: str) -> tuple[list[str], Callable[[Browser], None]]:
    if row.request == "calls `cycle_key()` or `regenerate()`":
        return ["log-in 1"], _once("cycle" if framework == "Django" else "regenerate")
    return _REQUESTS[row.request]


@pytest.mark.parametrize(
    ("row", "framework"),
    [
        pytest.param(row, framework, id=f"{framework}: {row.request}")
        for row in _rows()
        for framework in _FRAMEWORKS
        if row.frameworks == "all" or framework in row.frameworks
    ],
)
def test_request_does_what_the_guide_says(row: Row, framework: str, service: Service) -> None:
    before, act = _of(row, framework)
    with _FRAMEWORKS[framework](service) as browser:
        for name in before:
            if name == "end":
                _end_all(service)
            else:
                browser.do(name)
        held = browser.token()
        service.plan()

        act(browser)

        calls = [re.sub(r"\?.*", "", call) for call in service.calls]
        calls = [re.sub(r"/sessions/[\w-]{12}(?=/|$)", "/sessions/{id}", call) for call in calls]
        assert [_CALLS[call] for call in calls] == row.calls
        _assert_cookie(row, browser, held)


def _assert_cookie(row: Row, browser: Browser, held: str | None) -> None:
    token = browser.token()
    match row.token:
        case "same":
            assert token == held
        case "new":
            assert token not in (held, None)
        case "none":
            # A cookie that nobody deleted stays, though its session has ended.
            assert token == (None if row.cookie == "deleted" else held)
    match row.cookie.split(",")[0]:
        case "unchanged":
            assert browser.set_cookies == []
        case "set":
            assert any(str(token) in line for line in browser.set_cookies)
            has_date = any("max-age" in line.lower() for line in browser.set_cookies)
            assert not (row.cookie == "set, without a date" and has_date)
        case "deleted":
            assert browser.set_cookies
        case other:
            raise AssertionError(other)


def _end_all(service: Service) -> None:
    for item in service.items():
        service.sdk.update_item(
            TableName=service.table,
            Key={"SessionId": item["SessionId"]},
            UpdateExpression="SET RevokedAt = ExpirationTime",
        )
