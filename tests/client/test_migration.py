"""`migrate_from`: users who were signed in with a former session store stay signed in."""

from __future__ import annotations

from tests.client import django_settings  # noqa: F401  # configures Django

# isort: split
import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from cachelib.file import FileSystemCache
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.contrib.sessions.backends.cached_db import SessionStore as CachedDatabaseStore
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, override_settings
from django.test import Client as DjangoClient
from django.urls import path as django_path
from django.utils import timezone
from flask import Flask
from flask import session as flask_session
from flask.sessions import SecureCookieSessionInterface, SessionInterface
from flask_session.cachelib import CacheLibSessionInterface
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as FormerMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from serverless_sessions import AsyncSessions
from serverless_sessions._core.operations import Operations
from serverless_sessions._web.migration import GRACE_SECONDS
from serverless_sessions.django import _sessions
from serverless_sessions.django.migration import check_options
from serverless_sessions.errors import Unavailable
from serverless_sessions.flask import FlaskSession, ServerlessSessions
from serverless_sessions.starlette import SessionMiddleware, SignedCookie, load_session
from serverless_sessions.testing import SessionsService
from serverless_sessions.testing.service import Failure
from tests.support.service import Service
from tests.support.template import ROOT

UNTIL = datetime.now(UTC).date() + timedelta(days=100)
DEADLINES = {"deadline_seconds": 60.0, "verify_deadline_seconds": 60.0}
SHORT = {"deadline_seconds": 0.3, "verify_deadline_seconds": 0.3}
DJANGO = "django.contrib.sessions.backends"


class Answer(NamedTuple):
    status: int
    text: str
    set_cookies: list[str]

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that the response sets. "" is a deletion."""
        return values_of(self.set_cookies)


class Site:
    """An app before and after the switch. `log_in` uses the former store, `get` the service."""

    former_cookie = "session"

    def log_in(self, user: str, *, count: int = 0) -> str:
        """Return the value of the former cookie of a user, or of a visitor, who has the value a=1.

        `count` values of 40,000 characters come on top.
        """
        raise NotImplementedError

    def is_stored(self, cookie: str) -> bool:
        """Return whether a server-side store has the session."""
        return False

    def get(self, path: str, cookies: dict[str, str]) -> Answer:
        raise NotImplementedError


def header(cookies: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def values_of(headers: list[str]) -> dict[str, str]:
    cookies: SimpleCookie = SimpleCookie()
    for text in headers:
        cookies.load(text)
    return {name: morsel.value for name, morsel in cookies.items()}


VISITOR = "nobody"
# In Flask, the session of this user is not permanent.
BRIEF = "brief"


def former_values(user_key: str, user: str, count: int) -> dict[str, Any]:
    values = {"a": 1} | {f"large{number}": "x" * 40_000 for number in range(count)}
    return values if user == VISITOR else {user_key: user} | values


def perform(session: Any, user_key: str, action: str) -> str:
    if action == "out":
        session.clear()
        return ""
    if action == "pop":
        session.pop("a")
        return ""
    if action == "put":
        session["a"] = session.get("a", 0) + 1
    if action == "impersonate":
        session.impersonate("8", reason="ticket")
    if action == "stop":
        return str(session.stop_impersonating())
    if action == "new-token":
        (session.cycle_key if hasattr(session, "cycle_key") else session.regenerate)()
    if action == "fail":
        session.get("a")
        raise ZeroDivisionError
    if action == "large":
        return str(sorted(name for name, _ in session.items() if name.startswith("large")))
    return f"{session.get(user_key)} {session.get('a')}"


def django_view(request: HttpRequest, action: str) -> HttpResponse:
    if action == "out":
        request.session.flush()
    if action == "again":
        with suppress(Unavailable):
            request.session.get("a")
    if action == "user":
        return HttpResponse(request.user.get_username())
    if action == "recent":
        return HttpResponse(str(request.session.authenticated_within(3600)))  # type: ignore[attr-defined]
    return HttpResponse(perform(request.session, "_auth_user_id", action))


async def django_async_view(request: HttpRequest) -> HttpResponse:
    user = await request.session.aget("_auth_user_id")
    return HttpResponse(f"{user} {await request.session.aget('a')}")


urlpatterns = [
    django_path("async", django_async_view),
    django_path("<action>", django_view),
]


class DjangoSite(Site):
    former_cookie = "sessionid"

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self._engine = import_module(engine)

    def store(self, cookie: str | None = None) -> SessionBase:
        # The engine for files uses this name.
        with override_settings(SESSION_COOKIE_NAME="sessionid"):
            return cast(SessionBase, self._engine.SessionStore(cookie))

    def log_in(self, user: str, *, count: int = 0, expiry: int | None = None) -> str:
        store = self.store()
        if expiry:
            store.set_expiry(expiry)
        store.update(former_values("_auth_user_id", user, count))
        store.save()
        return str(store.session_key)

    def is_stored(self, cookie: str) -> bool:
        # The engine of signed cookies stores nothing.
        return bool(self.store().exists(cookie))

    def get(self, path: str, cookies: dict[str, str]) -> Answer:
        client = DjangoClient(raise_request_exception=False)
        try:
            answer = client.get(path, secure=True, HTTP_COOKIE=header(cookies))
        finally:
            if threading.current_thread() is not threading.main_thread():
                connection.close()
        set_cookies = [morsel.OutputString() for morsel in answer.cookies.values()]
        return Answer(answer.status_code, answer.content.decode(), set_cookies)


@contextmanager
def django_site(engine: str, folder: Path, **options: Any) -> Iterator[Site]:
    database = connections.settings["default"]
    former_name = database["NAME"]
    cache = {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache"}
    with override_settings(
        CACHES={"default": cache | {"LOCATION": str(folder / "cache")}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
        ],
        MIDDLEWARE=[
            "serverless_sessions.django.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        ROOT_URLCONF=__name__,
        SERVERLESS_SESSIONS={"migrate_from": engine, "migrate_until": UNTIL} | DEADLINES | options,
        SESSION_COOKIE_NAME="__Host-sessionid",
        SESSION_COOKIE_SECURE=True,
        SESSION_ENGINE="serverless_sessions.django",
        SESSION_FILE_PATH=str(folder),
    ):
        # The engine keeps the folder of the first test.
        if "_storage_path" in vars(FileStore):
            delattr(FileStore, "_storage_path")
        database["NAME"] = str(folder / f"{uuid4().hex}.sqlite")
        connection.close()
        try:
            with connection.schema_editor() as editor:
                for model in apps.get_models():
                    editor.create_model(model)
            yield DjangoSite(engine)
        finally:
            _sessions().close()
            connection.close()
            database["NAME"] = former_name


def flask_session_in(folder: Path) -> CacheLibSessionInterface:
    """Return the interface of Flask-Session that stores sessions in files."""
    cache = FileSystemCache(str(folder / "flask"))
    return CacheLibSessionInterface(Flask(__name__), cache, serialization_format="json")


def flask_app(interface: SessionInterface) -> Flask:
    app = Flask(__name__)
    app.secret_key = "for tests"
    app.session_interface = interface

    @app.get("/log-in/<user>/<int:count>")
    def log_in(user: str, count: int) -> str:
        flask_session.update(former_values("_user_id", user, count))
        flask_session.permanent = user != BRIEF
        return ""

    @app.get("/<action>")
    def view(action: str) -> str:
        if action == "recent":
            session: FlaskSession = flask_session._get_current_object()  # type: ignore[attr-defined]
            return str(session.authenticated_within(3600))
        return perform(flask_session, "_user_id", action)

    return app


class FlaskSite(Site):
    def __init__(self, former: Flask, app: Flask) -> None:
        self._former = former
        self.app = app

    def log_in(self, user: str, *, count: int = 0) -> str:
        answer = self._former.test_client().get(f"/log-in/{user}/{count}")
        return values_of(answer.headers.getlist("Set-Cookie"))["session"]

    def is_stored(self, cookie: str) -> bool:
        interface = self._former.session_interface
        if not isinstance(interface, CacheLibSessionInterface):
            return False
        return bool(interface.cache.has(f"session:{cookie}"))

    def get(self, path: str, cookies: dict[str, str]) -> Answer:
        client = self.app.test_client(use_cookies=False)
        answer = client.get(path, environ_overrides={"HTTP_COOKIE": header(cookies)})
        return Answer(answer.status_code, answer.text, answer.headers.getlist("Set-Cookie"))


@contextmanager
def flask_site(interface: SessionInterface, folder: Path, **options: Any) -> Iterator[Site]:
    app = flask_app(interface)
    known = {"migrate_from": interface, "migrate_until": UNTIL} | DEADLINES
    app.config["SERVERLESS_SESSIONS"] = known | options
    ServerlessSessions(app)
    with closing(app.extensions["serverless_sessions"]):
        yield FlaskSite(flask_app(interface), app)


class StarletteSite(Site):
    def __init__(self, former: TestClient, client: TestClient) -> None:
        self._former = former
        self.client = client

    def log_in(self, user: str, *, count: int = 0) -> str:
        self._former.cookies.clear()
        answer = self._former.get(f"/log-in/{user}/{count}")
        return values_of(answer.headers.get_list("set-cookie"))["session"]

    def get(self, path: str, cookies: dict[str, str]) -> Answer:
        answer = self.client.get(path, headers={b"cookie": header(cookies).encode("latin-1")})
        self.client.cookies.clear()
        return Answer(answer.status_code, answer.text, answer.headers.get_list("set-cookie"))


_ADAPTER_OPTIONS = {"migrate_from", "migrate_until", "https_only", "max_age", "max_sessions"}


@contextmanager
def starlette_site(folder: Path, **options: Any) -> Iterator[Site]:
    adapter_options: dict[str, Any] = {
        "migrate_from": SignedCookie("for tests"),
        "migrate_until": UNTIL,
    }
    url = options.pop("url")
    for name in _ADAPTER_OPTIONS & options.keys():
        adapter_options[name] = options.pop(name)
    sessions = AsyncSessions(url, **(DEADLINES | options))

    async def log_in(request: StarletteRequest) -> PlainTextResponse:
        user, count = request.path_params["user"], request.path_params["count"]
        request.session.update(former_values("user_id", user, count))
        return PlainTextResponse("")

    async def view(request: StarletteRequest) -> PlainTextResponse:
        session = await load_session(request)
        action = request.path_params["action"]
        if action == "stop":
            return PlainTextResponse(str(await session.stop_impersonating()))
        if action == "recent":
            return PlainTextResponse(str(session.authenticated_within(3600)))
        return PlainTextResponse(perform(session, "user_id", action))

    async def socket(websocket: WebSocket) -> None:
        session = await load_session(websocket)
        await websocket.accept()
        await websocket.send_text(session["user_id"])
        await websocket.close()

    former = Starlette(
        routes=[Route("/log-in/{user}/{count:int}", log_in)],
        middleware=[Middleware(FormerMiddleware, secret_key="for tests")],
    )
    app = Starlette(
        routes=[WebSocketRoute("/socket", socket), Route("/{action}", view)],
        middleware=[Middleware(SessionMiddleware, sessions=sessions, **adapter_options)],
    )
    with (
        TestClient(former, base_url="https://testserver") as former_client,
        TestClient(app, base_url="https://testserver", raise_server_exceptions=False) as client,
    ):
        yield StarletteSite(former_client, client)


SITES: dict[str, Callable[..., AbstractContextManager[Site]]] = {
    "Django db": lambda folder, **options: django_site(f"{DJANGO}.db", folder, **options),
    "Django cached_db": lambda folder, **options: django_site(
        f"{DJANGO}.cached_db", folder, **options
    ),
    "Django cache": lambda folder, **options: django_site(f"{DJANGO}.cache", folder, **options),
    "Django file": lambda folder, **options: django_site(f"{DJANGO}.file", folder, **options),
    "Django signed_cookies": lambda folder, **options: django_site(
        f"{DJANGO}.signed_cookies", folder, **options
    ),
    "Flask-Session": lambda folder, **options: flask_site(
        flask_session_in(folder), folder, **options
    ),
    "Flask signed cookie": lambda folder, **options: flask_site(
        SecureCookieSessionInterface(), folder, **options
    ),
    "Starlette signed cookie": starlette_site,
}
SIGNED = [name for name in SITES if "signed" in name]
SERVER_SIDE = [name for name in SITES if name not in SIGNED]

OpenSite = Callable[..., AbstractContextManager[Site]]


@pytest.fixture(scope="module")
def running() -> Iterator[SessionsService]:
    with SessionsService() as service:
        yield service


@pytest.fixture
def service(running: SessionsService) -> Iterator[SessionsService]:
    yield running
    running.reset()


@pytest.fixture
def open_site(request: pytest.FixtureRequest, tmp_path: Path, service: SessionsService) -> OpenSite:
    def open_with(**options: Any) -> AbstractContextManager[Site]:
        return SITES[request.param](tmp_path, **({"url": service.url} | options))

    return open_with


all_sites = pytest.mark.parametrize("open_site", SITES, indirect=True)
server_side_sites = pytest.mark.parametrize("open_site", SERVER_SIDE, indirect=True)
signed_sites = pytest.mark.parametrize("open_site", SIGNED, indirect=True)


@contextmanager
def failing_after(good_calls: int, fail: Callable[[], None]) -> Iterator[None]:
    """Call `fail` before the call of the service that follows `good_calls` others."""
    with counted_calls(lambda count: fail() if count == good_calls else None):
        yield


@contextmanager
def counted_calls(before: Callable[[int], None] = lambda _: None) -> Iterator[list[str]]:
    """Collect the calls of the service. `before` gets the number of earlier ones."""
    calls: list[str] = []

    def counted(operations: Operations, method: str, path: str, *args: Any, **options: Any) -> Any:
        before(len(calls))
        calls.append(f"{method} {path}")
        return request(operations, method, path, *args, **options)

    request = Operations._request
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Operations, "_request", counted)
        yield calls


def types(service: SessionsService, user: str) -> list[str]:
    return [event.type for event in service.events(user)]


@all_sites
def test_every_user_stays_signed_in(open_site: OpenSite, service: SessionsService) -> None:
    users = [str(number) for number in range(1, 101)]
    with open_site() as site:
        jars = {user: {site.former_cookie: site.log_in(user)} for user in users}
        for user, jar in jars.items():
            answer = site.get("/who", jar)
            assert answer.text == f"{user} 1"
            cookies = answer.cookies
            assert cookies.pop(site.former_cookie) == ""
            [(name, token)] = cookies.items()
            again = site.get("/who", {name: token})
            assert (again.text, again.set_cookies) == (f"{user} 1", [])
            assert types(service, user).count("created") == 1


@pytest.mark.parametrize("open_site", [name for name in SITES if "Django" in name], indirect=True)
def test_user_of_django_stays_authenticated(open_site: OpenSite, service: SessionsService) -> None:
    """Django compares a hash of the password with that in the session, and a new one signs out."""
    with open_site() as site:
        assert isinstance(site, DjangoSite)
        user = User.objects.create_user("ada", password=uuid4().hex)
        with override_settings(
            SERVERLESS_SESSIONS={},
            SESSION_COOKIE_NAME="sessionid",
            SESSION_ENGINE=site.engine,
        ):
            browsers = [DjangoClient() for _ in range(2)]
            for browser in browsers:
                browser.force_login(user)
            used, unused = (
                {"sessionid": browser.cookies["sessionid"].value} for browser in browsers
            )
        answer = site.get("/user", used)
        assert answer.text == "ada"
        assert site.get("/user", answer.cookies).text == "ada"
        user.set_password(uuid4().hex)
        user.save()
        assert site.get("/user", unused).text == ""
        assert site.get("/user", answer.cookies).text == ""


@all_sites
def test_migration_takes_three_calls(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site, counted_calls() as calls:
        answer = site.get("/who", {site.former_cookie: site.log_in("7")})
        assert len(calls) == 3
        site.get("/who", answer.cookies)
        assert len(calls) == 4


@all_sites
def test_time_that_was_left_is_kept(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        site.get("/who", jar)

        [session] = service.sessions.list("7")
        lifetime = 31 if isinstance(site, FlaskSite) else 14
        assert 0 <= lifetime * 24 * 3600 - session.ttl_seconds < 600


@pytest.mark.parametrize("open_site", [name for name in SITES if "Django" in name], indirect=True)
def test_expiry_of_one_session_counts(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        assert isinstance(site, DjangoSite)
        cookie = site.log_in("7", expiry=3600)
        site.get("/who", {site.former_cookie: cookie})
        [session] = service.sessions.list("7")
        assert 0 <= 3600 - session.ttl_seconds < 600


@pytest.mark.parametrize(
    ("open_site", "options", "user"),
    [
        ("Django db", {"absolute_ttl_seconds": 1000}, "7"),
        ("Flask-Session", {}, BRIEF),
        ("Flask signed cookie", {}, BRIEF),
        ("Starlette signed cookie", {"max_age": 1000}, "7"),
        ("Starlette signed cookie", {"max_age": None}, "7"),
    ],
    indirect=["open_site"],
)
def test_migrated_session_lives_no_longer_than_a_new_one(
    open_site: OpenSite, service: SessionsService, options: dict[str, Any], user: str
) -> None:
    with open_site(**options) as site:
        site.get("/who", {site.former_cookie: site.log_in(user)})
        [session] = service.sessions.list(user)
        assert session.ttl_seconds <= 1800


@pytest.mark.parametrize("open_site", ["Django db", "Django file"], indirect=True)
def test_lifetime_of_new_sessions_counts(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        cookie = site.log_in("7")
        with override_settings(SESSION_COOKIE_AGE=1000):
            site.get("/who", {site.former_cookie: cookie})
        [session] = service.sessions.list("7")
        assert session.ttl_seconds <= 1000


@signed_sites
def test_age_of_a_signed_cookie_counts(open_site: OpenSite, service: SessionsService) -> None:
    days = 24 * 3600
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        service.advance(10 * days)
        site.get("/who", jar)

        [session] = service.sessions.list("7")
        lifetime = 31 if isinstance(site, FlaskSite) else 14
        assert 0 <= (lifetime - 10) * days - session.ttl_seconds < 600


@pytest.mark.parametrize("open_site", ["Django db", "Django cached_db"], indirect=True)
def test_age_of_a_row_counts(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        from django.contrib.sessions.models import Session

        Session.objects.update(expire_date=timezone.now() + timedelta(days=4))
        site.get("/who", jar)

        [session] = service.sessions.list("7")
        assert 0 <= 4 * 24 * 3600 - session.ttl_seconds < 600


@pytest.mark.parametrize("open_site", ["Django file"], indirect=True)
def test_age_of_a_file_counts(
    open_site: OpenSite, service: SessionsService, tmp_path: Path
) -> None:
    ten_days_ago = time.time() - 10 * 24 * 3600
    with open_site() as site:
        cookie = site.log_in("7")
        os.utime(tmp_path / f"sessionid{cookie}", (ten_days_ago, ten_days_ago))
        site.get("/who", {site.former_cookie: cookie})

        [session] = service.sessions.list("7")
        assert 0 <= 4 * 24 * 3600 - session.ttl_seconds < 600


@pytest.mark.parametrize(
    ("open_site", "options"),
    [
        ("Flask-Session", {"insecure_cookie": True}),
        ("Flask signed cookie", {"insecure_cookie": True}),
        ("Starlette signed cookie", {"https_only": False}),
        ("Django db", {"migrate_cookie": "__Host-sessionid"}),
    ],
    indirect=["open_site"],
)
def test_cookie_of_the_same_name_is_replaced(
    open_site: OpenSite, service: SessionsService, options: dict[str, Any]
) -> None:
    with open_site(**options) as site:
        name = options.get("migrate_cookie", site.former_cookie)
        former = {name: site.log_in("7")}
        # Its response may be late, and must not delete the cookie of the first one.
        answers = [site.get("/who", former) for _ in range(2)]
        assert [answer.text for answer in answers] == ["7 1", "7 1"]
        assert len(answers[0].cookies[name]) == 40
        assert answers[1].cookies == {}
        assert site.get("/who", answers[0].cookies).text == "7 1"


@server_side_sites
def test_former_session_is_deleted(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        cookie, other = site.log_in("7"), site.log_in("8")
        site.get("/who", {site.former_cookie: cookie})
        assert not site.is_stored(cookie)
        assert site.is_stored(other)


@all_sites
def test_migration_is_no_proof_of_the_user(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        answer = site.get("/recent", {site.former_cookie: site.log_in("7")})
        assert answer.text == "False"
        assert site.get("/recent", answer.cookies).text == "False"
        assert site.get("/who", answer.cookies).text == "7 1"


@all_sites
def test_parallel_first_requests_make_one_session(
    open_site: OpenSite, service: SessionsService
) -> None:
    count = 6
    with open_site() as site, ThreadPoolExecutor(count) as pool:
        jar = {site.former_cookie: site.log_in("7")}
        barrier = threading.Barrier(count)

        def first(_: int) -> Answer:
            barrier.wait()
            return site.get("/who", jar)

        answers = list(pool.map(first, range(count)))

        assert {answer.text for answer in answers} == {"7 1"}
        assert types(service, "7").count("created") == 1
        # The browser keeps the cookie of the last response that sets one.
        tokens = [
            value
            for answer in answers
            for name, value in answer.cookies.items()
            if name.startswith("__Host-")
        ]
        assert len(tokens) == 1
        assert sorted(len(answer.cookies) for answer in answers) == [0] * (count - 1) + [2]
        # A request in progress still has the former cookie.
        assert site.get("/who", jar).text == "7 1"


@all_sites
def test_response_that_is_lost_signs_nobody_out(
    open_site: OpenSite, service: SessionsService
) -> None:
    """Nobody else has the new token. The session gets another one after the grace period."""
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        assert len(site.get("/who", jar).cookies) == 2
        for _ in range(2):
            answer = site.get("/who", jar)
            assert (answer.text, answer.cookies) == ("7 1", {})
        service.advance(GRACE_SECONDS)
        answer = site.get("/who", jar)
        assert (answer.text, len(answer.cookies)) == ("7 1", 2)
        assert site.get("/who", answer.cookies).text == "7 1"


@all_sites
def test_error_of_the_view_signs_nobody_out(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        answer = site.get("/fail", jar)
        assert answer.status == 500
        answer = site.get("/who", answer.cookies or jar)
        assert answer.text == "7 1"
        assert site.get("/who", answer.cookies or jar).text == "7 1"


@all_sites
def test_token_is_replaced_only_once(open_site: OpenSite, service: SessionsService) -> None:
    """Another request has already been sent when the view of the first one asks for a new token."""
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        new = site.get("/new-token", jar).cookies
        assert site.get("/who", jar).text == "7 1"
        assert site.get("/who", new).text == "7 1"


@all_sites
def test_slow_upload_ends_no_session(open_site: OpenSite, service: SessionsService) -> None:
    """Its request was sent before another tab migrated the session."""
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        new = site.get("/who", jar).cookies
        site.get("/who", new)
        service.advance(GRACE_SECONDS - 10)
        assert site.get("/put", jar).text == "7 2"
        assert site.get("/who", new).text == "7 2"


@signed_sites
def test_visitors_with_equal_cookies_share_no_session(
    open_site: OpenSite, service: SessionsService
) -> None:
    """Their cookies are equal if they have the same values and were signed in the same second."""
    with open_site() as site:
        jar = {site.former_cookie: site.log_in(VISITOR)}
        one = site.get("/put", jar).cookies
        assert one.pop(site.former_cookie) == ""
        assert site.get("/who", jar).text == "None 1"
        other = site.get("/put", jar).cookies
        site.get("/put", other)
        assert site.get("/who", one).text == "None 2"
        assert site.get("/who", other).text == "None 3"


@all_sites
def test_request_of_a_visitor_that_only_reads_changes_nothing(
    open_site: OpenSite, service: SessionsService
) -> None:
    """Its late response would replace the cookie of a log-in or of another change."""
    with open_site() as site:
        cookie = site.log_in(VISITOR)
        with counted_calls() as calls:
            answer = site.get("/who", {site.former_cookie: cookie})
        assert (answer.text, answer.set_cookies, calls) == ("None 1", [], [])


@all_sites
def test_visitor_can_remove_the_values(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        for action in ("pop", "out"):
            cookie = site.log_in(VISITOR)
            answer = site.get(f"/{action}", {site.former_cookie: cookie})
            assert answer.cookies == {site.former_cookie: ""}
            assert not site.is_stored(cookie)


@pytest.mark.parametrize(
    "open_site", [name for name in SITES if "Django" not in name], indirect=True
)
def test_agent_who_impersonates_in_the_first_request(
    open_site: OpenSite, service: SessionsService
) -> None:
    """The token that waits in a cookie is not the derived one."""
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        new = site.get("/impersonate", jar).cookies
        new.pop(site.former_cookie)
        new |= site.get("/stop", new).cookies
        assert site.get("/who", new).text == "7 1"
        service.advance(GRACE_SECONDS)
        assert site.get("/who", jar).text == "None None"


@server_side_sites
def test_visitor_keeps_the_values(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        new = site.get("/put", {site.former_cookie: site.log_in(VISITOR)}).cookies
        assert new.pop(site.former_cookie) == ""
        assert site.get("/who", new).text == "None 2"


@all_sites
def test_log_in_with_the_former_version_comes_before_a_visitors_session(
    open_site: OpenSite, service: SessionsService
) -> None:
    """During a deployment, a visitor may meet the new version first."""
    with open_site() as site:
        visitor = site.get("/put", {}).cookies
        answer = site.get("/who", visitor | {site.former_cookie: site.log_in("7")})
        assert answer.text == "7 1"
        assert site.get("/who", answer.cookies).text == "7 1"


@all_sites
def test_visitors_session_comes_before_that_of_a_former_visitor(
    open_site: OpenSite, service: SessionsService
) -> None:
    with open_site() as site:
        visitor = site.get("/put", {}).cookies
        former = {site.former_cookie: site.log_in(VISITOR, count=1)}
        with counted_calls() as calls:
            assert site.get("/large", visitor | former).text == "[]"
        assert calls == ["POST /sessions/verify"]
        assert site.get("/put", visitor).text == "None 2"


@all_sites
def test_former_cookie_beside_a_live_session_is_deleted(
    open_site: OpenSite, service: SessionsService
) -> None:
    """A process of the former version may have set it again during the deployment."""
    with open_site() as site:
        new = site.get("/who", {site.former_cookie: site.log_in("7")}).cookies
        cookie = site.log_in("7")
        answer = site.get("/who", new | {site.former_cookie: cookie})
        assert (answer.text, answer.cookies) == ("7 1", {site.former_cookie: ""})
        assert not site.is_stored(cookie)


@server_side_sites
def test_former_store_may_be_empty_for_a_moment(
    open_site: OpenSite, service: SessionsService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment may have the wrong folder or database at first."""
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        with monkeypatch.context() as patch:
            patch.setattr(CacheLibSessionInterface, "_retrieve_session_data", lambda *_: None)
            for engine in (DatabaseStore, CachedDatabaseStore, CacheStore, FileStore):
                patch.setattr(engine, "load", lambda _: {})
            answer = site.get("/who", jar)
        assert (answer.text, answer.cookies) == ("None None", {})
        assert site.get("/who", jar).text == "7 1"


@server_side_sites
def test_former_store_that_cannot_delete_signs_nobody_out(
    open_site: OpenSite,
    service: SessionsService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> None:
        raise PermissionError

    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        with monkeypatch.context() as patch:
            patch.setattr(CacheLibSessionInterface, "_delete_session", fail)
            for engine in (DatabaseStore, CachedDatabaseStore, CacheStore, FileStore):
                patch.setattr(engine, "delete", fail)
            answer = site.get("/who", jar)
        assert answer.text == "7 1"
        assert answer.cookies[site.former_cookie] == ""
        assert site.get("/who", answer.cookies).text == "7 1"
    assert "a former session can't be deleted: PermissionError" in caplog.messages


@pytest.mark.parametrize("open_site", ["Django db"], indirect=True)
def test_session_that_is_too_large_leaves_nothing(
    open_site: OpenSite, service: SessionsService
) -> None:
    """The service accepts the first part of it, and rejects a later one."""
    with open_site() as site:
        assert isinstance(site, DjangoSite)
        jar = {site.former_cookie: site.log_in("7", count=1)}
        store = site.store(jar[site.former_cookie])
        store["larger"] = "x" * 70_000
        store.save()
        answer = site.get("/who", jar)
        assert (answer.text, answer.cookies) == ("None None", {})
        assert list(service.sessions.list("7")) == []
        assert site.is_stored(jar[site.former_cookie])


@all_sites
def test_outage_at_the_save_signs_nobody_out(open_site: OpenSite, service: SessionsService) -> None:
    with open_site(**SHORT) as site:
        jar = {site.former_cookie: site.log_in("7")}
        with failing_after(2, lambda: service.fail("unavailable")):
            answer = site.get("/put", jar)
        assert (answer.status, answer.cookies) == (503, {})
        service.recover()
        answer = site.get("/who", jar)
        assert answer.text == "7 1"
        assert site.get("/who", answer.cookies).text == "7 1"


@all_sites
def test_slow_first_request_finds_the_session_of_a_fast_one(
    open_site: OpenSite, service: SessionsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its browser already uses the new token when the slow one tries to create the session."""
    create = Operations.create
    fast: list[Answer] = []

    def create_late(operations: Operations, *args: Any, **options: Any) -> Any:
        monkeypatch.setattr(Operations, "create", create)
        with ThreadPoolExecutor(1) as pool:
            fast.append(pool.submit(other.get, "/who", jar).result())
            fast.append(pool.submit(other.get, "/who", fast[0].cookies).result())
        return create(operations, *args, **options)

    with open_site() as site, open_site() as other:
        jar = {site.former_cookie: site.log_in("7")}
        monkeypatch.setattr(Operations, "create", create_late)
        slow = site.get("/who", jar)

        assert {answer.text for answer in [*fast, slow]} == {"7 1"}
        assert site.get("/who", fast[0].cookies).text == "7 1"
        assert types(service, "7").count("created") == 1


@server_side_sites
@pytest.mark.parametrize("good_calls", [1, 2, 3, 4, 99])
def test_large_session_is_whole(
    open_site: OpenSite, service: SessionsService, good_calls: int
) -> None:
    """It is stored in several calls, and an outage begins between two of them."""
    with open_site(**SHORT) as site:
        jar = {site.former_cookie: site.log_in("7", count=3)}
        with failing_after(good_calls, lambda: service.fail("unavailable")):
            answer = site.get("/who", jar)
        assert answer.status == (200 if good_calls == 99 else 503)
        service.recover()

        answer = site.get("/large", answer.cookies or jar)
        assert answer.text == "['large0', 'large1', 'large2']"
        assert types(service, "7").count("created") == 1


@all_sites
def test_migration_is_no_log_in(open_site: OpenSite, service: SessionsService) -> None:
    """A limit of sessions does not sign out a user on the devices that are migrated first."""
    with open_site(max_sessions=1) as site:
        # Signed cookies of the same second with the same values would be equal.
        jars = [{site.former_cookie: site.log_in("7", count=count)} for count in range(2)]
        jars = [site.get("/who", jar).cookies for jar in jars]
        assert [site.get("/who", jar).text for jar in jars] == ["7 1", "7 1"]


@pytest.fixture
def without_ttl(service_in_memory: Service) -> dict[str, Any]:
    """Options for a service that keeps the items of sessions that have ended."""
    return {
        "url": service_in_memory.url,
        "region": service_in_memory.region,
        "credentials": service_in_memory.credentials,
    }


@all_sites
def test_signed_out_session_stays_out(open_site: OpenSite, without_ttl: dict[str, Any]) -> None:
    with open_site(**without_ttl) as site:
        jar = {site.former_cookie: site.log_in("7")}
        new = site.get("/who", jar).cookies
        assert site.get("/out", new).status == 200
        assert site.get("/who", jar).text == "None None"


@signed_sites
def test_cookie_of_a_session_that_has_ended_is_deleted(
    open_site: OpenSite, without_ttl: dict[str, Any]
) -> None:
    with open_site(**without_ttl) as site:
        jar = {site.former_cookie: site.log_in("7")}
        site.get("/out", site.get("/who", jar).cookies)
        assert site.get("/who", jar).cookies == {site.former_cookie: ""}


@pytest.mark.parametrize(
    ("open_site", "options"),
    [
        ("Flask signed cookie", {"insecure_cookie": True}),
        ("Starlette signed cookie", {"https_only": False}),
        ("Django signed_cookies", {"migrate_cookie": "__Host-sessionid"}),
    ],
    indirect=["open_site"],
)
def test_late_response_does_not_delete_a_cookie_of_the_same_name(
    open_site: OpenSite, without_ttl: dict[str, Any], options: dict[str, Any]
) -> None:
    """A log-in may have set it in the meantime."""
    with open_site(**without_ttl, **options) as site:
        jar = {options.get("migrate_cookie", site.former_cookie): site.log_in("7")}
        site.get("/out", site.get("/who", jar).cookies)
        answer = site.get("/who", jar)
        assert (answer.text, answer.set_cookies) == ("None None", [])


@pytest.mark.parametrize("open_site", ["Django db"], indirect=True)
def test_session_that_ends_during_its_first_request(
    open_site: OpenSite, service: SessionsService
) -> None:
    """The request has changed nothing, so there is nothing that could be lost."""
    ended: list[int] = []

    def end(count: int) -> None:
        if count == 2 and not ended:
            ended.append(count)
            service.sessions.revoke_all("7")

    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        with counted_calls(end):
            answer = site.get("/who", jar)
        assert (answer.status, answer.text) == (200, "7 1")
        assert answer.cookies == {site.former_cookie: ""}
        assert not site.is_stored(jar[site.former_cookie])


@all_sites
def test_log_out_with_the_former_cookie(open_site: OpenSite, without_ttl: dict[str, Any]) -> None:
    with open_site(**without_ttl) as site:
        jar = {site.former_cookie: site.log_in("7")}
        assert site.get("/out", jar).status == 200
        assert site.get("/who", jar).text == "None None"


@server_side_sites
def test_replayed_cookie_is_refused(open_site: OpenSite, service: SessionsService) -> None:
    with open_site() as site:
        jar = {site.former_cookie: site.log_in("7")}
        new = site.get("/who", jar).cookies
        assert site.get("/who", new).text == "7 1"
        service.advance(GRACE_SECONDS)

        assert site.get("/who", jar).text == "None None"
        assert types(service, "7").count("created") == 1


@all_sites
@pytest.mark.parametrize("failure", ["unavailable", "lost"])
@pytest.mark.parametrize("good_calls", [0, 1, 2])
def test_outage_loses_nobody(
    open_site: OpenSite, service: SessionsService, failure: Failure, good_calls: int
) -> None:
    """The outage begins before the verification, the creation or the rotation."""
    with open_site(**SHORT) as site:
        jar = {site.former_cookie: site.log_in("7")}
        with failing_after(good_calls, lambda: service.fail(failure)):
            answer = site.get("/who", jar)
        assert (answer.status, answer.cookies) == (503, {})
        service.recover()
        service.advance(3600)

        answer = site.get("/who", jar)
        assert answer.text == "7 1"
        assert site.get("/who", answer.cookies).text == "7 1"
        assert types(service, "7").count("created") == 1


@pytest.mark.parametrize("open_site", ["Django db"], indirect=True)
def test_user_is_no_visitor_after_a_caught_error(
    open_site: OpenSite, service: SessionsService
) -> None:
    """The view reads the session again after the rotation has failed."""
    with open_site(**SHORT) as site:
        jar = {site.former_cookie: site.log_in("7")}
        with failing_after(2, lambda: service.fail("unavailable")):
            assert site.get("/again", jar).status == 503


@all_sites
def test_changed_or_foreign_cookie_is_a_visitor(
    open_site: OpenSite, service: SessionsService
) -> None:
    with open_site() as site:
        cookie = site.log_in("7")
        for changed in ("x" + cookie, "x", "a.b.c", "a:b:c", "é", "../../etc/passwd"):
            assert site.get("/who", {site.former_cookie: changed}).text == "None None"
        assert site.get("/who", {site.former_cookie: cookie}).text == "7 1"


@all_sites
def test_migration_ends_at_its_date(open_site: OpenSite, service: SessionsService) -> None:
    today = datetime.now(UTC).date()
    with open_site(migrate_until=today) as site:
        jar = {site.former_cookie: site.log_in("7")}
        assert site.get("/who", jar).text == "None None"


@signed_sites
def test_date_is_required_for_signed_cookies(open_site: OpenSite) -> None:
    for until in (None, "2030-01-01"):
        with pytest.raises(ValueError, match="migrate_until"), open_site(migrate_until=until) as s:
            s.get("/who", {})


@pytest.mark.parametrize(
    ("open_site", "wrong"),
    [
        ("Django db", "serverless_sessions.django"),
        ("Flask-Session", ServerlessSessions()),
        ("Flask-Session", "redis"),
        ("Starlette signed cookie", "a secret key"),
    ],
    indirect=["open_site"],
)
def test_wrong_former_store_is_refused(open_site: OpenSite, wrong: object) -> None:
    with (
        pytest.raises((TypeError, ValueError), match="migrate_from"),
        open_site(migrate_from=wrong) as site,
    ):
        site.get("/who", {})


@signed_sites
def test_signature_in_another_spelling_is_the_same_session(
    open_site: OpenSite, without_ttl: dict[str, Any]
) -> None:
    """The last character of a signature has bits that do not count."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    with open_site(**without_ttl) as site:
        cookie = site.log_in("7")
        new = site.get("/who", {site.former_cookie: cookie}).cookies
        site.get("/out", new)
        place = alphabet.index(cookie[-1]) ^ 1
        spelled = cookie[:-1] + alphabet[place]
        assert site.get("/who", {site.former_cookie: spelled}).text == "None None"


@all_sites
def test_migrations_are_logged(
    open_site: OpenSite, service: SessionsService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serverless_sessions")
    with open_site() as site:
        cookie = site.log_in("7")
        for _ in range(2):
            site.get("/who", {site.former_cookie: cookie})
    [session] = service.sessions.list("7")
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count(f"session {session.session_id} continues a former one") == 1
    assert not any(cookie in message for message in messages)


@pytest.mark.parametrize("open_site", [name for name in SITES if "Django" in name], indirect=True)
def test_async_view(open_site: OpenSite, service: SessionsService) -> None:
    """Under WSGI and under ASGI."""
    with open_site() as site:
        answer = site.get("/async", {site.former_cookie: site.log_in("7")})
        assert answer.text == "7 1"
        assert site.get("/async", answer.cookies).text == "7 1"

        async def get() -> bytes:
            answer = await browser.get("/async", secure=True)
            # The thread for synchronous code outlives the database of this test.
            await sync_to_async(connections.close_all)()
            return bytes(answer.content)

        browser, cookie = AsyncClient(), site.log_in("8")
        browser.cookies[site.former_cookie] = cookie
        assert [asyncio.run(get()) for _ in range(2)] == [b"8 1", b"8 1"]
        assert not site.is_stored(cookie)


@pytest.mark.parametrize("open_site", [name for name in SITES if "Flask" in name], indirect=True)
def test_tests_of_an_app_can_log_in(open_site: OpenSite, service: SessionsService) -> None:
    """Flask's test client opens the session for them outside of the request's context."""
    with open_site() as site:
        assert isinstance(site, FlaskSite)
        browser = site.app.test_client()
        browser.set_cookie(site.former_cookie, site.log_in("7"))
        with browser.session_transaction(base_url="https://localhost") as session:
            assert session["_user_id"] == "7"
            session["_user_id"] = "8"
        assert browser.get("/who", base_url="https://localhost").text == "8 1"


class FormerFlaskSessions(SecureCookieSessionInterface):
    def get_cookie_name(self, app: Flask) -> str:
        return "__Secure-shop"

    def get_cookie_domain(self, app: Flask) -> str | None:
        return "shop.example"

    def get_cookie_path(self, app: Flask) -> str:
        return "/shop"


@pytest.mark.parametrize(
    ("open_site", "options"),
    [
        (
            "Django db",
            {
                "migrate_cookie": "__Secure-shop",
                "migrate_cookie_domain": "shop.example",
                "migrate_cookie_path": "/shop",
            },
        ),
        ("Flask signed cookie", {"migrate_from": FormerFlaskSessions()}),
        (
            "Starlette signed cookie",
            {
                "migrate_from": SignedCookie(
                    "for tests", "__Secure-shop", path="/shop", domain="shop.example"
                )
            },
        ),
    ],
    indirect=["open_site"],
)
def test_cookie_with_other_attributes_is_deleted(
    open_site: OpenSite, service: SessionsService, options: dict[str, Any]
) -> None:
    with open_site(**options) as site:
        answer = site.get("/who", {"__Secure-shop": site.log_in("7")})
        assert answer.text == "7 1"
        [deletion] = [text for text in answer.set_cookies if text.startswith("__Secure-shop")]
        attributes = {part.strip().lower() for part in deletion.split(";")}
        assert {"domain=shop.example", "path=/shop", "max-age=0", "secure"} <= attributes


@pytest.mark.parametrize("open_site", ["Starlette signed cookie"], indirect=True)
def test_websocket_leaves_the_cookie_to_the_next_request(
    open_site: OpenSite, service: SessionsService
) -> None:
    """A WebSocket cannot set a cookie, so it does not use up the derived token."""
    with open_site() as site:
        assert isinstance(site, StarletteSite)
        jar = {"session": site.log_in("7")}
        with site.client.websocket_connect("/socket", headers={"cookie": header(jar)}) as socket:
            assert socket.receive_text() == "7"
        answer = site.get("/who", jar)
        assert answer.text == "7 1"
        assert site.get("/who", answer.cookies).text == "7 1"
        assert types(service, "7").count("created") == 1


@all_sites
def test_session_of_a_request_with_both_cookies_is_the_new_one(
    open_site: OpenSite, service: SessionsService
) -> None:
    with open_site() as site:
        new = site.get("/who", {site.former_cookie: site.log_in("7")}).cookies
        former = {site.former_cookie: site.log_in("8")}
        assert site.get("/who", new | former).text == "7 1"
        # Once it has expired, the former one is continued.
        service.advance(50 * 24 * 3600)
        former[site.former_cookie] = site.log_in("8")
        assert site.get("/who", new | former).text == "8 1"


@all_sites
def test_log_out_also_ends_a_former_session(open_site: OpenSite, service: SessionsService) -> None:
    """A process of the former version may have set its cookie again during the deployment."""
    with open_site() as site:
        new = site.get("/who", {site.former_cookie: site.log_in("7")}).cookies
        cookie = site.log_in("7")
        answer = site.get("/out", new | {site.former_cookie: cookie})
        assert answer.cookies[site.former_cookie] == ""
        assert not site.is_stored(cookie)


def test_snippets_of_the_guide_run(
    service: SessionsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "for tests")
    page = (ROOT / "docs/integrating/migrating.md").read_text()
    names: list[dict[str, Any]] = []
    for snippet in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        names.append({})
        exec(compile(snippet, "docs/integrating/migrating.md", "exec"), names[-1])  # noqa: S102
    django, flask, other, starlette = names
    app = Flask(__name__)
    assert other["FormerSessions"]().get_cookie_name(app) == "shop_session"
    with override_settings(SERVERLESS_SESSIONS=django["SERVERLESS_SESSIONS"]):
        check_options()
    cookie = FlaskSite(flask_app(SecureCookieSessionInterface()), flask["app"]).log_in("7")
    with flask["app"].test_request_context(headers={"Cookie": f"session={cookie}"}):
        assert flask_session["_user_id"] == "7"
    flask["app"].extensions["serverless_sessions"].close()
    middleware = starlette["app"].user_middleware[0]
    assert middleware.kwargs["migrate_from"].session_cookie == "session"
