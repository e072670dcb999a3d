"""The functions as Lambda runs them, on moto's tables made from the synthesized template."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlencode

import boto3
import moto
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType

from sessions.dynamodb import connect
from tests.contract import hold
from tests.template import ROOT, resources

NOW = 1_795_435_200


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

    def __call__(self) -> int:
        return self.now


class Api:
    """Calls `session_api` the way API Gateway does and holds each answer against the contract."""

    def __init__(self, handler: ModuleType, clock: Clock) -> None:
        self.handler = handler
        self.clock = clock
        self.requests: list[str] = []
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
        self.requests.clear()
        event = sample("api_get_session")
        event["rawPath"] = event["requestContext"]["http"]["path"] = path
        event["requestContext"]["http"]["method"] = method
        event["routeKey"] = route_key(method, path)
        event["requestContext"]["requestId"] = request_id or f"request-{self._count}"
        event["requestContext"]["authorizer"]["iam"]["userArn"] = actor
        event["rawQueryString"] = query if isinstance(query, str) else urlencode(query)
        event["headers"] = {"content-type": "application/json"} | (headers or {})
        if body is not None:
            event["body"] = body if isinstance(body, str) else json.dumps(body)
        return self.send(event)

    def send(self, event: dict[str, Any]) -> Answer:
        answered = self.handler.lambda_handler(event, lambda_context())
        headers = {name.lower(): value for name, value in answered["headers"].items()}
        answer = Answer(answered["statusCode"], headers, answered["body"])
        http = event["requestContext"]["http"]
        if '"route_not_found"' not in answer.body:
            hold(http["method"], http["path"], answer.status, headers, answer.body.encode())
        return answer

    def create(self, user_id: str = "ada", **fields: Any) -> str:
        """A new session's id."""
        return self.log_in(user_id, **fields).partition(".")[0]

    def log_in(self, user_id: str = "ada", **fields: Any) -> str:
        """A new session's token."""
        answer = self("POST", "/sessions", {"user_id": user_id, **fields})
        assert answer.status == 201, answer
        token: str = answer.json["token"]
        return token


def route_key(method: str, path: str) -> str:
    """The route of the template that API Gateway would choose."""
    routes = {route["RouteKey"] for route in resources("AWS::ApiGatewayV2::Route").values()}
    by_id = re.sub("^/sessions/[^/]+", "/sessions/{session_id}", path)
    candidates = (f"{method} {path}", f"{method} {by_id}")
    return next((key for key in candidates if key in routes), "$default")


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


@cache
def _client() -> Any:
    return boto3.client("dynamodb")


def insert_statements(
    backend: DynamoDBBackend, statements: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """BatchExecuteStatement for INSERT alone: moto's own loses the parameters of an INSERT.

    As DynamoDB does, it refuses an existing key per statement, and a key given twice altogether.
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
        if table.get_item(DynamoType(item["SessionId"]), DynamoType(item["EventId"])):
            answers.append({"Error": {"Code": "DuplicateItem", "Message": "exists"}})
        else:
            table.put_item(item)
            answers.append({"TableName": insert[1]})
    return answers


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Both tables in moto, named by their attributes `sessions` and `audit`, and their client."""
    monkeypatch.setattr(DynamoDBBackend, "batch_execute_statement", insert_statements)
    with moto.mock_aws():
        client = _client()
        names = {}
        for logical_id, table in resources("AWS::DynamoDB::GlobalTable").items():
            name = "audit" if "Audit" in logical_id else "sessions"
            client.create_table(
                TableName=name,
                KeySchema=table["KeySchema"],
                AttributeDefinitions=table["AttributeDefinitions"],
                GlobalSecondaryIndexes=table["GlobalSecondaryIndexes"],
                BillingMode=table["BillingMode"],
            )
            names[logical_id] = name
        assert sorted(names.values()) == ["audit", "sessions"]
        yield SimpleNamespace(client=client, sessions="sessions", audit="audit")


def function(package: str) -> ModuleType:
    """A function's handler, imported once under the environment that the template gives it."""
    [properties] = [
        each
        for each in resources("AWS::Lambda::Function").values()
        if each["Handler"] == f"{package}.handler.lambda_handler"
    ]
    for name, value in properties["Environment"]["Variables"].items():
        reference = value["Ref"] if isinstance(value, dict) else ""
        os.environ[name] = ("audit" if "Audit" in reference else "sessions") if reference else value
    return importlib.import_module(f"{package}.handler")


@pytest.fixture
def api(tables: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    handler = function("session_api")
    clock = Clock()
    monkeypatch.setattr(handler, "_now", clock)
    api = Api(handler, clock)

    def count(model: Any, **_: Any) -> None:
        api.requests.append(model.name)

    handler.client.meta.events.register("before-call.dynamodb", count)
    yield api
    handler.client.meta.events.unregister("before-call.dynamodb", count)


def dynamodb_answer(content: bytes, status: int = 200) -> AWSResponse:
    """An answer as it comes over the wire."""
    headers = HTTPHeaders.from_dict({"Content-Type": "application/x-amz-json-1.0"})
    raw = SimpleNamespace(stream=lambda *_, **__: iter([content]))
    return AWSResponse("http://dynamodb", status, headers, raw)


@pytest.fixture
def on_send(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Put a function in DynamoDB's place: it gets each request, and its answer is the answer."""
    client = connect()  # the retries of one test are not to use up the next one's
    for user in (api.handler.sessions, api.handler.user_sessions, api.handler.trail):
        monkeypatch.setattr(user, "_client", client)

    def register(answer: Callable[..., Any]) -> None:
        client.meta.events.register_first("before-send.dynamodb", answer)

    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    return register


@pytest.fixture
def logged(api: Api) -> StringIO:
    """What the functions log while a test runs."""
    stream = StringIO()
    for package in ("session_api", "session_audit"):
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
