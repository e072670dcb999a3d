"""The functions as Lambda runs them, on tables made from the synthesized template."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import cache
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlencode

import boto3
import moto
import pytest
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType

from dynamodb import boto3_client
from dynamodb import client as lean
from dynamodb.boto3_client import Boto3Client
from sessions.store import SessionStore
from sessions.table import Writer
from tests.contract import assert_matches_contract, assert_request_matches_contract
from tests.functional.seam import Seam
from tests.gateway import api_event
from tests.template import ROOT, resources

NOW = 1_795_435_200
# Who the authorizer is in the trail.
ROLE = "arn:aws:iam::111122223333:role/session-authorizer"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Clock:
    """What time it is for the API."""

    def __init__(self) -> None:
        self.now = NOW


class Api:
    """Calls `session_api` the way API Gateway does and holds each answer against the contract.

    `entrance` changes each event as another way into the API would.
    """

    def __init__(self, handler: ModuleType, clock: Clock) -> None:
        self.handler = handler
        self.clock = clock
        self.entrance: Callable[[dict[str, Any]], None] = lambda event: None
        self._count = 0

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, Any] | str = "",
        headers: dict[str, str] | None = None,
        request_id: str | None = None,
        actor: str = "arn:aws:iam::111122223333:user/backend",
    ) -> Answer:
        """`body` is sent as JSON unless it is text already; each call has its own request id."""
        self._count += 1
        seam.calls.clear()
        event = api_event(method, path)
        event["requestContext"]["requestId"] = request_id or f"request-{self._count}"
        event["requestContext"]["authorizer"]["iam"]["userArn"] = actor
        event["rawQueryString"] = query if isinstance(query, str) else urlencode(query)
        event["headers"] = {"content-type": "application/json"} | (headers or {})
        if body is not None:
            event["body"] = body if isinstance(body, str) else json.dumps(body)
        self.entrance(event)
        return self.send(event, path)

    @property
    def requests(self) -> list[str]:
        """The operations that the last call asked DynamoDB for."""
        return [operation for operation, _ in seam.calls]

    def send(self, event: dict[str, Any], path: str | None = None) -> Answer:
        """`path` is the one of the contract, if that of the event is another."""
        answered = self.handler.lambda_handler(event, lambda_context())
        headers = {name.lower(): value for name, value in answered["headers"].items()}
        answer = Answer(answered["statusCode"], headers, answered["body"])
        http = event["requestContext"]["http"]
        if '"route_not_found"' not in answer.body:
            assert_matches_contract(
                http["method"], path or http["path"], answer.status, headers, answer.body.encode()
            )
        if not event["isBase64Encoded"] and not event["rawQueryString"]:
            sent = event.get("body", "").encode(errors="surrogatepass")
            assert_request_matches_contract(
                event["routeKey"], sent, answer.status, answer.body.encode()
            )
        return answer

    def create(self, user_id: str | None = "ada", **fields: Any) -> str:
        """A new session's id; anonymous if it is to be nobody's."""
        return self.log_in(user_id, **fields).partition(".")[0]

    def log_in(self, user_id: str | None = "ada", **fields: Any) -> str:
        """A new session's token."""
        answer = self("POST", "/sessions", {"user_id": user_id, **fields})
        assert answer.status == 201, answer
        token: str = answer.json["token"]
        return token


def lambda_context() -> Any:
    return SimpleNamespace(
        function_name="function",
        memory_limit_in_mb=512,
        invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:function:live",
        aws_request_id="52fdfc07-2182-454f-963f-5f0f9a621d72",
    )


def sample(name: str) -> dict[str, Any]:
    """A sample event of `events/`."""
    event: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text())
    return event


def insert_statements(
    backend: DynamoDBBackend, statements: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """BatchExecuteStatement for INSERT alone: moto's own loses the parameters of an INSERT.

    As DynamoDB does, it refuses an existing key and an empty one of an index per statement, and a
    key given twice altogether.
    """
    answers: list[dict[str, Any]] = []
    seen = set()
    assert len(statements) <= 25
    for statement in statements:
        insert = re.fullmatch(r'INSERT INTO "(.+)" VALUE {(.+)}', statement["Statement"])
        assert insert, statement
        names = re.findall(r"'(\w+)': \?", insert[2])
        item = dict(zip(names, statement["Parameters"], strict=True))
        key = item["SessionId"]["S"], item["EventId"]["S"]
        assert key not in seen, "DynamoDB refuses the whole request"
        seen.add(key)
        table = backend.get_table(insert[1])
        if item.get("UserId") == {"S": ""}:
            answers.append({"Error": {"Code": "ValidationError", "Message": "empty index key"}})
        elif table.get_item(DynamoType(item["SessionId"]), DynamoType(item["EventId"])):
            answers.append({"Error": {"Code": "DuplicateItem", "Message": "exists"}})
        else:
            table.put_item(item)
            answers.append({"TableName": insert[1]})
    return answers


class Backend(NamedTuple):
    """A DynamoDB: `client` as the functions use it, and boto3's own `sdk`, for tests."""

    client: Any
    sdk: Any


@cache
def _on_moto() -> Backend:
    client = boto3_client.connect()
    return Backend(client, client.sdk)


@cache
def sdk(endpoint: str) -> Any:
    return boto3.client("dynamodb", endpoint_url=endpoint)


@pytest.fixture(params=["boto3 on moto", "lean on DynamoDB Local"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Each client on the DynamoDB that suits it: one suite stands behind both."""
    if request.param == "boto3 on moto":
        monkeypatch.setattr(DynamoDBBackend, "batch_execute_statement", insert_statements)
        with moto.mock_aws():
            yield _on_moto()
        return
    endpoint = request.getfixturevalue("dynamodb")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
    with closing(lean.connect()) as client:
        yield Backend(client, sdk(endpoint))


@pytest.fixture
def tables(backend: Backend) -> Iterator[Any]:
    """Both tables, empty, named by the attributes `sessions` and `audit`, with boto3's `client`."""
    seam.reset(backend.client)
    for logical_id, table in resources("AWS::DynamoDB::GlobalTable").items():
        backend.sdk.create_table(
            TableName="audit" if "Audit" in logical_id else "sessions",
            KeySchema=table["KeySchema"],
            AttributeDefinitions=table["AttributeDefinitions"],
            GlobalSecondaryIndexes=table["GlobalSecondaryIndexes"],
            BillingMode=table["BillingMode"],
        )
    assert sorted(backend.sdk.list_tables()["TableNames"]) == ["audit", "sessions"]
    yield SimpleNamespace(client=backend.sdk, sessions="sessions", audit="audit")
    for name in ("audit", "sessions"):
        backend.sdk.delete_table(TableName=name)


# What every function holds for its client.
seam = Seam()
# By their logical ids without the hash.
_NAMES = {
    "StorageSessions": "sessions",
    "StorageSessionAudit": "audit",
    "AuditFailedEvents": "failed-events",
    "EventsUndelivered": "undelivered",
}


def function(package: str, stage: str = "dev") -> ModuleType:
    """A function's handler, imported once under the environment that the template gives it."""
    [properties] = [
        each
        for each in resources("AWS::Lambda::Function", stage).values()
        if each["Handler"] == f"{package}.handler.lambda_handler"
    ]
    for name, value in properties["Environment"]["Variables"].items():
        os.environ[name] = _deployed(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessions.dynamodb.connect", lambda: seam)
        return importlib.import_module(f"{package}.handler")


def _deployed(value: Any) -> str:
    """What an environment variable of the template is once it is deployed."""
    match value:
        case {"Ref": str(logical_id)}:
            return _NAMES[logical_id[:-8]]
        case {"Fn::GetAtt": [_, "Arn"]}:
            return ROLE
    return str(value)


@cache
def _s3() -> Any:
    return boto3.client("s3")


@pytest.fixture
def failed_events(backend: Backend) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The bucket, empty; answers the documents in it. On moto, whatever the tables are on."""
    on_moto = isinstance(backend.client, Boto3Client)
    with nullcontext() if on_moto else moto.mock_aws():
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
    handler = function("session_api")
    clock = Clock()
    monkeypatch.setattr(handler, "time", SimpleNamespace(time=lambda: clock.now + 0.9))
    return Api(handler, clock)


@pytest.fixture
def authorizer(api: Api, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The authorizer's handler, at the API's clock."""
    handler = function("session_authorizer")
    monkeypatch.setattr(handler, "time", SimpleNamespace(time=lambda: api.clock.now + 0.9))
    return handler


BY_OTHER = Writer(actor="other", request_id="other")


@pytest.fixture
def other(api: Api, tables: Any) -> SessionStore:
    """Another caller's store, on the same clock; its requests all arrive."""
    return SessionStore(
        Boto3Client(tables.client), tables.sessions, clock=lambda: api.clock.now, not_before=0
    )


@pytest.fixture
def logged(api: Api) -> StringIO:
    """What the functions log while a test runs."""
    return log_stream()


def log_stream() -> StringIO:
    """What the functions log from now on."""
    stream = StringIO()
    for package in ("session_api", "session_audit", "session_events"):
        for handler in logging.getLogger(package).handlers:
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(stream)
    return stream


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
