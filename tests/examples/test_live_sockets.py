"""The functions of `examples/live_sockets`: which connections they remember, refuse and close.

tests/e2e/test_prompt_expiry.py has real sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import boto3
import moto
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from tests.support.template import ROOT

ORIGIN = "https://app.example.com"
SESSION = "n2qXk8bVQ0mF"
ENDED = {"detail-type": "expired", "detail": {"session_id": SESSION, "at": 1_795_435_200}}


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example's functions, with an empty table."""
    monkeypatch.setenv("CONNECTIONS_TABLE", "connections")
    monkeypatch.setenv("ORIGIN", ORIGIN)
    with moto.mock_aws():
        boto3.client("dynamodb").create_table(
            TableName="connections",
            KeySchema=[{"AttributeName": "SessionId", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "SessionId", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        file = ROOT / "examples/live_sockets/functions/sockets.py"
        spec = spec_from_file_location("sockets", file)
        assert spec
        assert spec.loader
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def gateway(sockets: ModuleType) -> Iterator[Stubber]:
    """API Gateway, which only accepts the deletions of connections that a test expects."""
    with Stubber(sockets.api) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def event(connection: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return an event of this connection, as far as the functions read it."""
    return {
        "headers": {"Origin": ORIGIN} if headers is None else headers,
        "requestContext": {"connectionId": connection, "authorizer": {"session_id": SESSION}},
    }


def connect(sockets: ModuleType, connection: str, headers: dict[str, str] | None = None) -> int:
    return int(sockets.connect(event(connection, headers), None)["statusCode"])


def test_closed_connection_is_forgotten(sockets: ModuleType, gateway: Stubber) -> None:
    connect(sockets, "left")
    connect(sockets, "stayed")

    assert sockets.disconnect(event("left"), None) == {"statusCode": 200}

    gateway.add_response("delete_connection", {}, {"ConnectionId": "stayed"})
    sockets.close(ENDED, None)


def test_connection_that_is_gone_is_passed_over(sockets: ModuleType, gateway: Stubber) -> None:
    """API Gateway does not promise to call `disconnect`."""
    connect(sockets, "gone")
    connect(sockets, "open")
    gateway.add_client_error("delete_connection", "GoneException", http_status_code=410)
    gateway.add_response("delete_connection", {})

    sockets.close(ENDED, None)


def test_failed_call_is_repeated_with_all_connections(
    sockets: ModuleType, gateway: Stubber
) -> None:
    connect(sockets, "open")
    gateway.add_client_error("delete_connection", "LimitExceededException", http_status_code=429)
    with pytest.raises(ClientError):
        sockets.close(ENDED, None)
    gateway.add_response("delete_connection", {}, {"ConnectionId": "open"})

    sockets.close(ENDED, None)


def test_connection_is_refused_if_the_session_has_ended(
    sockets: ModuleType, gateway: Stubber
) -> None:
    """The authorizer allowed it, and the event came before the connection was in the table."""
    sockets.close(ENDED, None)

    assert connect(sockets, "late") == 403


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://blog.example.com"}, {"origin": "https://blog.example.com"}, {}],
)
def test_connection_of_another_origin_is_refused(
    sockets: ModuleType, gateway: Stubber, headers: dict[str, str]
) -> None:
    assert connect(sockets, "foreign", headers) == 403

    sockets.close(ENDED, None)  # there is nothing to close


def test_case_of_the_header_does_not_matter(sockets: ModuleType) -> None:
    assert connect(sockets, "first", {"origin": ORIGIN}) == 200


def test_items_expire(sockets: ModuleType, gateway: Stubber) -> None:
    """Also the item that `disconnect` creates after TTL has deleted the first one."""
    for function in (sockets.connect, sockets.disconnect):
        function(event("first"), None)

        item = sockets.connections.get_item(Key={"SessionId": SESSION})["Item"]
        assert item["ExpirationTime"] > 1_795_435_200
        sockets.connections.delete_item(Key={"SessionId": SESSION})
