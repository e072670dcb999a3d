"""The functions on both tables, which are created from the synthesized template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import cache
from io import StringIO
from types import ModuleType
from typing import Any

import boto3
import moto
import pytest
from moto.dynamodb.models import DynamoDBBackend

from dynamodb import client as lean
from dynamodb.boto3_client import Boto3Client
from sessions.store import SessionStore
from tests.support.api import Api, Clock, through_api
from tests.support.backend import (
    DEFAULT,
    MEMORY,
    MOTO,
    Backend,
    in_memory,
    insert_statements,
    on_moto,
)
from tests.support.functions import function, log_stream
from tests.support.seam import seam
from tests.support.tables import created_tables, sdk


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on the backends of its mark, or on the default backend.

    If the default is the backend in memory, no other backend is used.
    """
    if "backend" in metafunc.fixturenames and not hasattr(metafunc.module, "backend"):
        mark = metafunc.definition.get_closest_marker("backends")
        names = mark.args if mark else (DEFAULT,)
        if DEFAULT == MEMORY:
            names = tuple(name for name in names if name == MEMORY)
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """The functions' client on the DynamoDB of this test.

    See the marks in `tests/support/backend.py`.
    """
    if request.param == MEMORY:
        yield in_memory()
    elif request.param == MOTO:
        monkeypatch.setattr(DynamoDBBackend, "batch_execute_statement", insert_statements)
        with moto.mock_aws():
            yield on_moto()
    else:
        endpoint = request.getfixturevalue("dynamodb")
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
        with closing(lean.connect()) as client:
            yield Backend(client, sdk(endpoint))


@pytest.fixture
def tables(backend: Backend) -> Iterator[Any]:
    """Both tables on the backend, which are empty. See `created_tables`."""
    seam.reset(backend.client)
    with created_tables(backend.sdk) as tables:
        yield tables


@cache
def _s3() -> Any:
    return boto3.client("s3")


@pytest.fixture
def failed_events(backend: Backend) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Create the bucket for failed events, on moto. Return a function that lists its documents."""
    with nullcontext() if isinstance(backend.client, Boto3Client) else moto.mock_aws():
        _s3().create_bucket(Bucket="failed-events")

        def documents() -> list[dict[str, Any]]:
            listed = _s3().list_objects_v2(Bucket="failed-events").get("Contents", [])
            assert all(entry["Key"].startswith("aws/lambda/refused/") for entry in listed)
            return [
                json.load(_s3().get_object(Bucket="failed-events", Key=entry["Key"])["Body"])
                for entry in listed
            ]

        yield documents


@pytest.fixture
def api(tables: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Api:
    """The API, called through API Gateway unless a test is marked with `THROUGH_BOTH`."""
    clock = Clock()
    monkeypatch.setattr("clock.time", lambda: clock.now + 0.9)
    return Api(function("session_api"), clock, getattr(request, "param", through_api))


@pytest.fixture
def authorizer(api: Api, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The authorizer's handler, with the API's clock."""
    return function("session_authorizer")


@pytest.fixture
def other(api: Api, tables: Any) -> SessionStore:
    """The session store of another caller, with the same clock.

    Nothing interferes with its requests.
    """
    return SessionStore(Boto3Client(tables.client), tables.sessions, not_before=0)


@pytest.fixture
def logged(api: Api) -> StringIO:
    """The log of the functions during a test."""
    return log_stream()


@pytest.fixture
def stored(tables: Any) -> Any:
    """Return a function that reads the item of a session. The item is empty if there is none."""

    def read(session_id: str) -> dict[str, Any]:
        key = {"SessionId": {"S": session_id}}
        item: dict[str, Any] = tables.client.get_item(TableName=tables.sessions, Key=key).get(
            "Item", {}
        )
        return item

    return read
