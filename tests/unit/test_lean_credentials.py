"""Where the lean DynamoDB client gets its credentials from."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dynamodb import client as lean
from dynamodb.client import Client
from dynamodb.errors import NoCredentials, TransientError
from local.stack import HOST
from tests.support.lean import GOOD, ITEM, get
from tests.support.proxy import Exchange, Fault, Proxy, refusing


def test_no_credentials_are_one_clear_error(
    client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(NoCredentials, match="AWS_SECRET_ACCESS_KEY.* is set in the environment"):
        get(client)
    assert server.operations == []


class Endpoint(ThreadingHTTPServer):
    """Returns credentials as Lambda does under SnapStart, with a new key each time."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), EndpointHandler)
        self.lifetime = datetime.timedelta(hours=6)
        self.asked: list[str] = []
        self.status = 200
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/credentials"


class EndpointHandler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_GET(self) -> None:
        endpoint = self.server
        endpoint.asked.append(self.headers["Authorization"])
        endpoint.may_answer.wait(20)
        expiration = datetime.datetime.now(datetime.UTC) + endpoint.lifetime
        body = json.dumps(
            {
                "AccessKeyId": f"KEY{len(endpoint.asked)}",
                "SecretAccessKey": "secret",
                "Token": "token",
                "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        ).encode()
        self.send_response(endpoint.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing. The default writes to standard error."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        threading.Thread(target=endpoint.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "authorization")
        yield endpoint
        endpoint.shutdown()


def keys_used(server: Proxy, fault: Fault = GOOD) -> list[str]:
    """Record the access keys with which requests are signed.

    Each request is answered by `fault`.
    """
    keys: list[str] = []

    def note(exchange: Exchange) -> None:
        keys.append(exchange.headers["authorization"].partition("Credential=")[2].split("/")[0])
        assert exchange.headers["x-amz-security-token"] == "token"
        fault(exchange)

    server.plan(always=note)
    return keys


def test_credentials_of_an_endpoint_are_loaded_once(
    endpoint: Endpoint, client: Client, server: Proxy
) -> None:
    """Under SnapStart the environment has no credentials, or only temporary ones."""
    keys = keys_used(server)

    for _ in range(3):
        get(client)

    assert keys == ["KEY1"] * 3
    assert endpoint.asked == ["authorization"]


def test_credentials_of_an_endpoint_are_renewed_before_they_expire(
    endpoint: Endpoint, client: Client, server: Proxy
) -> None:
    """botocore requests new ones from 15 minutes before the expiry on."""
    endpoint.lifetime = datetime.timedelta(minutes=14)
    keys = keys_used(server)
    get(client)
    endpoint.lifetime = datetime.timedelta(hours=6)
    get(client)
    get(client)

    assert keys == ["KEY2", "KEY3", "KEY3"] or keys == ["KEY1", "KEY2", "KEY2"]


@pytest.mark.parametrize("code", ["ExpiredTokenException", "ExpiredToken"])
def test_expired_credentials_are_loaded_once_more(
    endpoint: Endpoint, client: Client, server: Proxy, code: str
) -> None:
    keys = keys_used(server, refusing(code))

    with pytest.raises(TransientError, match=code):
        get(client)

    assert keys == ["KEY1", "KEY2"]


def test_endpoint_that_fails_is_an_outage(
    endpoint: Endpoint, client: Client, server: Proxy
) -> None:
    """The next request may succeed."""
    endpoint.status = 500
    with pytest.raises(TransientError, match="CredentialRetrievalError"):
        get(client)
    assert len(endpoint.asked) == lean.ATTEMPTS
    assert server.operations == []

    endpoint.status = 200
    server.plan(GOOD)
    assert get(client) == ITEM


def test_endpoint_that_is_silent_is_an_outage(
    endpoint: Endpoint, client: Client, server: Proxy
) -> None:
    """It is given up after a second, because an attempt has 3 s in total."""
    endpoint.may_answer.clear()

    with pytest.raises(TransientError, match="CredentialRetrievalError"):
        get(client)

    endpoint.may_answer.set()
    assert len(endpoint.asked) == lean.ATTEMPTS
    assert server.operations == []
