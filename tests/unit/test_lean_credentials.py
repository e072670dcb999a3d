"""Where the lean DynamoDB client gets its credentials from."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dynamodb import client as lean
from dynamodb.client import Client
from dynamodb.errors import NoCredentials, TransientError
from local.stack import HOST
from tests.support.lean import AT_MOST, GOOD, ITEM, SHORT, get
from tests.support.proxy import Exchange, Fault, Proxy, refusing
from tests.support.waiting import eventually


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
        self.authorizations: list[str] = []
        self.status = 200
        # What to change in the answer, or to answer in its place.
        self.changes: dict[str, Any] = {}
        self.body: bytes | None = None
        self.drips = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/credentials"


class EndpointHandler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_GET(self) -> None:
        endpoint = self.server
        endpoint.authorizations.append(self.headers["Authorization"])
        endpoint.may_answer.wait(20)
        expiration = datetime.datetime.now(datetime.UTC) + endpoint.lifetime
        answer = {
            "AccessKeyId": f"KEY{len(endpoint.authorizations)}",
            "SecretAccessKey": "secret",
            "Token": "token",
            "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        body = endpoint.body
        if body is None:
            body = json.dumps(answer | endpoint.changes).encode()
        self.send_response(endpoint.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the client may have given up
            while endpoint.drips and body:
                self.wfile.write(body[:1])
                body = body[1:]
                time.sleep(0.05)
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
    assert endpoint.authorizations == ["authorization"]


def test_threads_that_begin_together_load_credentials_once(
    endpoint: Endpoint, client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamodb.credentials._ENDPOINT_SECONDS", AT_MOST)
    monkeypatch.setattr(lean, "_ATTEMPT_SECONDS", AT_MOST)
    endpoint.may_answer.clear()
    keys = keys_used(server)
    threads = [threading.Thread(target=get, args=(client,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    eventually(lambda: endpoint.authorizations)
    endpoint.may_answer.set()
    for thread in threads:
        thread.join()

    assert keys == ["KEY1"] * 5
    assert len(endpoint.authorizations) == 1


def test_credentials_of_an_endpoint_are_renewed_before_they_expire(
    endpoint: Endpoint, client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keys_used(server)
    get(client)
    endpoint.lifetime = datetime.timedelta(hours=12)
    now = time.time()

    for minutes in (344, 346, 360):
        monkeypatch.setattr("clock.time", lambda minutes=minutes: now + minutes * 60)
        get(client)

    assert keys == ["KEY1", "KEY1", "KEY2", "KEY2"]


def test_old_credentials_serve_while_the_endpoint_fails(
    endpoint: Endpoint, client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once a minute, so that not every request waits for it, and costs no attempt."""
    monkeypatch.setattr(lean, "ATTEMPTS", 1)
    keys = keys_used(server)
    endpoint.lifetime = datetime.timedelta(minutes=15)
    get(client)
    endpoint.status = 500
    now = time.time()

    for seconds in (59, 61, 61, 120, 122):
        monkeypatch.setattr("clock.time", lambda seconds=seconds: now + seconds)
        get(client)

    assert keys == ["KEY1"] * 6
    assert len(endpoint.authorizations) == 3


def test_old_credentials_serve_while_another_thread_loads_new_ones(
    endpoint: Endpoint, client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamodb.credentials._ENDPOINT_SECONDS", AT_MOST)
    monkeypatch.setattr(lean, "_ATTEMPT_SECONDS", AT_MOST)
    keys = keys_used(server)
    get(client)
    endpoint.may_answer.clear()
    monkeypatch.setattr("clock.time", lambda: time.time() + 6 * 3600)
    first = threading.Thread(target=get, args=(client,))
    first.start()
    eventually(lambda: len(endpoint.authorizations) == 2)

    get(client)

    assert keys == ["KEY1", "KEY1"]
    endpoint.may_answer.set()
    first.join()
    assert keys == ["KEY1", "KEY1", "KEY2"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"Code": "InternalError", "Message": "classified"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_answer_without_credentials_is_an_outage(
    endpoint: Endpoint, client: Client, server: Proxy, body: bytes
) -> None:
    endpoint.body = body

    with pytest.raises(TransientError, match="credentials: malformed answer"):
        get(client)

    assert server.operations == []
    endpoint.body = None
    server.plan(GOOD)
    assert get(client) == ITEM


@pytest.mark.parametrize(
    "value", ["", None, 1, [], "key\r\nHost: another", "schl\u00fcssel", "\ud800"]
)
@pytest.mark.parametrize("name", ["AccessKeyId", "SecretAccessKey", "Token"])
def test_key_that_can_be_none_is_an_outage(
    endpoint: Endpoint, client: Client, server: Proxy, name: str, value: object
) -> None:
    endpoint.changes = {name: value}

    with pytest.raises(TransientError, match="credentials: malformed answer"):
        get(client)
    assert server.operations == []


@pytest.mark.parametrize(
    "date", ["", "tomorrow", None, 1_795_392_000, "2026-11-23", "2026-11-23T00:00:00"]
)
def test_malformed_expiration_is_an_outage(
    endpoint: Endpoint, client: Client, server: Proxy, date: object
) -> None:
    """The last two have no time zone."""
    endpoint.changes = {"Expiration": date}

    with pytest.raises(TransientError, match="credentials: malformed answer"):
        get(client)
    assert server.operations == []


@pytest.mark.parametrize("hours", [-1, -24 * 365 * 20])
def test_credentials_that_come_expired_are_for_dynamodb_to_judge(
    endpoint: Endpoint, client: Client, server: Proxy, hours: int
) -> None:
    """They may look so because the clock of this host is wrong. They are kept for a minute."""
    endpoint.lifetime = datetime.timedelta(hours=hours)
    server.plan(always=refusing("ExpiredTokenException"))
    with pytest.raises(TransientError, match="ExpiredTokenException"):
        get(client)

    server.plan(always=GOOD)
    assert get(client) == get(client) == ITEM
    assert len(endpoint.authorizations) == 3


@pytest.mark.parametrize("uri", ["", "credentials", "ftp://127.0.0.1/", "http://127.0.0.1:port/"])
def test_endpoint_that_is_no_url_provides_no_credentials(
    client: Client, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)

    with pytest.raises(NoCredentials, match="AWS_CONTAINER_CREDENTIALS_FULL_URI: "):
        get(client)


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
    with pytest.raises(TransientError, match="credentials: HTTP 500"):
        get(client)
    assert len(endpoint.authorizations) == lean.ATTEMPTS
    assert server.operations == []

    endpoint.status = 200
    server.plan(GOOD)
    assert get(client) == ITEM


@pytest.mark.parametrize("drips", [False, True])
def test_endpoint_that_is_silent_or_slow_is_an_outage(
    endpoint: Endpoint,
    client: Client,
    server: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    drips: bool,
) -> None:
    """The whole answer has a second: an attempt has 3 s in all."""
    endpoint.drips = drips
    if not drips:
        endpoint.may_answer.clear()
    monkeypatch.setattr("dynamodb.credentials._ENDPOINT_SECONDS", SHORT)
    monkeypatch.setattr("dynamodb.connection.ANSWER_SECONDS", AT_MOST)
    monkeypatch.setattr(lean, "_ATTEMPT_SECONDS", AT_MOST)
    begin = time.monotonic()

    with pytest.raises(TransientError, match="credentials: TimeoutError"):
        get(client)

    assert time.monotonic() - begin < AT_MOST
    endpoint.may_answer.set()
    assert len(endpoint.authorizations) == lean.ATTEMPTS
    assert server.operations == []


def test_thread_that_waits_for_those_of_another_keeps_its_own_deadline(
    endpoint: Endpoint, client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamodb.credentials._ENDPOINT_SECONDS", AT_MOST)
    monkeypatch.setattr("dynamodb.connection.ANSWER_SECONDS", AT_MOST)
    monkeypatch.setattr(lean, "_ATTEMPT_SECONDS", AT_MOST)
    endpoint.may_answer.clear()
    server.plan(always=GOOD)
    other = threading.Thread(target=get, args=(client,))
    other.start()
    eventually(lambda: endpoint.authorizations)
    monkeypatch.setattr(lean, "_ATTEMPT_SECONDS", SHORT)

    with pytest.raises(TransientError, match="credentials: TimeoutError"):
        get(client)

    assert len(endpoint.authorizations) == 1
    assert server.operations == []
    endpoint.may_answer.set()
    other.join()
    assert server.operations == ["GetItem"]
