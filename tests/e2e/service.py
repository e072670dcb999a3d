"""The service on which callers race for a session."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from threading import Barrier
from typing import Any, NamedTuple
from urllib.parse import urlencode

from botocore.awsrequest import AWSRequest

from tests.e2e import host
from tests.support.caller import Answer, Caller
from tests.support.functions import sample
from tests.support.gateway import api_event


class HostCaller(Caller):
    """Calls the functions of one host, as API Gateway would."""

    def __init__(self, process: ProcessPoolExecutor) -> None:
        super().__init__("", None)
        self._process = process

    def send(self, request: AWSRequest) -> Answer:
        event = api_event(str(request.method), str(request.url))
        event["requestContext"]["requestId"] = str(uuid.uuid4())
        event |= {
            "rawQueryString": urlencode(request.params or {}),
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": request.data and request.data.decode(),
        }
        answer = self._process.submit(host.invoke, "session_api", event).result()
        headers = {name.lower(): value for name, value in answer["headers"].items()}
        return Answer(answer["statusCode"], headers, answer["body"].encode())


class Service(NamedTuple):
    """The service on which callers race.

    `stagger_seconds` is about the duration of a call. The calls of a race begin at most this long
    after each other.
    """

    callers: list[Caller]
    authorizer: Callable[[dict[str, Any]], dict[str, Any]]
    dynamodb: Any
    table: str
    rounds: int
    stagger_seconds: float

    def authorizes(self, token: str) -> bool:
        event = sample("authorizer_http_api") | {"identitySource": [f"Bearer {token}"]}
        allowed: bool = self.authorizer(event)["isAuthorized"]
        return allowed

    def stored(self, session_id: str) -> dict[str, Any]:
        """Return the session's item, or {} if there is none."""
        key = {"SessionId": {"S": session_id}}
        answer = self.dynamodb.get_item(TableName=self.table, Key=key, ConsistentRead=True)
        item: dict[str, Any] = answer.get("Item", {})
        return item

    def make_renewal_due(self, session_id: str) -> None:
        """Set the last renewal to a time long ago, so that `verify` renews the session."""
        self.dynamodb.update_item(
            TableName=self.table,
            Key={"SessionId": {"S": session_id}},
            UpdateExpression="SET RenewedAt = :long_ago",
            ExpressionAttributeValues={":long_ago": {"N": "1"}},
        )

    def lose_newest(self, session_id: str) -> None:
        """Make the newest token one that nobody has used for longer than its grace period."""
        self.dynamodb.update_item(
            TableName=self.table,
            Key={"SessionId": {"S": session_id}},
            UpdateExpression="SET PreviousTokenUntil = :long_ago",
            ExpressionAttributeValues={":long_ago": {"N": "1"}},
        )

    def race(self, *calls: Callable[[], Any]) -> list[Any]:
        """Make all calls at the same time, or a moment apart, and return their answers."""
        start = Barrier(len(calls))

        def run(call: Callable[[], Any]) -> Any:
            pause = random.choice((0, random.uniform(0, self.stagger_seconds)))
            start.wait()
            time.sleep(pause)
            return call()

        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(run, calls))
