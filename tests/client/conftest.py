"""Clients of the service, of both kinds, and the service in memory."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Any

import pytest

import clock as service_clock
from serverless_sessions import AsyncSessions, Sessions
from serverless_sessions._core import clock as client_clock
from tests.client.blocking import Blocking
from tests.client.moving_clock import MovingClock
from tests.support.backend import in_memory
from tests.support.functions import function
from tests.support.seam import seam
from tests.support.service import Service


@pytest.fixture
def stopped_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service and the client read one time, so that the lifetimes of cookies are exact."""
    now = time.time()
    for clock in (service_clock, client_clock):
        monkeypatch.setattr(clock, "time", lambda: now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MovingClock:
    clock = MovingClock()
    for module in (service_clock, client_clock):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def service_in_memory(clock: MovingClock) -> Iterator[Service]:
    """The service, empty, with tables in memory and a clock that can be moved."""
    backend = in_memory()
    seam.reset(backend.client)
    tables = SimpleNamespace(client=backend.sdk, sessions="sessions", audit="audit")
    with closing(backend.client):
        service = Service(function("session_api"), tables, "")
        yield service
        service.stop()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(params=["sync", "async"])
def connect_to(
    request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop
) -> Iterator[Callable[..., Sessions]]:
    """Create synchronous or asynchronous clients of a URL, with the given options."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> Any:
            if request.param == "sync":
                return stack.enter_context(Sessions(url, **options))
            sessions = Blocking(AsyncSessions(url, **options), loop)
            stack.callback(sessions.aclose)
            return sessions

        yield make


@pytest.fixture
def connect(connect_to: Callable[..., Sessions], service: Service) -> Callable[..., Sessions]:
    """Create synchronous or asynchronous clients of the service, with the given options."""

    def make(**options: Any) -> Sessions:
        known = {"region": service.region, "credentials": service.credentials}
        return connect_to(service.url, **(known | options))

    return make


@pytest.fixture
def sessions(connect: Callable[..., Sessions]) -> Sessions:
    """A client with the default deadlines."""
    return connect()
