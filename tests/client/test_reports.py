"""No report of an error contains a token, the data of a session or a key of AWS.

Sentry, Django's error page and others show the local variables of all frames. Each test lets a call
fail at each of its requests, in each way in which it can fail, and looks at all variables of the
frames of this package, and of the libraries that it calls.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import product
from pprint import pformat
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.credentials import Credentials
from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.views.debug import ExceptionReporter
from flask import Flask
from flask import session as flask_session
from starlette.requests import HTTPConnection
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse

from serverless_sessions import AsyncSessions, Sessions, SessionsError
from serverless_sessions import _core as core
from serverless_sessions._core import token as token_module
from serverless_sessions._core.calls import Answer, NoAnswer, Request
from serverless_sessions._core.secret import Secret
from serverless_sessions.flask import ServerlessSessions
from serverless_sessions.starlette import SessionMiddleware, load_session
from tests.client import django_settings  # noqa: F401  # configures Django
from tests.support import service as faults
from tests.support.django_users import BACKEND
from tests.support.service import Service

SECRET = "Sec" * 9
SESSION_ID = "A" * 12
TOKEN = f"{SESSION_ID}.{SECRET}"
DATA = "4111-1111"
STORED = "5222-2222"
KEY = "very-secret-key"
SESSION_TOKEN = "very-secret-session-token"
SECRETS = (SECRET, DATA, STORED, KEY, SESSION_TOKEN)
PACKAGE = core.__path__[0].removesuffix("_core")

SESSION: dict[str, Any] = {
    "session_id": SESSION_ID,
    "user_id": "ada",
    "created_at": 1_795_000_000,
    "renewed_at": 1_795_000_000,
    "expires_at": 1_795_001_800,
    "absolute_expires_at": 1_795_086_400,
    "ttl_seconds": 1800,
    "version": 1,
    "data": {"card": STORED},
    "client": {},
    "last_client": {},
}


class Interrupted(BaseException):
    """What a signal handler raises, for example that of a server that stops a worker."""


def leaks(error: BaseException) -> list[str]:
    """Return where a report of the error would show a secret."""
    places = []
    for link in chain(error):
        shown = [str(link), repr(link), *getattr(link, "__notes__", ())]
        places += [f"message of {type(link).__name__}"] if is_secret(*shown) else []
        for place, variables in frames(link.__traceback__):
            for name, value in variables.items():
                # The frames of every ASGI app and middleware have the headers of the request.
                if not is_asgi_scope(value) and is_secret(pformat(value), sentry(value)):
                    places.append(f"{place}: {name}")
    return places


def chain(error: BaseException) -> Iterator[BaseException]:
    remaining: list[BaseException | None] = [error]
    seen = []
    while remaining:
        link = remaining.pop()
        if link is not None and link not in seen:
            seen.append(link)
            yield link
            remaining += [link.__cause__, link.__context__]


def frames(trace: TracebackType | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the frames of this package, and those of libraries that it has called.

    The frames of the app, and those of a framework that calls this package, are not ours.
    """
    is_inside = False
    while trace:
        code = trace.tb_frame.f_code
        # A middleware of this package calls the app, which calls the package again.
        is_of_the_app = "/tests/" in code.co_filename
        is_inside = not is_of_the_app and (is_inside or code.co_filename.startswith(PACKAGE))
        if is_inside:
            yield f"{code.co_filename}:{code.co_name}", trace.tb_frame.f_locals
        trace = trace.tb_next


def sentry(value: object) -> str:
    """Show a variable as Sentry does, which looks into containers and does not use their `repr`."""
    shown = getattr(type(value), "__sentry_repr__", None)
    if shown:
        return str(shown(value))
    if isinstance(value, Mapping):
        return repr({name: sentry(member) for name, member in value.items()})
    if isinstance(value, list | tuple | set):
        return repr([*map(sentry, value)])
    return repr(value)


def is_asgi_scope(value: object) -> bool:
    if isinstance(value, HTTPConnection):  # to Sentry a mapping, like its scope
        return True
    return type(value) is dict and value.get("type") == "http" and "headers" in value


def is_secret(*texts: str) -> bool:
    return any(secret in text for secret in SECRETS for text in texts)


def check(error: BaseException) -> None:
    assert leaks(error) == []


class Stub:
    """Takes the place of a transport. Answers as the service does, up to request number `failing`.

    From then on it does `fault`.
    """

    def __init__(self, failing: int, fault: Callable[[], Answer | NoAnswer]) -> None:
        self.count = 0
        self._failing = failing
        self._fault = fault

    def answer(self, request: Request) -> Answer | NoAnswer:
        self.count += 1
        return self._fault() if self.count > self._failing else answered(request)


class SyncStub(Stub):
    def send(self, request: Request, *_: object) -> Answer | NoAnswer:
        return self.answer(request)

    def close(self) -> None:
        """There are no connections."""


class AsyncStub(Stub):
    async def send(self, request: Request, *_: object) -> Answer | NoAnswer:
        return self.answer(request)

    async def aclose(self) -> None:
        """There are no connections."""


def answered(request: Request) -> Answer:
    """Return the answer of the service, with the session that the request is about."""
    parts = urlsplit(request.url)
    body = json.loads(request.body.value or b"{}")
    in_path = re.match(r"/sessions/([\w-]{12})", parts.path)
    session_id = body.get("session_id") or str(body.get("token", ""))[:12]
    session_id = in_path[1] if in_path else session_id
    data = {"card": STORED, "_auth_user_id": "1", "user_id": "ada", "_auth_user_hash": STORED}
    session = SESSION | {"session_id": session_id, "data": data}
    if request.method == "DELETE":
        return Answer(204, {}, b"")
    status = 201 if parts.path == "/sessions" else 200
    return Answer(status, {}, json.dumps(session).encode())


def problem(status: int, code: str) -> Callable[[], Answer]:
    return lambda: Answer(status, {}, json.dumps({"code": code, "detail": "no"}).encode())


def interrupted() -> Answer:
    raise Interrupted


FAULTS: dict[str, Callable[[], Answer | NoAnswer]] = {
    "interrupted": interrupted,
    "lost": lambda: NoAnswer("no answer (ReadError)", sent=True),
    "not sent": lambda: NoAnswer("no answer (ConnectError)", sent=False),
    "foreign": lambda: Answer(200, {}, json.dumps({"card": STORED}).encode()),
    "no JSON": lambda: Answer(200, {}, STORED.encode()),
    "not found": problem(404, "session_not_found"),
    "conflict": problem(412, "version_mismatch"),
    "bad token": problem(401, "invalid_token"),
    "too large": problem(413, "data_too_large"),
    "refused": problem(403, ""),
    "in grace": problem(409, "rotation_in_grace"),
}


@pytest.fixture(autouse=True)
def known_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that the package generates have the same secret. Pauses take no time."""
    monkeypatch.setattr(token_module, "_random", lambda characters: (SECRET * 2)[:characters])
    monkeypatch.setattr("serverless_sessions._core.calls._PAUSE_SECONDS", 0)


def credentials() -> Credentials:
    return Credentials("access", KEY, SESSION_TOKEN)


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of either kind, whose transport is a stub."""
    with ExitStack() as stack:

        def make(failing: int, fault: Callable[[], Answer | NoAnswer]) -> Any:
            options: dict[str, Any] = {"region": "us-east-1", "credentials": credentials()}
            if request.param == "sync":
                sessions: Any = Sessions("http://localhost", **options)
                sessions._transport = SyncStub(failing, fault)
                return sessions
            loop = asyncio.new_event_loop()
            stack.callback(loop.close)
            asynchronous: Any = AsyncSessions("http://localhost", **options)
            asynchronous._transport = AsyncStub(failing, fault)
            return OnLoop(asynchronous, loop)

        yield make


class OnLoop:
    """An `AsyncSessions` whose calls run in this thread, so that an interruption gets here."""

    def __init__(self, sessions: AsyncSessions, loop: asyncio.AbstractEventLoop) -> None:
        self._sessions = sessions
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            method: Callable[..., Awaitable[Any]] = getattr(self._sessions, name)
            return self._loop.run_until_complete(method(*arguments, **options))

        return call


CALLS: dict[str, Callable[[Any], object]] = {
    "create": lambda sessions: sessions.create("ada", data={"card": DATA}),
    "verify": lambda sessions: sessions.verify(TOKEN),
    "inspect": lambda sessions: sessions.inspect(TOKEN),
    "get": lambda sessions: sessions.get(SESSION_ID),
    "change": lambda sessions: sessions.change(SESSION_ID, {"card": DATA}),
    "change a version": lambda sessions: sessions.change(SESSION_ID, {"card": DATA}, version=1),
    "replace": lambda sessions: sessions.replace(SESSION_ID, {"card": DATA}),
    "update": lambda sessions: sessions.update(SESSION_ID, lambda data: {"card": DATA}),
    "update in place": lambda sessions: sessions.update(SESSION_ID, lambda data: data.clear()),
    "renew": lambda sessions: sessions.renew(SESSION_ID),
    "rotate": lambda sessions: sessions.rotate(SESSION_ID, token=TOKEN),
    "authenticate": lambda sessions: sessions.authenticate(
        SESSION_ID, methods=["otp"], token=TOKEN
    ),
    "rotate by id": lambda sessions: sessions.rotate(SESSION_ID),
    "malformed token": lambda sessions: sessions.rotate(SESSION_ID, token=TOKEN + "\n"),
    "token of another": lambda sessions: sessions.rotate("B" * 12, token=TOKEN),
    "token as bytes": lambda sessions: sessions.rotate(SESSION_ID, token=TOKEN.encode()),
    "data that is no JSON": lambda sessions: sessions.create("ada", data={"a": DATA, "b": {1}}),
    "a number that is none": lambda sessions: sessions.change(
        SESSION_ID, {"a": DATA, "b": float("nan")}
    ),
    "data that is no mapping": lambda sessions: sessions.replace(SESSION_ID, [DATA, {1}]),
    "update to no JSON": lambda sessions: sessions.update(SESSION_ID, lambda data: {"a": {DATA}}),
    "update that fails": lambda sessions: sessions.update(SESSION_ID, lambda data: data["absent"]),
}


@pytest.mark.parametrize("name", CALLS)
def test_report_of_a_call_has_no_secret(client: Callable[..., Any], name: str) -> None:
    for failing, fault in product(range(3), FAULTS.values()):
        try:
            CALLS[name](client(failing, fault))
        except BaseException as error:
            check(error)


@pytest.mark.parametrize("name", ["create", "verify", "change", "update", "rotate", "authenticate"])
def test_report_has_our_frames(client: Callable[..., Any], name: str) -> None:
    """The other tests would prove nothing if they looked at no frames."""
    with pytest.raises(SessionsError) as raised:
        CALLS[name](client(0, FAULTS["too large"]))
    functions = [place.rpartition(":")[2] for place, _ in frames(raised.value.__traceback__)]
    assert functions[0] == name
    assert {"run", "call"} <= {*functions}


@pytest.mark.parametrize("name", ["create", "verify", "change", "rotate", "authenticate"])
@pytest.mark.parametrize("kind", [Interrupted, ValueError])
def test_report_of_a_signature_that_fails(
    client: Callable[..., Any], name: str, kind: type[BaseException], monkeypatch: Any
) -> None:
    def fail(*_: object) -> None:
        raise kind

    monkeypatch.setattr(SigV4Auth, "signature", fail)
    with pytest.raises(kind) as raised:
        CALLS[name](client(9, interrupted))
    check(raised.value)


def test_djangos_page_has_no_secret(client: Callable[..., Any]) -> None:
    """Its page shows all variables of all frames, unlike Sentry also those that are named token."""

    def call(name: str) -> str:
        try:
            CALLS[name](client(0, problem(500, "internal_error")))
        except SessionsError as error:
            kind, trace = type(error), error.__traceback__
            # The frames of this test have secrets on purpose.
            while trace and not trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
                trace = trace.tb_next
            error.with_traceback(trace)
            return ExceptionReporter(None, kind, error, trace).get_traceback_html()
        raise AssertionError

    for name in ("create", "verify", "change", "replace", "rotate", "authenticate"):
        page = call(name)
        assert "Secret()" in page
        assert not is_secret(page), [line for line in page.splitlines() if is_secret(line)]


@pytest.mark.parametrize("name", ["create", "verify", "change", "rotate", "authenticate"])
def test_report_of_a_real_request_has_no_secret(
    service: Service, connect: Callable[..., Any], name: str
) -> None:
    sessions = connect(credentials=credentials(), deadline_seconds=0.3, verify_deadline_seconds=0.3)
    for fault in (faults.frozen, faults.reset, faults.drip):
        service.plan(always=fault)
        with pytest.raises(SessionsError) as raised:
            CALLS[name](sessions)
        check(raised.value)


def test_report_of_an_interrupted_request_has_no_secret(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames of the libraries have the body, so they are cut off."""

    def interrupt(*_: object) -> bytes:
        raise Interrupted

    monkeypatch.setattr("httpcore2._backends.sync.SyncStream.read", interrupt)
    with Sessions(service.url, region=service.region, credentials=credentials()) as sessions:
        for name in ("create", "verify", "change", "rotate", "authenticate"):
            with pytest.raises(Interrupted) as raised:
                CALLS[name](sessions)
            check(raised.value)


def test_report_of_a_cancelled_request_has_no_secret(service: Service) -> None:
    service.plan(always=faults.frozen)

    async def cancel(name: str) -> BaseException:
        async with AsyncSessions(
            service.url, region=service.region, credentials=credentials()
        ) as sessions:
            service.calls.clear()
            task = asyncio.ensure_future(cast(Awaitable[object], CALLS[name](sessions)))
            while not service.calls:
                await asyncio.sleep(0.01)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                return error
        raise AssertionError

    for name in ("create", "verify", "change", "rotate", "authenticate"):
        check(asyncio.run(cancel(name)))


def act(session: Any, name: str, user_key: str) -> None:
    """Do what a view does with its session."""
    match name:
        case "read":
            session.get("card")
        case "write":
            session["card"] = DATA
        case "update":
            session.update({"card": DATA})
        case "update by names":
            session.update(card=DATA)
        case "set a default":
            session.setdefault("other", DATA)
        case "merge":
            session |= {"card": DATA}
        case "merge into a copy":
            session | {"card": DATA}
        case "merge a copy":
            {"card": DATA} | session
        case "write no JSON":
            session["card"] = {DATA, object()}
        case "log in":
            session[user_key], session["card"] = "2", DATA
        case "log out":
            session.pop(user_key, None)
        case "clear":
            session.clear()
        case "regenerate":
            session.regenerate()
        case "authenticate":
            session.authenticate(["otp"])
        case "impersonate":
            session.impersonate("2", reason="ticket-42")


ACTIONS = [
    *("read", "write", "update", "update by names", "set a default", "merge"),
    *("merge into a copy", "merge a copy", "write no JSON", "log in", "log out", "clear"),
    *("regenerate", "authenticate", "impersonate"),
]
# How many of the requests of an action succeed before they fail.
FIRST_FAILURES = range(4)
COOKIE = f"__Host-session={TOKEN}; __Host-visitor={TOKEN}; __Host-impersonator={TOKEN}"


@pytest.mark.parametrize("name", ACTIONS)
def test_report_of_a_flask_app_has_no_secret(name: str) -> None:
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.config["SERVERLESS_SESSIONS"] = {
        "url": "http://localhost", "region": "us-east-1", "credentials": credentials(),
        "user_key": "user_id",
    }  # fmt: skip
    ServerlessSessions(app)

    @app.get("/")
    def view() -> str:
        try:
            act(flask_session._get_current_object(), name, "user_id")  # type: ignore[attr-defined]
        except BaseException as error:
            check(error)
            raise
        return ""

    for failing, fault in product(FIRST_FAILURES, FAULTS.values()):
        app.extensions["serverless_sessions"]._transport = SyncStub(failing, fault)
        try:
            app.test_client(use_cookies=False).get("/", headers={"Cookie": COOKIE})
        except BaseException as error:
            check(error)


@pytest.mark.parametrize("name", ACTIONS)
def test_report_of_a_starlette_app_has_no_secret(name: str) -> None:
    async def run(failing: int, fault: Callable[[], Answer | NoAnswer]) -> None:
        sessions: Any = AsyncSessions(
            "http://localhost", region="us-east-1", credentials=credentials()
        )
        sessions._transport = AsyncStub(failing, fault)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            request = StarletteRequest(scope, receive)
            try:
                if name != "write":  # the others find the session loaded
                    await load_session(request)
                act(request.session, name, "user_id")
            except BaseException as error:
                check(error)
                raise
            await PlainTextResponse("")(scope, receive, send)

        async def send(message: Any) -> None:
            """There is no browser."""

        scope = {
            "type": "http", "method": "GET", "path": "/", "query_string": b"",
            "headers": [(b"cookie", COOKIE.encode())], "client": ("192.0.2.1", 1),
        }  # fmt: skip
        await SessionMiddleware(app, sessions)(scope, None, send)  # type: ignore[arg-type]

    for failing, fault in product(FIRST_FAILURES, FAULTS.values()):
        try:
            asyncio.run(run(failing, fault))
        except BaseException as error:
            check(error)


DJANGO_ACTIONS = [
    *("read", "write", "update", "set a default", "write no JSON", "clear"),
    *("cycle_key", "flush", "set_expiry", "save", "exists", "delete", "log out of the user"),
    *("authenticate", "impersonate", "stop_impersonating"),
]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("name", DJANGO_ACTIONS)
def test_report_of_a_django_app_has_no_secret(name: str, is_async: bool) -> None:
    from serverless_sessions.django import _async_sessions, _sessions
    from serverless_sessions.django.middleware import SessionMiddleware as DjangoMiddleware

    async def do_async(session: Any) -> None:
        match name:
            case "read":
                await session.aget("card")
            case "write" | "write no JSON":
                await session.aset("card", {DATA, object()} if "no JSON" in name else DATA)
            case "update":
                await session.aupdate({"card": DATA})
            case "set a default":
                await session.asetdefault("other", DATA)
            case "set_expiry":
                await session.aset_expiry(600)
            case "save":
                await session.aset("card", DATA)
                await session.asave()
            case "exists" | "delete":
                await getattr(session, f"a{name}")(f"{'B' * 12}.{SECRET}")
            case "log out of the user":
                await auth.aget_user(request)
            case "authenticate":
                await session.aauthenticate(["otp"])
            case "impersonate":
                values = Secret({"_auth_user_id": "2", "_auth_user_hash": DATA})
                await session.aimpersonate(values, by=None, reason="ticket-42")
            case "clear":
                await session.aget("card")
                session.clear()
            case _:
                await getattr(session, f"a{name}")()

    def do(session: Any) -> None:
        match name:
            case "set_expiry":
                session.set_expiry(600)
            case "save":
                session["card"] = DATA
                session.save()
            case "exists" | "delete":
                getattr(session, name)(f"{'B' * 12}.{SECRET}")
            case "cycle_key" | "flush" | "stop_impersonating":
                getattr(session, name)()
            case "log out of the user":
                auth.get_user(request)
            case "impersonate":
                values = Secret({"_auth_user_id": "2", "_auth_user_hash": DATA})
                session.impersonate(values, by=None, reason="ticket-42")
            case _:
                act(session, name, "_auth_user_id")

    def view(request: HttpRequest) -> HttpResponse:
        try:
            if is_async:
                asyncio.run(do_async(request.session))
            else:
                do(request.session)
        except BaseException as error:
            check(error)
            raise
        return HttpResponse()

    with override_settings(
        SERVERLESS_SESSIONS={
            "url": "http://localhost", "region": "us-east-1", "credentials": credentials()
        },
        SESSION_ENGINE="serverless_sessions.django",
        SESSION_COOKIE_SAMESITE="wrong" if name == "cycle_key" else "Lax",
        AUTHENTICATION_BACKENDS=[BACKEND],
    ):  # fmt: skip
        for failing, fault in product(FIRST_FAILURES, FAULTS.values()):
            transport: Any = SyncStub(failing, fault)
            asynchronous: Any = AsyncStub(failing, fault)
            _sessions()._transport = transport
            _async_sessions()._transport = asynchronous
            request = RequestFactory().get(
                "/", HTTP_COOKIE=f"sessionid={TOKEN}; sessionid_impersonator={TOKEN}"
            )
            try:
                DjangoMiddleware(view)(request)
            except BaseException as error:
                check(error)


def test_values_are_in_no_repr_of_a_session() -> None:
    app = Flask(__name__)
    app.config["SERVERLESS_SESSIONS"] = {"url": "http://localhost", "region": "us-east-1"}
    ServerlessSessions(app)
    with app.test_request_context():
        flask_session["card"] = DATA
        assert repr(flask_session) == "<FlaskSession ['card']>"
