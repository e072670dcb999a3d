"""`service`, on which everything that callers install is tested."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dynamodb import client as lean
from serverless_sessions import AsyncSessions, Sessions
from tests.client.service import Service
from tests.functional.conftest import function, sdk, seam
from tests.template import resources


@cache
def _schemas() -> list[dict[str, Any]]:
    members = ("KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")
    return [
        {"TableName": "audit" if "Audit" in logical_id else "sessions"}
        | {member: table[member] for member in members}
        for logical_id, table in resources("AWS::DynamoDB::GlobalTable").items()
    ]


@cache
def _handler() -> ModuleType:
    return function("session_api")


@pytest.fixture
def tables(dynamodb: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Both tables, empty, named by the attributes `sessions` and `audit`, with boto3's `client`."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb)
    client = sdk(dynamodb)
    for schema in _schemas():
        client.create_table(**schema)
    with closing(lean.connect()) as functions_client:
        seam.reset(functions_client)
        yield SimpleNamespace(client=client, sessions="sessions", audit="audit")
    for name in ("audit", "sessions"):
        client.delete_table(TableName=name)


@pytest.fixture
def service(tables: Any, dynamodb: str) -> Iterator[Service]:
    """The service, empty, on a port of its own; see `tests/client/service.py` for its faults.

    The environment has credentials that it takes, and its region.
    """
    assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
    service = Service(_handler(), tables, dynamodb)
    yield service
    service.stop()


class Blocking:
    """An `AsyncSessions` as a `Sessions`: its calls run on one event loop, from any thread."""

    def __init__(self, sessions: AsyncSessions, loop: asyncio.AbstractEventLoop) -> None:
        self._sessions = sessions
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            answer = getattr(self._sessions, name)(*given, **named)
            work = answer if inspect.iscoroutine(answer) else _all(answer)
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()

        return call


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in items]


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
    """Makes clients of the service, of either kind, with the given options."""
    with ExitStack() as stack:

        def make(**options: Any) -> Any:
            known: dict[str, Any] = {
                "region": service.region,
                "credentials": service.credentials,
            } | options
            if request.param == "sync":
                return stack.enter_context(Sessions(service.url, **known))
            sessions = Blocking(AsyncSessions(service.url, **known), loop)
            stack.callback(sessions.aclose)
            return sessions

        yield make


@pytest.fixture
def sessions(connect: Callable[..., Sessions]) -> Sessions:
    """A client with the deadlines that it comes with."""
    return connect()
