"""A small site in every framework, and a browser for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import path
from flask import Flask
from flask import session as flask_session
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serverless_sessions import AsyncSessions
from serverless_sessions.flask import ServerlessSessions
from serverless_sessions.starlette import SessionMiddleware, load_session
from tests.client import django_settings  # noqa: F401  # configures Django
from tests.support.django_users import BACKEND, Backend
from tests.support.service import Service

# Long deadlines, so that no call is repeated on a busy machine.
_DEADLINES = {"deadline_seconds": 60.0, "verify_deadline_seconds": 60.0}


class Browser:
    """A browser for an app whose view `/do/<name>` performs the action `name` on the session.

    `set_cookies` are the Set-Cookie headers of the last response. `cookie` is the name of the
    users' cookie.
    """

    cookie = "__Host-session"
    set_cookies: list[str]

    def do(self, name: str) -> None:
        raise NotImplementedError

    def user(self, cookies: str) -> str:
        """Return the user who is signed in with this Cookie header, or "None"."""
        raise NotImplementedError

    def token(self) -> str | None:
        """Return the token in the users' cookie, or else in the visitors' cookie."""
        raise NotImplementedError


class DjangoBrowser(Browser):
    cookie = "__Host-sessionid"

    def __init__(self) -> None:
        self.client = DjangoClient()

    def do(self, name: str) -> None:
        answer = self.client.get(f"/do/{name}", secure=True)
        assert answer.status_code == 200
        self.set_cookies = [morsel.OutputString() for morsel in answer.cookies.values()]

    def user(self, cookies: str) -> str:
        answer = DjangoClient().get("/do/who", secure=True, HTTP_COOKIE=cookies)
        self.set_cookies = [morsel.OutputString() for morsel in answer.cookies.values()]
        return str(answer.content.decode())

    def token(self) -> str | None:
        cookie = self.client.cookies.get(self.cookie)
        return (cookie.value or None) if cookie else None


class FlaskBrowser(Browser):
    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()
        self._app = app

    def do(self, name: str) -> None:
        answer = self.client.get(f"/do/{name}")
        assert answer.status_code == 200
        self.set_cookies = answer.headers.getlist("Set-Cookie")

    def user(self, cookies: str) -> str:
        client = self._app.test_client(use_cookies=False)
        answer = client.get("/do/who", environ_overrides={"HTTP_COOKIE": cookies})
        self.set_cookies = answer.headers.getlist("Set-Cookie")
        return answer.text

    def token(self) -> str | None:
        for name in ("session", "visitor"):
            cookie = self.client.get_cookie(f"__Host-{name}")
            if cookie:
                return cookie.value
        return None


class StarletteBrowser(Browser):
    def __init__(self, app: Starlette, client: TestClient) -> None:
        self.client = client
        self._app = app

    def do(self, name: str) -> None:
        answer = self.client.get(f"/do/{name}")
        assert answer.status_code == 200
        self.set_cookies = answer.headers.get_list("set-cookie")

    def user(self, cookies: str) -> str:
        own_cookies = dict(self.client.cookies)
        self.client.cookies.clear()
        answer = self.client.get("/do/who", headers={b"cookie": cookies.encode("latin-1")})
        self.client.cookies.update(own_cookies)
        self.set_cookies = answer.headers.get_list("set-cookie")
        return str(answer.text)

    def token(self) -> str | None:
        cookies = self.client.cookies
        return cookies.get("__Host-session") or cookies.get("__Host-visitor")


def _read_at_once(session: Any) -> None:
    """Read the session in four threads at the same time."""
    start = threading.Barrier(4)

    def read() -> None:
        start.wait()
        session.get("a")

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# The actions on a session, by their names.
_ACTIONS: dict[str, Callable[[Any], object]] = {
    "nothing": lambda session: None,
    "read": lambda session: session.get("a"),
    "read at once": _read_at_once,
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
    """Perform an action in a Django view."""
    match name.split():
        case ["log-in", user]:
            auth.login(request, Backend().get_user(int(user)), BACKEND)
        case ["log-out"]:
            auth.logout(request)
        case ["who"]:
            return HttpResponse(str(request.session.get("_auth_user_id")))
        case _:
            _ACTIONS[name](request.session)
    return HttpResponse()


async def ado(request: HttpRequest) -> HttpResponse:
    """Read the session in four tasks at the same time."""
    from serverless_sessions.django import _async_sessions

    await asyncio.gather(*(request.session.aget("a") for _ in range(4)))
    # Django's test client runs every request on a new event loop.
    await _async_sessions().aclose()
    return HttpResponse()


urlpatterns = [path("do/read in tasks", ado), path("do/<name>", do)]


@contextmanager
def _django(service: Service, **options: Any) -> Iterator[Browser]:
    from serverless_sessions.django import _sessions

    with override_settings(
        AUTHENTICATION_BACKENDS=[BACKEND],
        MIDDLEWARE=[
            "serverless_sessions.django.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        ROOT_URLCONF=__name__,
        SERVERLESS_SESSIONS={"url": service.url, "region": service.region} | _DEADLINES | options,
        SESSION_COOKIE_NAME="__Host-sessionid",
        SESSION_COOKIE_SECURE=True,
        SESSION_ENGINE="serverless_sessions.django",
    ):
        try:
            yield DjangoBrowser()
        finally:
            _sessions().close()


@contextmanager
def _flask(service: Service, **options: Any) -> Iterator[Browser]:
    app = Flask(__name__)
    known = {"url": service.url, "region": service.region} | _DEADLINES
    app.config["SERVERLESS_SESSIONS"] = known | options
    ServerlessSessions(app)

    @app.get("/do/<name>")
    def view(name: str) -> str:
        session = flask_session._get_current_object()  # type: ignore[attr-defined]
        return _act(session, name, "_user_id")

    yield FlaskBrowser(app)
    app.extensions["serverless_sessions"].close()


@contextmanager
def _starlette(service: Service, **options: Any) -> Iterator[Browser]:
    sessions = AsyncSessions(
        service.url, region=service.region, deadline_seconds=60.0, verify_deadline_seconds=60.0
    )

    async def view(request: Request) -> PlainTextResponse:
        name = request.path_params["name"]
        if name == "nothing":
            return PlainTextResponse("")
        if name == "read in tasks":
            await asyncio.gather(*(load_session(request) for _ in range(4)))
        if name == "read at once":
            # Starlette runs the endpoint of a plain function in such a thread.
            read = partial(request.scope["session"].get, "a")
            await asyncio.gather(*(run_in_threadpool(read) for _ in range(4)))
            return PlainTextResponse("")
        session = await load_session(request)
        return PlainTextResponse(_act(session, name, "user_id"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with sessions:
            yield

    app = Starlette(
        routes=[Route("/do/{name}", view)],
        middleware=[Middleware(SessionMiddleware, sessions=sessions, **options)],
        lifespan=lifespan,
    )
    with TestClient(app, base_url="https://testserver") as client:
        yield StarletteBrowser(app, client)


def _act(session: Any, name: str, user_key: str) -> str:
    match name.split():
        case ["log-in", user]:
            session[user_key] = user
        case ["log-out"]:
            session.pop(user_key)
            session.pop("a", None)
        case ["who"]:
            return str(session.get(user_key))
        case ["read", "in", "tasks"]:
            session.get("a")
        case _:
            _ACTIONS[name](session)
    return ""


# By the name of a framework: opens a browser for the site. It accepts options of the adapter.
FRAMEWORKS: dict[str, Callable[..., AbstractContextManager[Browser]]] = {
    "Django": _django,
    "Flask": _flask,
    "Starlette": _starlette,
}
