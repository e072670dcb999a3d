"""The sessions of Starlette and FastAPI on the service."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from starlette.applications import Starlette
from starlette.authentication import AuthenticationBackend
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware as StarlettesOwn
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from serverless_sessions import AsyncSessions, DataTooLarge, Sessions, SessionsError
from serverless_sessions.starlette import (
    SessionMiddleware,
    SessionNotLoaded,
    StarletteSession,
    load_passively,
    load_session,
    require_recent,
)
from tests.support import service as faults
from tests.support.service import Call, Fault, Service

VERIFY, CREATE = "POST /sessions/verify", "POST /sessions"
OUTAGES = [faults.frozen, faults.throttled, faults.reset]
Loaded = Annotated[StarletteSession, Depends(load_session)]
Open = Callable[..., TestClient]


def closing(client: AsyncSessions) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return lifespan


def make_app(client: AsyncSessions, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=closing(client))
    app.add_middleware(SessionMiddleware, sessions=client, **options)

    @app.get("/pages/{name:path}", dependencies=[Depends(require_recent(300, methods=["otp"]))])
    async def page(name: str) -> str:
        return name

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    @app.get("/read")
    async def read(session: Loaded) -> dict[str, Any]:
        return session

    @app.get("/read-in-a-thread")
    def read_in_a_thread(request: Request) -> JSONResponse:
        return JSONResponse(request.session)

    @app.post("/set/{key}/{value}")
    async def set_value(key: str, value: str, session: Loaded) -> None:
        session[key] = value

    @app.post("/set-in-a-thread/{key}/{value}")
    def set_in_a_thread(key: str, value: str, request: Request) -> None:
        request.session[key] = value

    @app.post("/pop/{key}")
    async def pop(key: str, session: Loaded) -> None:
        session.pop(key, None)

    @app.post("/basket/{thing}")
    async def add(thing: str, session: Loaded) -> None:
        session.setdefault("basket", []).append(thing)

    @app.post("/log-in/{name}")
    async def log_in(name: str, session: Loaded) -> None:
        session["user_id"] = name

    @app.post("/log-out")
    async def log_out(session: Loaded) -> None:
        session.pop("user_id", None)

    @app.post("/clear")
    async def clear(session: Loaded) -> None:
        session.clear()

    @app.post("/elevate")
    async def elevate(session: Loaded) -> None:
        session.regenerate()

    @app.get("/poll")
    async def poll(session: Annotated[StarletteSession, Depends(load_passively)]) -> None:
        session.get("a")

    @app.get("/poll-in-a-thread", dependencies=[Depends(load_passively)])
    def poll_in_a_thread(request: Request) -> None:
        request.session.get("a")

    @app.get("/unloaded")
    async def unloaded(request: Request) -> dict[str, Any]:
        return dict(request.session)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, accept_first: bool = False) -> None:
        if accept_first:
            await websocket.accept()
        session = await load_session(websocket)
        if not accept_first:
            await websocket.accept()
        await websocket.send_json(dict(session))
        with pytest.raises(TypeError, match="can't be changed"):
            session["a"] = 1
        with pytest.raises(TypeError, match="can't be changed"):
            session.regenerate()
        with pytest.raises(TypeError, match="can't be changed"):
            session.authenticate(["otp"])
        with pytest.raises(TypeError, match="can't be changed"):
            session.impersonate("ada", reason="x")
        with pytest.raises(TypeError, match="can't be changed"):
            await session.stop_impersonating()
        await websocket.close()

    @app.websocket("/guarded", dependencies=[Depends(require_recent(300))])
    async def guarded_socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    return app


@pytest.fixture
def browse(service: Service) -> Iterator[Open]:
    """Open browsers. Every call creates an app with the given options."""
    with ExitStack() as stack:

        def browse(
            deadlines: dict[str, float] | None = None,
            cookies: httpx2.Cookies | None = None,
            **options: Any,
        ) -> TestClient:
            app = make_app(sessions_of(service, **deadlines or {}), **options)
            browser = TestClient(app, base_url="https://testserver", raise_server_exceptions=False)
            browser.cookies.update(cookies)
            return stack.enter_context(browser)

        yield browse


@pytest.fixture
def browser(browse: Open) -> TestClient:
    return browse()


def sessions_of(service: Service, **deadlines: Any) -> AsyncSessions:
    return AsyncSessions(
        service.url, region=service.region, credentials=service.credentials, **deadlines
    )


# For calls that have to fail.
SHORT_DEADLINES = {"deadline_seconds": 0.2, "verify_deadline_seconds": 0.2}


def token(browser: TestClient, name: str = "session") -> str | None:
    return browser.cookies.get(f"__Host-{name}")


def live(service: Service) -> list[dict[str, Any]]:
    return [item for item in service.items() if "RevokedAt" not in item]


def users(service: Service) -> list[str]:
    return sorted(item.get("UserId", {}).get("S", "") for item in live(service))


def sent(service: Service) -> list[str]:
    """Return the calls since the last time, with `{id}` instead of session ids."""
    calls = [re.sub(r"/[\w-]{12}(?=/|\?|$)", "/{id}", call) for call in service.calls]
    service.plan()
    return calls


def test_a_request_makes_the_calls_that_it_needs(browser: TestClient, service: Service) -> None:
    patch, delete = "PATCH /sessions/{id}", "DELETE /sessions/{id}?reason="
    expected = {
        "GET /plain": [],
        "GET /read": [],
        "GET /read-in-a-thread": [],
        "POST /clear": [],
        "POST /set/a/1": [CREATE],
        "GET /plain#with a cookie": [],
        "GET /read#with a cookie": [VERIFY],
        "GET /read-in-a-thread#with a cookie": [VERIFY],
        "POST /set/a/1#the same value": [VERIFY],
        "POST /set/a/2": [VERIFY, patch],
        "POST /set-in-a-thread/a/3": [VERIFY, patch],
        "POST /log-in/ada": [VERIFY, CREATE, "POST /sessions/{id}/renew"],
        "POST /elevate": [VERIFY, "POST /sessions/{id}/rotate"],
        "POST /log-in/bob": [VERIFY, CREATE, f"{delete}signed_in"],
        "POST /pop/a": [VERIFY, patch],
        "POST /log-out": [VERIFY, f"{delete}logout"],
        "POST /log-in/ada#without a session": [CREATE],
        "POST /clear#with a user": [VERIFY, f"{delete}logout"],
    }

    actual = {}
    for request in expected:
        method, path = request.partition("#")[0].split(" ")
        assert browser.request(method, path).status_code == 200
        actual[request] = sent(service)

    assert actual == expected


@pytest.mark.usefixtures("stopped_clocks")
def test_cookie_is_only_for_this_host_over_https(browser: TestClient, service: Service) -> None:
    answer = browser.post("/set/a/1", headers={"User-Agent": "Browser 1"})

    [item] = service.items()
    name, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith(f"__Host-visitor={item['SessionId']['S']}.")
    # The cookie lasts until the absolute end. The service enforces the idle timeout.
    assert attributes == ["path=/", "Max-Age=34560000", "httponly", "samesite=lax", "secure"]
    assert answer.headers["Vary"] == "Cookie"
    assert item["TtlSeconds"]["N"] == "1209600"
    assert item["Client"]["M"] == {"user_agent": {"S": "Browser 1"}}
    read = browser.get("/read")
    assert "Set-Cookie" not in read.headers
    assert read.headers["Vary"] == "Cookie"
    assert "Vary" not in browser.get("/plain").headers

    assert "Set-Cookie" not in browser.post("/clear").headers
    started, visitor_ended = browser.post("/log-in/ada").headers.get_list("Set-Cookie")
    assert started.startswith("__Host-session=")
    assert started.split("; ")[1:] == attributes
    assert visitor_ended.startswith("__Host-visitor=; path=/; Max-Age=0; ")
    ended = browser.post("/clear").headers["Set-Cookie"]
    assert ended.startswith("__Host-session=; path=/; Max-Age=0; ")
    assert ended.endswith("; httponly; samesite=lax; secure")
    assert users(service) == [""]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"https_only": False}, "visitor=.*; path=/; .*; httponly; samesite=lax"),
        ({"max_age": None}, "__Host-visitor=.*; path=/; httponly; samesite=lax; secure"),
        ({"domain": "example.com"}, "visitor=.*; secure; domain=example.com"),
        ({"path": "/app"}, "visitor=.*; path=/app; .*; secure"),
        (
            {"session_cookie": "mine", "same_site": "strict"},
            "__Host-mine_visitor=.*; samesite=strict.*",
        ),
        ({"partitioned": True}, "__Host-visitor=.*; secure; partitioned"),
    ],
)
def test_options_work_as_in_starlettes_own_middleware(
    browse: Open, options: dict[str, Any], expected: str
) -> None:
    browser = browse(**options)
    visitor = browser.post("/set/a/1").headers["Set-Cookie"]
    user = browser.post("/log-in/ada").headers["Set-Cookie"]

    assert re.fullmatch(expected, visitor)
    for_user = expected.replace("_visitor", "").replace("visitor", "session")
    assert re.match(for_user, user)
    for cookie in (visitor, user):
        assert cookie.startswith("__Host-") == expected.startswith("__Host-")


def test_invalid_max_age_raises_an_error() -> None:
    for max_age in (0, -1, 401 * 86400):
        with pytest.raises(ValueError, match="max_age"):
            SessionMiddleware(
                Starlette(), AsyncSessions("http://127.0.0.1", region="-"), max_age=max_age
            )


def test_cookie_is_not_set_again_by_a_renewal(browser: TestClient, service: Service) -> None:
    """A late response would set a former token."""
    browser.post("/set/a/1")
    [item] = live(service)
    earlier = {
        name: {"N": str(int(item[name]["N"]) - 200_000)} for name in ("CreatedAt", "RenewedAt")
    }
    service.sdk.put_item(TableName=service.table, Item=item | earlier)

    answer = browser.get("/read")

    assert live(service)[0]["RenewedAt"] != earlier["RenewedAt"]
    assert "Set-Cookie" not in answer.headers


def test_log_in_and_log_out_change_the_session(browser: TestClient, service: Service) -> None:
    browser.post("/set/cart/book")
    before = token(browser)

    browser.post("/log-in/ada")
    assert browser.get("/read").json() == {"cart": "book", "user_id": "ada"}
    assert token(browser) not in (before, None)
    assert token(browser, "visitor") is None
    assert users(service) == ["", "ada"]

    browser.post("/log-out")
    assert browser.get("/read").json() == {"cart": "book"}
    assert token(browser) is None
    assert users(service) == ["", ""]


def test_change_within_a_value_is_noticed_and_sent_alone(
    browser: TestClient, service: Service
) -> None:
    browser.post("/set/other/thing")
    for thing in ("book", "pen"):
        browser.post(f"/basket/{thing}")

    assert service.bodies[-1] == b'{"data":{"basket":["book","pen"]}}'
    assert browser.get("/read").json() == {"basket": ["book", "pen"], "other": "thing"}


def test_concurrent_requests_keep_each_others_keys(service: Service) -> None:
    """All 8 requests have loaded the session before the first of them writes it."""

    async def run_requests() -> list[int]:
        async with sessions_of(service) as client:
            issued = await client.create(data={"first": "1"})
            service.plan()
            loaded_count = 0
            all_loaded = asyncio.Event()

            async def slowly(request: Request) -> PlainTextResponse:
                nonlocal loaded_count
                session = await load_session(request)
                session[request.path_params["key"]] = request.path_params["key"]
                loaded_count += 1
                if loaded_count == 8:
                    all_loaded.set()
                await all_loaded.wait()
                return PlainTextResponse("set")

            app = Starlette(
                routes=[Route("/slowly/{key}", slowly)],
                middleware=[Middleware(SessionMiddleware, sessions=client, max_age=None)],
            )
            async with httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app),
                base_url="https://testserver",
                cookies={"__Host-visitor": issued.token},
            ) as browser:
                tabs = (browser.get(f"/slowly/{number}") for number in range(8))
                return [answer.status_code for answer in await asyncio.gather(*tabs)]

    assert asyncio.run(run_requests()) == [200] * 8
    assert sorted(sent(service)) == ["PATCH /sessions/{id}"] * 8 + [VERIFY] * 8
    [item] = live(service)
    stored = {name: value["S"] for name, value in item["Data"]["M"].items()}
    assert stored == {"first": "1"} | {str(n): str(n) for n in range(8)}


def test_session_on_the_event_loop_has_to_be_loaded(browser: TestClient, browse: Open) -> None:
    """It also raises without a cookie, so that the mistake is noticed in development."""
    with pytest.raises(SessionNotLoaded, match="await load_session"):
        TestClient(browser.app).get("/unloaded")
    assert browser.get("/unloaded").status_code == 500


@pytest.mark.parametrize("load", [load_session, load_passively, require_recent(300)])
@pytest.mark.parametrize("other", [[], [Middleware(StarlettesOwn, secret_key="x")]])
def test_session_without_the_middleware_cannot_be_loaded(
    load: Callable[[Request], Awaitable[object]], other: list[Middleware]
) -> None:
    async def page(request: Request) -> PlainTextResponse:
        await load(request)
        return PlainTextResponse("loaded")

    browser = TestClient(Starlette(routes=[Route("/", page)], middleware=other))
    with pytest.raises(RuntimeError, match="SessionMiddleware must be installed"):
        browser.get("/")


def test_middleware_refuses_a_synchronous_client(service: Service) -> None:
    with (
        Sessions(service.url, region=service.region) as sessions,
        pytest.raises(TypeError, match="sessions is an AsyncSessions, not Sessions"),
    ):
        SessionMiddleware(Starlette(), sessions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", ["/pages/a%5Cb", "/pages/a%3Fb%23", "/pages/%C3%A4%25", "/pages/a?b=%5C%C3%A4&c=d"]
)
def test_user_returns_to_any_page_after_a_step_up(browse: Open, url: str) -> None:
    browser = browse(step_up_url="/confirm")
    browser.post("/log-in/ada")

    answer = browser.get(url, headers={"Accept": "text/html"}, follow_redirects=False)

    location = urlsplit(answer.headers["location"])
    assert (location.path, parse_qs(location.query)) == ("/confirm", {"next": [url]})


@pytest.mark.parametrize("path", ["/poll", "/poll-in-a-thread"])
def test_endpoint_can_be_passive(browser: TestClient, service: Service, path: str) -> None:
    browser.post("/set/a/1")
    service.plan()
    assert browser.get(path).status_code == 200
    [body] = service.bodies
    assert json.loads(body)["renew"] is False


def test_autoload_loads_every_session(browse: Open, service: Service) -> None:
    browser = browse(autoload=True)
    browser.post("/set/a/1")
    sent(service)

    assert browser.get("/unloaded").json() == {"a": "1"}
    assert sent(service) == [VERIFY]
    service.plan(always=faults.unavailable)
    refused = browse(SHORT_DEADLINES, browser.cookies, autoload=True).get("/plain")
    assert (refused.status_code, refused.json()) == (503, {"detail": "Service Unavailable"})


def test_test_client_without_a_block_leaves_no_connections(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its requests has an event loop of its own."""
    gc.collect()
    warnings: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: warnings.append(str(error.exc_value)))
    browser = TestClient(make_app(sessions_of(service)), base_url="https://testserver")
    for n in range(20):
        assert browser.post(f"/set/a/{n}").status_code == 200
    del browser
    gc.collect()
    assert warnings == []


def test_ended_session_is_empty(browser: TestClient, service: Service) -> None:
    browser.post("/log-in/ada")
    before = token(browser)
    browser.post("/clear")
    browser.cookies.set("__Host-session", before or "")

    answer = browser.get("/read")

    assert answer.json() == {}
    # The browser may already have a newer cookie.
    assert "Set-Cookie" not in answer.headers


def test_web_socket_reads_the_session(browser: TestClient) -> None:
    browser.post("/set/a/1")
    with browser.websocket_connect("wss://testserver/socket") as socket:
        assert socket.receive_json() == {"a": "1"}


@pytest.mark.parametrize("accept_first", [False, True])
@pytest.mark.parametrize("autoload", [False, True])
def test_outage_closes_a_web_socket(
    browser: TestClient, browse: Open, service: Service, accept_first: bool, autoload: bool
) -> None:
    browser.post("/set/a/1")
    service.plan(always=faults.unavailable)
    app = browse(SHORT_DEADLINES, browser.cookies, autoload=autoload)

    url = f"wss://testserver/socket?accept_first={accept_first}"
    with pytest.raises(WebSocketDisconnect) as closed, app.websocket_connect(url) as socket:
        socket.receive_json()

    if accept_first or autoload:
        assert closed.value.code == 1013
    else:
        assert getattr(closed.value, "status_code", None) == 503


@pytest.mark.parametrize("fault", OUTAGES)
def test_outage_is_a_503_and_nobody_is_signed_out(
    browser: TestClient, browse: Open, service: Service, fault: Fault
) -> None:
    browser.post("/log-in/ada")

    service.plan(always=fault)
    member, stranger = browse(SHORT_DEADLINES, browser.cookies), browse(SHORT_DEADLINES)
    answers = [
        member.get("/read"),
        member.get("/read-in-a-thread"),
        stranger.post("/log-in/bob"),
    ]
    untouched = member.get("/plain")

    for answer in answers:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json() == {"detail": "Service Unavailable"}
        assert "Set-Cookie" not in answer.headers
    assert untouched.status_code == 200
    service.plan()
    assert browser.get("/read").json() == {"user_id": "ada"}
    assert users(service) == ["ada"]


@pytest.mark.parametrize("path", ["/set/a/1", "/log-out"])
def test_failed_write_is_a_503_and_the_session_stays(
    browser: TestClient, service: Service, path: str
) -> None:
    browser.post("/log-in/ada")

    service.plan(_forward, always=faults.unavailable)
    answer = browser.post(path)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "Set-Cookie" not in answer.headers
    service.plan()
    assert browser.get("/read").json() == {"user_id": "ada"}
    assert users(service) == ["ada"]


@pytest.mark.parametrize("fault", [faults.lose_answer, faults.cut])
def test_lost_answers_neither_repeat_nor_lose_a_change(
    browser: TestClient, service: Service, fault: Fault
) -> None:
    service.plan(fault)
    assert browser.post("/set/a/1").status_code == 200
    assert users(service) == [""]
    service.plan(fault, _forward, fault, _forward, fault)
    assert browser.post("/log-in/ada").status_code == 200
    assert users(service) == ["", "ada"]
    service.plan(fault, _forward, fault)
    assert browser.post("/set/a/2").status_code == 200
    service.restart()
    service.plan(fault)
    assert browser.get("/read").json() == {"a": "2", "user_id": "ada"}
    service.plan(fault, _forward, fault)
    assert browser.post("/log-out").status_code == 200
    assert users(service) == ["", ""]


def test_outage_while_saving_calls_the_apps_own_handler(service: Service) -> None:
    async def touch(request: Request) -> PlainTextResponse:
        (await load_session(request))["a"] = 1
        return PlainTextResponse("touched")

    def sorry(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("Come back soon", 503)

    service.plan(always=faults.unavailable)
    client = sessions_of(service, **SHORT_DEADLINES)
    for handlers, expected in (({503: sorry}, "Come back soon"), ({}, "Service Unavailable")):
        app = Starlette(
            routes=[Route("/", touch)],
            middleware=[Middleware(SessionMiddleware, sessions=client)],
            lifespan=closing(client),
            exception_handlers=handlers,
        )
        with TestClient(app) as browser:
            answer = browser.get("/")
        assert (answer.status_code, answer.text) == (503, expected)


@pytest.mark.parametrize("kind", [DataTooLarge, SessionsError])
def test_value_that_is_too_large_calls_the_apps_own_handler(
    service: Service, kind: type[Exception]
) -> None:
    async def fill(request: Request) -> PlainTextResponse:
        (await load_session(request))["a"] = "x" * 70_000
        return PlainTextResponse("filled")

    async def too_much(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(type(error).__name__, 413)

    for handlers, expected in (({kind: too_much}, (413, "DataTooLarge")), ({}, (500, None))):
        client = sessions_of(service)
        app = Starlette(
            routes=[Route("/", fill)],
            middleware=[Middleware(SessionMiddleware, sessions=client)],
            lifespan=closing(client),
            exception_handlers=handlers,
        )
        with TestClient(app, raise_server_exceptions=False) as browser:
            answer = browser.get("/")
        assert answer.status_code == expected[0]
        assert answer.text == expected[1] or not handlers
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/background", "/stream", "/dependency"])
def test_write_after_the_response_has_started_warns_that_it_is_lost(
    service: Service, path: str
) -> None:
    app = FastAPI(lifespan=closing(client := sessions_of(service)))
    app.add_middleware(SessionMiddleware, sessions=client)

    def write(session: StarletteSession) -> None:
        session["late"] = 1
        session["later"] = 2

    @app.get("/background")
    async def background(session: Loaded, tasks: BackgroundTasks) -> None:
        session["early"] = 1
        tasks.add_task(write, session)

    @app.get("/stream")
    async def stream(session: Loaded) -> StreamingResponse:
        session["early"] = 1

        async def chunks() -> AsyncIterator[str]:
            write(session)
            yield "chunk"

        return StreamingResponse(chunks())

    async def writing(session: Loaded) -> AsyncIterator[None]:
        yield
        write(session)

    @app.get("/dependency", dependencies=[Depends(writing)])
    async def dependency(session: Loaded) -> None:
        session["early"] = 1

    @app.get("/read")
    async def read(session: Loaded) -> dict[str, Any]:
        return dict(session)

    with TestClient(app, base_url="https://testserver") as browser:
        with pytest.warns(RuntimeWarning, match="change is lost") as warnings:
            assert browser.get(path).status_code == 200
        assert [warning.filename for warning in warnings] == [__file__]
        assert browser.get("/read").json() == {"early": 1}


def test_outage_is_a_503_in_another_middleware_too(service: Service) -> None:
    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: HTTPConnection) -> None:
            await load_session(conn)

    client = sessions_of(service, **SHORT_DEADLINES)
    app = Starlette(
        middleware=[
            Middleware(SessionMiddleware, sessions=client),
            Middleware(AuthenticationMiddleware, backend=Backend()),
        ],
        lifespan=closing(client),
    )
    service.plan(always=faults.unavailable)
    cookies = {"__Host-session": f"{'A' * 12}.{'B' * 27}"}
    with TestClient(app, base_url="https://testserver", cookies=cookies) as browser:
        assert browser.get("/").status_code == 503


def _forward(call: Call) -> None:
    call.send(call.forward())


def test_websocket_of_nobody_who_is_recent_is_closed(browser: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as raised,
        browser.websocket_connect("wss://testserver/guarded"),
    ):
        pass
    assert raised.value.code == 1008
    browser.post("/log-in/ada")
    with browser.websocket_connect("wss://testserver/guarded"):
        pass
