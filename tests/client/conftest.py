"""Clients of the service, of both kinds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from serverless_sessions import AsyncSessions, Sessions
from tests.client.blocking import Blocking
from tests.support.service import Service


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
def connect(
    request: pytest.FixtureRequest, service: Service, loop: asyncio.AbstractEventLoop
) -> Iterator[Callable[..., Sessions]]:
    """Create synchronous or asynchronous clients of the service, with the given options."""
    with ExitStack() as stack:

        def make(**options: Any) -> Any:
            arguments: dict[str, Any] = {
                "region": service.region,
                "credentials": service.credentials,
            } | options
            if request.param == "sync":
                return stack.enter_context(Sessions(service.url, **arguments))
            sessions = Blocking(AsyncSessions(service.url, **arguments), loop)
            stack.callback(sessions.aclose)
            return sessions

        yield make


@pytest.fixture
def sessions(connect: Callable[..., Sessions]) -> Sessions:
    """A client with the default deadlines."""
    return connect()
