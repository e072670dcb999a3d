"""A small site in every framework, and a browser for it."""

from __future__ import annotations

from tests.client import django_settings  # noqa: F401  # configures Django

# isort: split
import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

from anyio import from_thread
from asgiref.sync import sync_to_async
from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, override_settings
from django.test import Client as DjangoClient
from django.urls import path
from fastapi import FastAPI
from flask import Flask
from flask import session as flask_session
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from serverless_sessions import AsyncSessions, flask
from serverless_sessions.django import SessionStore, _async_sessions, _sessions, guard
from serverless_sessions.flask import ServerlessSessions
from serverless_sessions.starlette import (
    SessionMiddleware,
    StepUpRequired,
    load_passively,
    load_session,
    require_recent,
)
from tests.support.django_users import BACKEND, Backend
from tests.support.service import Service

# Long deadlines, so that no call is repeated on a busy machine.
_DEADLINES = {"deadline_seconds": 60.0, "verify_deadline_seconds": 60.0}


class Answer(NamedTuple):
    status: int
    location: str | None
    content_type: str
    text: str


class Browser:
    """A browser for an app whose view `/do/<name>` performs the action `name` on the session.

    The view `/guarded` requires a proof within 300 seconds, and `/guarded/otp` one by "otp".
    `text` and `set_cookies` are the body and the Set-Cookie headers of the last response. `cookie`
    and `impersonator_cookie` are the names of the users' and of the impersonator's cookie.
    """

    cookie = "__Host-session"
    impersonator_cookie = "__Host-impersonator"
    text: str
    set_cookies: list[str]

    def do(self, name: str) -> None:
        raise NotImplementedError

    def user(self, cookies: str) -> str:
        """Return the user who is signed in with this Cookie header, or "None"."""
        raise NotImplementedError

    def token(self) -> str | None:
        """Return the token in the users' cookie, or else in the visitors' cookie."""
        raise NotImplementedError

    def cookies(self) -> dict[str, str]:
        raise NotImplementedError

    def set_cookie(self, name: str, value: str | None) -> None:
        """Set a cookie of the browser, or delete it if `value` is None."""
        raise NotImplementedError

    def open(self, path: str, accept: str, method: str = "GET") -> Answer:
        raise NotImplementedError


class DjangoBrowser(Browser):
    cookie = "__Host-sessionid"
    impersonator_cookie = "__Host-sessionid_impersonator"

    def __init__(self) -> None:
        self.client = DjangoClient()

    def do(self, name: str) -> None:
        answer = self._request("GET", f"/do/{name}")
        assert answer.status_code == 200
        self.text = answer.content.decode()
        self.set_cookies = [morsel.OutputString() for morsel in answer.cookies.values()]

    def user(self, cookies: str) -> str:
        answer = DjangoClient().get("/do/who", secure=True, HTTP_COOKIE=cookies)
        self.set_cookies = [morsel.OutputString() for morsel in answer.cookies.values()]
        return str(answer.content.decode())

    def token(self) -> str | None:
        return self.cookies().get(self.cookie)

    def cookies(self) -> dict[str, str]:
        cookies = self.client.cookies
        return {name: cookie.value for name, cookie in cookies.items() if cookie.value}

    def set_cookie(self, name: str, value: str | None) -> None:
        self.client.cookies[name] = value or ""
        if value is None:
            del self.client.cookies[name]

    def open(self, path: str, accept: str, method: str = "GET") -> Answer:
        answer = self._request(method, path, accept)
        headers = answer.headers
        text = answer.content.decode()
        location = headers.get("Location")
        return Answer(answer.status_code, location, headers["Content-Type"], text)

    def _request(self, method: str, path: str, accept: str = "*/*") -> HttpResponse:
        headers = {"Accept": accept}
        return cast(HttpResponse, self.client.generic(method, path, secure=True, headers=headers))


class AsyncDjangoBrowser(DjangoBrowser):
    """A browser for async views under ASGI. Every request has an event loop of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.async_client = AsyncClient()
        self.async_client.cookies = self.client.cookies

    def _request(self, method: str, path: str, accept: str = "*/*") -> HttpResponse:
        async def answer() -> Any:
            return await self.async_client.generic(
                method, path.replace("/do/", "/ado/"), secure=True, headers={"Accept": accept}
            )

        return cast(HttpResponse, asyncio.run(answer()))


class FlaskBrowser(Browser):
    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()
        self._app = app

    def do(self, name: str) -> None:
        answer = self.client.get(f"/do/{name}")
        assert answer.status_code == 200
        self.text = answer.text
        self.set_cookies = answer.headers.getlist("Set-Cookie")

    def user(self, cookies: str) -> str:
        client = self._app.test_client(use_cookies=False)
        answer = client.get("/do/who", environ_overrides={"HTTP_COOKIE": cookies})
        self.set_cookies = answer.headers.getlist("Set-Cookie")
        return answer.text

    def token(self) -> str | None:
        cookies = self.cookies()
        return cookies.get("__Host-session") or cookies.get("__Host-visitor")

    def cookies(self) -> dict[str, str]:
        names = ("session", "visitor", "impersonator")
        cookies = [self.client.get_cookie(f"__Host-{name}") for name in names]
        return {cookie.key: cookie.value for cookie in cookies if cookie}

    def set_cookie(self, name: str, value: str | None) -> None:
        if value is None:
            self.client.delete_cookie(name)
        else:
            self.client.set_cookie(name, value, secure=True)

    def open(self, path: str, accept: str, method: str = "GET") -> Answer:
        answer = self.client.open(path, method=method, headers={"Accept": accept})
        location = answer.headers.get("Location")
        return Answer(answer.status_code, location, answer.headers["Content-Type"], answer.text)


class StarletteBrowser(Browser):
    def __init__(self, app: Starlette, client: TestClient) -> None:
        self.client = client
        self._app = app

    def do(self, name: str) -> None:
        answer = self.client.get(f"/do/{name}")
        assert answer.status_code == 200
        self.text = answer.text
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

    def cookies(self) -> dict[str, str]:
        return dict(self.client.cookies)

    def set_cookie(self, name: str, value: str | None) -> None:
        where = {"domain": "testserver.local", "path": "/"}
        if value is None:
            self.client.cookies.delete(name, **where)
        else:
            self.client.cookies.set(name, value, **where)

    def open(self, path: str, accept: str, method: str = "GET") -> Answer:
        answer = self.client.request(
            method, path, headers={"Accept": accept}, follow_redirects=False
        )
        headers = answer.headers
        return Answer(
            answer.status_code,
            headers.get("Location"),
            headers.get("Content-Type", ""),
            answer.text,
        )


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
    "passive read": lambda session: (session.passive(), session.get("a")),
    "read passive": lambda session: (session.get("a"), session.passive()),
}


def _state(session: Any, user_key: str) -> str:
    """Describe whom the session belongs to, who acts as them, and what it counts."""
    impersonator = (
        session.impersonator and f"{session.impersonator.id} {session.impersonator.reason}"
    )
    return f"{session.get(user_key)}, by {impersonator}, a={session.get('a')}"


def do(request: HttpRequest, name: str) -> HttpResponse:
    """Perform an action in a Django view."""
    match name.split():
        case ["log-in", user]:
            auth.login(request, Backend().get_user(int(user)), BACKEND)
        case ["log-out"]:
            auth.logout(request)
        case ["who"]:
            return HttpResponse(str(request.session.get("_auth_user_id")))
        case ["state"]:
            assert str(request.user.pk) == str(request.session.get("_auth_user_id"))
            return HttpResponse(_state(request.session, "_auth_user_id"))
        case ["authenticate", *methods]:
            cast(SessionStore, request.session).authenticate(methods)
        case ["authenticate-and-log-in", user]:
            session = cast(SessionStore, request.session)
            session.authenticate(["otp"])
            auth.login(request, Backend().get_user(int(user)), BACKEND)
            return HttpResponse(str(session.authenticated_within(300)))
        case ["impersonate", user, by]:
            assert str(request.user.pk) != user
            guard.impersonate(request, Backend().get_user(int(user)), by=by, reason="ticket-42")
            assert str(request.user.pk) == user
        case ["impersonate-nobody"]:
            guard.impersonate(request, cast(Any, None), reason="ticket-42")
        case ["impersonate-because", reason]:
            guard.impersonate(request, Backend().get_user(1), reason=reason)
        case ["impersonate-and-log-out", *names]:
            do(request, " ".join(["impersonate", *names]))
            auth.logout(request)
        case ["authenticate-after-log-in", user]:
            auth.login(request, Backend().get_user(int(user)), BACKEND)
            cast(SessionStore, request.session).authenticate(["otp"])
        case ["stop"]:
            former = str(request.user.pk)
            has_stopped = guard.stop_impersonating(request)
            assert has_stopped == (str(request.user.pk) != former)
            return HttpResponse(str(has_stopped))
        case _:
            _ACTIONS[name](request.session)
    return HttpResponse()


async def ado(request: HttpRequest, name: str) -> HttpResponse:
    """Perform an action in an async view, if the session has an async method for it."""
    session = cast(SessionStore, request.session)
    text = ""
    match name.split():
        case ["read", "in", "tasks"]:
            await asyncio.gather(*(session.aget("a") for _ in range(4)))
        case ["authenticate", *methods]:
            await session.aauthenticate(methods)
        case ["impersonate", user, by]:
            assert str((await request.auser()).pk) != user
            customer = Backend().get_user(int(user))
            await guard.aimpersonate(request, customer, by=by, reason="ticket-42")
            assert str((await request.auser()).pk) == user
        case ["stop"]:
            text = str(await guard.astop_impersonating(request))
        case _:
            return await sync_to_async(do)(request, name)
    return HttpResponse(text)


async def django_user(key: str, impersonator_key: str) -> object:
    """Return the user of the session with these keys, as an app under ASGI reads it."""
    session = SessionStore(key)
    session.impersonator_keys = [impersonator_key]
    try:
        return await session.aget("_auth_user_id")
    finally:
        await _async_sessions().aclose()


@guard.require_recent(300)
def guarded(request: HttpRequest) -> HttpResponse:
    return HttpResponse("secret")


@guard.require_recent(300, methods=["otp"])
async def guarded_by_otp(request: HttpRequest) -> HttpResponse:
    return HttpResponse("secret")


urlpatterns = [
    path("do/read in tasks", ado, {"name": "read in tasks"}),
    path("ado/<name>", ado),
    path("do/<name>", do),
    path("guarded", guarded),
    path("guarded/otp", guarded_by_otp),
]

LOG_IN_METHODS: list[str] = []


def authentication(request: Any) -> dict[str, Any]:
    """Return how the user of a request has logged in."""
    assert "Authorization" not in request.headers
    return {"methods": LOG_IN_METHODS}


_OPTIONS: dict[str, Any] = {"step_up_url": "/confirm?a=1", "authentication": authentication}


@contextmanager
def _django(
    service: Service, open_browser: Callable[[], Browser] = DjangoBrowser, **options: Any
) -> Iterator[Browser]:
    with override_settings(
        AUTHENTICATION_BACKENDS=[BACKEND],
        MIDDLEWARE=[
            "serverless_sessions.django.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        ROOT_URLCONF=__name__,
        SERVERLESS_SESSIONS={"url": service.url, "region": service.region}
        | _DEADLINES
        | _OPTIONS
        | {"authentication": f"{__name__}.authentication"}
        | options,
        SESSION_COOKIE_NAME="__Host-sessionid",
        SESSION_COOKIE_SECURE=True,
        SESSION_ENGINE="serverless_sessions.django",
    ):
        try:
            yield open_browser()
        finally:
            _sessions().close()


@contextmanager
def _flask(service: Service, **options: Any) -> Iterator[Browser]:
    app = Flask(__name__)
    known = {"url": service.url, "region": service.region} | _DEADLINES | _OPTIONS
    app.config["SERVERLESS_SESSIONS"] = known | options
    app.config["PROPAGATE_EXCEPTIONS"] = True
    ServerlessSessions(app)

    @app.get("/do/<name>")
    def view(name: str) -> str:
        session = flask_session._get_current_object()  # type: ignore[attr-defined]
        return (
            str(session.stop_impersonating()) if name == "stop" else _act(session, name, "_user_id")
        )

    @app.route("/guarded", methods=["GET", "POST"])
    @flask.require_recent(300)
    def guarded() -> str:
        return "secret"

    @app.get("/guarded/otp")
    @flask.require_recent(300, methods=["otp"])
    def guarded_by_otp() -> str:
        return "secret"

    with closing(app.extensions["serverless_sessions"]):
        yield FlaskBrowser(app)


@contextmanager
def _starlette(service: Service, **options: Any) -> Iterator[Browser]:
    sessions = AsyncSessions(
        service.url, region=service.region, deadline_seconds=60.0, verify_deadline_seconds=60.0
    )

    async def view(request: Request) -> PlainTextResponse:
        name = request.path_params["name"]
        if name == "nothing":
            return PlainTextResponse("")
        if name == "passive read":
            return PlainTextResponse(str((await load_passively(request)).get("a")))
        if name == "read in tasks":
            await asyncio.gather(*(load_session(request) for _ in range(4)))
        if name == "read at once":
            # Starlette runs the endpoint of a plain function in such a thread.
            read = partial(request.scope["session"].get, "a")
            await asyncio.gather(*(run_in_threadpool(read) for _ in range(4)))
            return PlainTextResponse("")
        session = await load_session(request)
        if name == "stop in thread":
            return PlainTextResponse(str(await run_in_threadpool(session.stop_impersonating)))
        if name == "stop from thread":
            stop = partial(from_thread.run, session.stop_impersonating)
            return PlainTextResponse(str(await run_in_threadpool(stop)))
        if name == "stop":
            return PlainTextResponse(str(await session.stop_impersonating()))
        return PlainTextResponse(_act(session, name, "user_id"))

    async def guarded(request: Request) -> PlainTextResponse:
        await require_recent(300)(request)
        return PlainTextResponse("secret")

    async def guarded_by_otp(request: Request) -> PlainTextResponse:
        await require_recent(300, methods=["otp"])(request)
        return PlainTextResponse("secret")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with sessions:
            yield

    app = Starlette(
        routes=[
            Route("/do/{name}", view),
            Route("/guarded", guarded, methods=["GET", "POST"]),
            Route("/guarded/otp", guarded_by_otp),
        ],
        middleware=[Middleware(SessionMiddleware, sessions=sessions, **_OPTIONS, **options)],
        lifespan=lifespan,
    )
    with TestClient(app, base_url="https://testserver") as client:
        yield StarletteBrowser(app, client)


@contextmanager
def mounted(service: Service, kind: str, *, has_own_handler: bool) -> Iterator[TestClient]:
    """Open a client for an app whose view `/mounted/guarded` is in an app of this kind.

    A middleware of the mounted app catches every exception.
    """
    sessions = AsyncSessions(
        service.url, region=service.region, deadline_seconds=60.0, verify_deadline_seconds=60.0
    )

    async def log_in(request: Request) -> PlainTextResponse:
        (await load_session(request))["user_id"] = "1"
        return PlainTextResponse("")

    async def guarded(request: Request) -> PlainTextResponse:
        await require_recent(300)(request)
        return PlainTextResponse("secret")

    async def catch(request: Request, call_next: RequestResponseEndpoint) -> Response:
        try:
            return await call_next(request)
        except Exception:
            return PlainTextResponse("caught", 500)

    def render(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"own {cast(StepUpRequired, error).status_code}")

    inner = FastAPI() if kind == "FastAPI" else Starlette()
    inner.router.add_route("/guarded", guarded)
    inner.add_middleware(BaseHTTPMiddleware, dispatch=catch)
    if has_own_handler:
        inner.add_exception_handler(StepUpRequired, render)
    app = Starlette(
        routes=[Route("/log-in", log_in), Mount("/mounted", inner)],
        middleware=[Middleware(SessionMiddleware, sessions=sessions, **_OPTIONS)],
    )
    with TestClient(app, base_url="https://testserver") as client:
        try:
            yield client
        finally:
            assert client.portal
            client.portal.call(sessions.aclose)


def _act(session: Any, name: str, user_key: str) -> str:
    match name.split():
        case ["log-in", user]:
            session[user_key] = user
        case ["log-out"]:
            session.pop(user_key)
            session.pop("a", None)
        case ["who"]:
            return str(session.get(user_key))
        case ["state"]:
            return _state(session, user_key)
        case ["authenticate", *methods]:
            session.authenticate(methods)
        case ["authenticate-and-log-in", user]:
            session.authenticate(["otp"])
            session[user_key] = user
            return str(session.authenticated_within(300))
        case ["impersonate", user, by]:
            session.impersonate(user, by=by, reason="ticket-42")
            assert session.impersonator.id == by
        case ["impersonate-nobody"]:
            session.impersonate(None, reason="ticket-42")
        case ["impersonate-because", reason]:
            session.impersonate("1", reason=reason)
        case ["impersonate-and-log-out", *names]:
            _act(session, " ".join(["impersonate", *names]), user_key)
            session.clear()
        case ["authenticate-after-log-in", user]:
            session[user_key] = user
            session.authenticate(["otp"])
        case ["pop"]:
            session.pop(user_key, None)
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
DJANGO_ASYNC = partial(_django, open_browser=AsyncDjangoBrowser)
