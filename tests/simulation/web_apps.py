"""The same small app with Django (WSGI and ASGI), Flask and Starlette, as a server calls it.

Every app has the views of `ACTIONS`. Each view returns JSON with the user who was signed in when
the request began, the keys of the session, and the CSRF token of a page.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode

import django
from django.conf import settings
from flask import Flask
from flask import request as flask_request
from flask import session as flask_session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serverless_sessions import AsyncSessions
from serverless_sessions.flask import FlaskSession, ServerlessSessions
from serverless_sessions.starlette import SessionMiddleware, load_session

URL = "https://simulated.execute-api.us-east-1.amazonaws.com"
HOST = "shop.example"
ACTIONS = (
    *("read", "visit", "write", "login", "logout", "regenerate", "empty", "impersonate", "stop"),
)
_URLS = "tests.simulation.django_urls"

Query = dict[str, str]
# Status and JSON document of an answer.
View = tuple[int, dict[str, Any]]


class WebAnswer(NamedTuple):
    """An answer. `cookies` are the values of its Set-Cookie headers."""

    status: int
    body: dict[str, Any]
    cookies: list[str]


class WebApp(ABC):
    """An app with the views of `ACTIONS`."""

    name: str

    @abstractmethod
    def serve(self, action: str, query: Query, cookie: str) -> WebAnswer:
        """Answer a request with this Cookie header."""

    @abstractmethod
    def clients(self) -> list[Any]:
        """The clients with which the app calls the service."""


class _Wsgi(WebApp):
    def __init__(self, name: str, app: Any, clients: Callable[[], list[Any]]) -> None:
        self.name = name
        self._app = app
        self._clients = clients

    def clients(self) -> list[Any]:
        return self._clients()

    def serve(self, action: str, query: Query, cookie: str) -> WebAnswer:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
            started.append((status, headers))

        environ = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": f"/{action}",
            "QUERY_STRING": urlencode(query),
            "CONTENT_LENGTH": "0",
            "SERVER_NAME": HOST,
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.1",
            "HTTP_HOST": HOST,
            "HTTP_USER_AGENT": "browser",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": BytesIO(),
            "wsgi.errors": BytesIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if cookie:
            environ["HTTP_COOKIE"] = cookie
        response = self._app(environ, start_response)
        try:
            body = b"".join(response)
        finally:
            close = getattr(response, "close", None)
            if close:
                close()
        status, headers = started[-1]
        cookies = [value for name, value in headers if name.lower() == "set-cookie"]
        return _answer(int(status.split()[0]), body, cookies)


class _Asgi(WebApp):
    """An ASGI app. Each request has its own event loop, so a simulated wait may block it."""

    def __init__(
        self, name: str, app: Any, clients: Callable[[], list[Any]], stack: ExitStack
    ) -> None:
        self.name = name
        self._app = app
        self._clients = clients
        self._idle: list[asyncio.AbstractEventLoop] = []
        self._stack = stack

    def clients(self) -> list[Any]:
        return self._clients()

    def serve(self, action: str, query: Query, cookie: str) -> WebAnswer:
        if self._idle:
            loop = self._idle.pop()
        else:
            loop = asyncio.new_event_loop()
            self._stack.callback(loop.close)
        try:
            return loop.run_until_complete(self._serve(action, query, cookie))
        finally:
            self._idle.append(loop)

    async def _serve(self, action: str, query: Query, cookie: str) -> WebAnswer:
        headers = [(b"host", HOST.encode()), (b"user-agent", b"browser")]
        if cookie:
            headers.append((b"cookie", cookie.encode()))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "https",
            "path": f"/{action}",
            "raw_path": f"/{action}".encode(),
            "query_string": urlencode(query).encode(),
            "root_path": "",
            "headers": headers,
            "client": ("192.0.2.1", 50000),
            "server": (HOST, 443),
        }
        messages: list[MutableMapping[str, Any]] = []
        pending = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> MutableMapping[str, Any]:
            if pending:
                return pending.pop()
            await asyncio.get_running_loop().create_future()
            raise AssertionError("no client goes away")

        async def send(message: MutableMapping[str, Any]) -> None:
            messages.append(message)

        await self._app(scope, receive, send)
        start, *rest = messages
        cookies = [
            value.decode() for name, value in start["headers"] if name.lower() == b"set-cookie"
        ]
        body = b"".join(message.get("body", b"") for message in rest)
        return _answer(start["status"], body, cookies)


def _answer(status: int, body: bytes, cookies: list[str]) -> WebAnswer:
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = {}
    return WebAnswer(status, parsed if isinstance(parsed, dict) else {}, cookies)


def _view(session: Any, user_key: str, action: str, query: Query) -> View:
    """Execute a view with a session that is a dict. Flask and Starlette use this."""
    user = session.get(user_key)
    body = {"user": user, "keys": sorted(session), "csrf": session.get("csrf")}
    match action:
        case "visit":
            if body["csrf"] is None:
                body["csrf"] = session["csrf"] = query["new_csrf"]
        case "login":
            if body["csrf"] is None or body["csrf"] != query["csrf"]:
                return 403, body
            session[user_key] = query["user"]
        case "logout" | "empty":
            session.clear()
        case "impersonate":
            session.impersonate(query["user"], reason="test")
        case "write" | "regenerate":
            if user is None:
                return 401, body
            if action == "write":
                session[query["key"]] = "x"
            elif "proof" in query:
                session.authenticate([query["proof"]])
            else:
                session.regenerate()
    return 200, body


def _flask(_: ExitStack) -> WebApp:
    app = Flask("shop")
    app.config["SERVERLESS_SESSIONS"] = {"url": URL}
    server_sessions = ServerlessSessions(app)

    @app.post("/<action>")
    def view(action: str) -> tuple[dict[str, Any], int]:
        # Permanent sessions have a cookie with a date, which is the more difficult case.
        if action == "login":
            flask_session.permanent = True
        if action == "stop":
            cast(FlaskSession, flask_session).stop_impersonating()
        status, body = _view(flask_session, "_user_id", action, flask_request.args.to_dict())
        return body, status

    def clients() -> list[Any]:
        with app.app_context():
            return [server_sessions.sessions]

    return _Wsgi("flask", app.wsgi_app, clients)


def _starlette(stack: ExitStack) -> WebApp:
    client = AsyncSessions(URL)

    async def view(request: Request) -> JSONResponse:
        session = await load_session(request)
        action = request.path_params["action"]
        if action == "stop":
            await session.stop_impersonating()
        status, body = _view(session, "user_id", action, dict(request.query_params))
        return JSONResponse(body, status)

    app = Starlette(
        routes=[Route("/{action}", view, methods=["POST"])],
        middleware=[Middleware(SessionMiddleware, sessions=client)],
    )
    return _Asgi("starlette", app, lambda: [client], stack)


def _django_wsgi(stack: ExitStack) -> WebApp:
    stack.enter_context(_django_settings(asynchronous=False))
    from django.core.handlers.wsgi import WSGIHandler

    return _Wsgi("django-wsgi", WSGIHandler(), _django_clients)


def _django_asgi(stack: ExitStack) -> WebApp:
    stack.enter_context(_django_settings(asynchronous=True))
    from django.core.handlers.asgi import ASGIHandler

    return _Asgi("django-asgi", ASGIHandler(), _django_clients, stack)


def _django_clients() -> list[Any]:
    from serverless_sessions.django import _async_sessions, _sessions

    return [_sessions(), _async_sessions()]


@contextmanager
def _django_settings(*, asynchronous: bool) -> Iterator[None]:
    """Use the settings of the guide. Other tests of the same process may have other settings."""
    if not settings.configured:
        settings.configure(
            SECRET_KEY="for tests",
            USE_TZ=True,
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        )
        django.setup()
    from django.test import override_settings

    with override_settings(
        ALLOWED_HOSTS=["*"],
        AUTHENTICATION_BACKENDS=["tests.support.django_users.Backend"],
        MIDDLEWARE=[
            "serverless_sessions.django.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        ROOT_URLCONF=f"{_URLS}_async" if asynchronous else _URLS,
        SERVERLESS_SESSIONS={"url": URL},
        SESSION_COOKIE_NAME="__Host-sessionid",
        SESSION_COOKIE_SECURE=True,
        SESSION_ENGINE="serverless_sessions.django",
    ):
        yield


APPS: dict[str, Callable[[ExitStack], WebApp]] = {
    "flask": _flask,
    "starlette": _starlette,
    "django-wsgi": _django_wsgi,
    "django-asgi": _django_asgi,
}


@contextmanager
def web_app(name: str) -> Iterator[WebApp]:
    """Return the app of this name. Only one of the Django apps can be open at a time."""
    with ExitStack() as stack:
        yield APPS[name](stack)
