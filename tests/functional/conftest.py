"""The functions on both tables, made from the synthesized template."""

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
from tests.support.api import Api, Clock
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
    """Let each test run on the backends that it is marked for, by default on one.

    Where the default is the one in memory, all others are left out.
    """
    if "backend" in metafunc.fixturenames and not hasattr(metafunc.module, "backend"):
        mark = metafunc.definition.get_closest_marker("backends")
        names = mark.args if mark else (DEFAULT,)
        if DEFAULT == MEMORY:
            names = tuple(name for name in names if name == MEMORY)
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Each client on the DynamoDB that suits it; see the marks beside `Backend`."""
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
    """Both tables on the backend, empty; see `created_tables`."""
    seam.reset(backend.client)
    with created_tables(backend.sdk) as tables:
        yield tables


@cache
def _s3() -> Any:
    return boto3.client("s3")


@pytest.fixture
def failed_events(backend: Backend) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The bucket, empty; answers the documents in it. On moto, whatever the tables are on."""
    with nullcontext() if isinstance(backend.client, Boto3Client) else moto.mock_aws():
        _s3().create_bucket(Bucket="failed-events")

        def documents() -> list[dict[str, Any]]:
            listed = _s3().list_objects_v2(Bucket="failed-events").get("Contents", [])
            assert all(each["Key"].startswith("aws/lambda/refused/") for each in listed)
            return [
                json.load(_s3().get_object(Bucket="failed-events", Key=each["Key"])["Body"])
                for each in listed
            ]

        yield documents


@pytest.fixture
def api(tables: Any, monkeypatch: pytest.MonkeyPatch) -> Api:
    clock = Clock()
    monkeypatch.setattr("clock.time", lambda: clock.now + 0.9)
    return Api(function("session_api"), clock)


@pytest.fixture
def authorizer(api: Api, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The authorizer's handler, at the API's clock."""
    return function("session_authorizer")


@pytest.fixture
def other(api: Api, tables: Any) -> SessionStore:
    """Another caller's store, on the same clock; its requests all arrive."""
    return SessionStore(Boto3Client(tables.client), tables.sessions, not_before=0)


@pytest.fixture
def logged(api: Api) -> StringIO:
    """What the functions log while a test runs."""
    return log_stream()


@pytest.fixture
def stored(tables: Any) -> Any:
    """What the `Sessions` table holds of a session; empty if nothing."""

    def read(session_id: str) -> dict[str, Any]:
        key = {"SessionId": {"S": session_id}}
        item: dict[str, Any] = tables.client.get_item(TableName=tables.sessions, Key=key).get(
            "Item", {}
        )
        return item

    return read
