"""Calls the API's function in the way that API Gateway does."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from sessions.table import Writer
from tests.support.contract import assert_matches_contract, assert_request_matches_contract
from tests.support.functions import lambda_context
from tests.support.gateway import api_event, by_function_url
from tests.support.seam import seam

NOW = 1_795_435_200
# Another caller, which writes to the table without the test's API.
BY_OTHER = Writer(actor="other", request_id="other")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Entrance = Callable[[dict[str, Any]], None]


def through_api(event: dict[str, Any]) -> None:
    """Leave the event as API Gateway creates it."""


# The mark of tests that run with events of API Gateway, and again with those of the function URL.
THROUGH_BOTH = pytest.mark.parametrize(
    "api", [through_api, by_function_url], ids=["API", "function URL"], indirect=True
)


class Clock:
    """The current time of the API."""

    def __init__(self) -> None:
        self.now = NOW


class Api:
    """Calls `session_api` as API Gateway does, and checks every answer against the contract.

    `entrance` changes each event as another way to reach the API would, for example a custom
    domain.
    """

    def __init__(self, handler: ModuleType, clock: Clock, entrance: Entrance = through_api) -> None:
        self.handler = handler
        self.clock = clock
        self.entrance = entrance
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
        """Send a request.

        `body` is encoded as JSON unless it is a string. Each call has a new request id.
        """
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
        """The DynamoDB operations of the last call."""
        return [operation for operation, _ in seam.calls]

    def send(self, event: dict[str, Any], path: str | None = None) -> Answer:
        """Call the function with `event`.

        `path` is the path in the contract, if it differs from the event's.
        """
        response = self.handler.lambda_handler(event, lambda_context())
        headers = {name.lower(): value for name, value in response["headers"].items()}
        answer = Answer(response["statusCode"], headers, response["body"])
        http = event["requestContext"]["http"]
        if '"route_not_found"' not in answer.body:
            assert_matches_contract(
                http["method"], path or http["path"], answer.status, headers, answer.body.encode()
            )
        if not event["isBase64Encoded"] and not event["rawQueryString"]:
            sent = event.get("body", "").encode(errors="surrogatepass")
            route = api_event(http["method"], path or http["path"])["routeKey"]
            assert_request_matches_contract(route, sent, answer.status, answer.body.encode())
        return answer

    def create(self, user_id: str | None = "ada", **fields: Any) -> str:
        """Create a session and return its id. Without `user_id` the session is anonymous."""
        return self.log_in(user_id, **fields).partition(".")[0]

    def log_in(self, user_id: str | None = "ada", **fields: Any) -> str:
        """Create a session and return its token."""
        answer = self("POST", "/sessions", {"user_id": user_id, **fields})
        assert answer.status == 201, answer
        token: str = answer.json["token"]
        return token
