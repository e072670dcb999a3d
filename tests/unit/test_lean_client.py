"""The lean DynamoDB client, against a server that answers, fails and sends wrong data as
planned.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dynamodb import client as lean
from dynamodb import connection as connection_module
from dynamodb.client import Client
from dynamodb.connection import ANSWER_SECONDS, CONNECT_SECONDS
from dynamodb.credentials import Credentials
from dynamodb.errors import NoCredentials, RequestRefused, TransientError
from local.stack import HOST
from tests.support.proxy import (
    Exchange,
    Fault,
    Proxy,
    answering,
    closing,
    cut,
    dripping,
    proxy_to,
    refusing,
    resetting,
    silent,
)

GOOD = answering(200, b'{"Item": {"A": {"N": "1"}}}')
ITEM = {"Item": {"A": {"N": "1"}}}
# The limit for an answer in tests in which none comes, and the time that these tests may take. Slow
# machines need more time, and the two attempts of the real client would take twice 2 s.
SHORT, AT_MOST = 0.2, 3.0


@pytest.fixture
def server() -> Iterator[Proxy]:
    with proxy_to() as server:
        yield server


@pytest.fixture
def client(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setattr(lean, "_PAUSE_SECONDS", (0, 0))
    with connected() as client:
        yield client


@contextmanager
def connected() -> Iterator[Client]:
    client = lean.connect()
    try:
        yield client
    finally:
        client.close()


def get(client: Client) -> dict[str, Any]:
    return client.get_item(TableName="t", Key={"K": {"S": "k"}})


def test_request_conforms_to_the_protocol(client: Client, server: Proxy) -> None:
    """Values of type B are sent and returned as base64. Text keeps any Unicode."""
    seen: list[Exchange] = []

    def answer(exchange: Exchange) -> None:
        seen.append(exchange)
        answering(200, exchange.body.replace(b'"Item"', b'"Attributes"'))(exchange)

    server.plan(always=answer)
    values = {
        "Hash": {"B": b"\x00\xff"},
        "B": {"M": {"B": {"S": "\U0001f600 \x7f é"}}},
        "L": {"L": [{"B": b""}, {"NULL": True}]},
    }

    response = client.put_item(TableName="t", Item=values)

    [exchange] = seen
    assert exchange.operation == "PutItem"
    assert exchange.headers["content-type"] == "application/x-amz-json-1.0"
    assert exchange.headers["host"] == server.endpoint.removeprefix("http://")
    assert json.loads(exchange.body)["Item"]["Hash"] == {"B": "AP8="}
    assert response["Attributes"] == values


def test_value_that_is_not_an_attribute_value_is_refused(client: Client, server: Proxy) -> None:
    with pytest.raises(TypeError, match="set is not an attribute value"):
        client.put_item(TableName="t", Item={"A": {"SS": {"x"}}})
    assert server.operations == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (closing, "RemoteDisconnected"),
        (resetting, "ConnectionResetError"),
        (cut, "IncompleteRead"),
        (answering(500), "HTTP 500"),
        (answering(503, b"<html>busy</html>"), "HTTP 503"),
        (answering(429, b""), "HTTP 429"),
        (answering(408, b""), "HTTP 408"),
        (answering(200, b""), "NoJSON"),
        (answering(200, b"<html>"), "NoJSON"),
        (answering(200, b"[]"), "NoJSON"),
        (answering(200, b'{"Item": {"A": {"B": "no base64"}}}'), "NoJSON"),
        (answering(200, b"[" * 100_000), "NoJSON"),
        (answering(200, b'{"Item": {}}', checksum=1), "ChecksumMismatch"),
        (answering(400, b'{"__type": "x#ValidationException"}', checksum=1), "ChecksumMismatch"),
        (lambda exchange: exchange.send(b"garbage\r\n\r\n"), "BadStatusLine"),
        (refusing("ThrottlingException"), "ThrottlingException"),
        (refusing("ProvisionedThroughputExceededException"), "ProvisionedThroughput"),
        (refusing("InternalServerError", 500), "HTTP 500"),
    ],
)
def test_failure_is_tried_again_once(
    client: Client, server: Proxy, fault: Fault, message: str
) -> None:
    """None of these failures may look like an answer, above all not like a missing item."""
    server.plan(fault, GOOD)
    assert get(client) == ITEM
    assert len(server.operations) == 2

    client.close()  # on a reused connection, the first failure may mean that the connection is dead
    server.plan(always=fault)
    with pytest.raises(TransientError, match=message):
        get(client)
    assert len(server.operations) == 2


@pytest.mark.parametrize(
    "code",
    ["ConditionalCheckFailedException", "ValidationException", "AccessDeniedException", "Other"],
)
def test_client_error_is_not_retried(client: Client, server: Proxy, code: str) -> None:
    server.plan(refusing(code, message="no, 'data'"))

    with pytest.raises(RequestRefused) as refused:
        get(client)

    assert len(server.operations) == 1
    assert (refused.value.code, refused.value.message) == (code, "no, 'data'")
    assert "data" not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b'"no"', b'{"message": 1}'])
def test_error_of_a_proxy_has_its_status(client: Client, server: Proxy, body: bytes) -> None:
    server.plan(answering(403, body))

    with pytest.raises(RequestRefused, match="HTTP 403"):
        get(client)


@pytest.mark.parametrize("fault", [silent, dripping])
def test_whole_answer_has_a_time_limit(
    client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """The timeout of a socket would start again with each byte."""
    monkeypatch.setattr("dynamodb.connection.ANSWER_SECONDS", SHORT)
    server.plan(always=fault)
    begin = time.monotonic()

    with pytest.raises(TransientError, match="TimeoutError"):
        get(client)

    assert 2 * SHORT <= time.monotonic() - begin < AT_MOST
    assert len(server.operations) == 2


def test_whole_attempt_has_a_time_limit(
    client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the credentials' endpoint is slow, less time is left for DynamoDB."""
    monkeypatch.setattr(lean, "_ATTEMPT_SECONDS", SHORT)
    server.plan(always=silent)
    begin = time.monotonic()

    with pytest.raises(TransientError, match="TimeoutError"):
        get(client)

    assert time.monotonic() - begin < ANSWER_SECONDS


def test_two_attempts_and_their_pause_end_within_seven_seconds() -> None:
    attempts = lean.ATTEMPTS * (CONNECT_SECONDS + ANSWER_SECONDS)
    assert lean.ATTEMPTS == 2
    assert attempts + lean._PAUSE_SECONDS[1] < 7


def test_host_that_accepts_no_connection_is_given_up_in_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its backlog is full, so the kernel drops new connections."""
    monkeypatch.setattr("dynamodb.connection.CONNECT_SECONDS", SHORT)
    with socket.create_server((HOST, 0), backlog=0) as full:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{full.getsockname()[1]}")
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        begin = time.monotonic()
        with connected() as client, pytest.raises(TransientError, match="TimeoutError"):
            get(client)
        for filler in fillers:
            filler.close()

    assert time.monotonic() - begin < AT_MOST


def test_host_where_nobody_listens_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "_PAUSE_SECONDS", (0, 0))
    with socket.create_server((HOST, 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{server.getsockname()[1]}")
    with connected() as client, pytest.raises(TransientError, match="ConnectionRefusedError"):
        get(client)


def test_next_address_of_a_host_is_tried(
    client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host name may have an address on which nobody listens."""
    server.plan(always=GOOD)
    with socket.create_server((HOST, 0)) as gone:
        port = gone.getsockname()[1]
    look_up = socket.getaddrinfo

    def find(host: str, *more: Any, **named: Any) -> list[Any]:
        return [*look_up(host, port, type=socket.SOCK_STREAM), *look_up(host, *more, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", find)

    assert get(client) == ITEM
    assert len(server.operations) == 1


def test_connection_is_kept(client: Client, server: Proxy) -> None:
    server.plan(always=GOOD)

    for _ in range(5):
        get(client)

    assert server.connections == 1


def test_threads_never_share_a_connection_at_the_same_time(client: Client, server: Proxy) -> None:
    """Later threads reuse the connections."""
    together = threading.Barrier(3)

    def answer_together(exchange: Exchange) -> None:
        together.wait(10)
        GOOD(exchange)

    server.plan(always=answer_together)
    for _ in range(3):
        threads = [threading.Thread(target=get, args=(client,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert server.connections == 3
    assert len(server.operations) == 9


@pytest.mark.parametrize("end", [closing, resetting])
def test_dead_connection_does_not_count_as_an_attempt(
    client: Client, server: Proxy, end: Fault
) -> None:
    """If a reused connection is dead, the request is sent on a new one, and may fail once more."""
    server.plan(GOOD, end, answering(500), GOOD)
    get(client)

    assert get(client) == ITEM
    assert len(server.operations) == 4


@pytest.mark.parametrize(
    "unasked", [closing, answering(408, b""), answering(200, b'{"Item": {"A": {"S": "stale"}}}')]
)
def test_connection_with_unexpected_data_is_not_used(
    client: Client, server: Proxy, unasked: Fault
) -> None:
    """The data is its end, for example after the environment was frozen, or an answer without a
    request.
    """

    is_answered = threading.Event()

    def answer_and_go_on(exchange: Exchange) -> None:
        GOOD(exchange)
        is_answered.wait(20)
        unasked(exchange)

    server.plan(answer_and_go_on, GOOD)
    get(client)
    is_answered.set()
    [kept] = idle(client)
    eventually(lambda: not kept.is_alive())

    assert get(client) == ITEM
    assert len(server.operations) == 2
    assert server.connections == 2


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """The sockets of all connections, in the order in which they were opened."""
    sockets: list[socket.socket] = []
    connect = connection_module._connect

    def note(*to: Any) -> socket.socket:
        sockets.append(connect(*to))
        return sockets[-1]

    monkeypatch.setattr(connection_module, "_connect", note)
    return sockets


def open_three(client: Client, server: Proxy) -> None:
    """Leave three idle connections."""
    together = threading.Barrier(3)

    def answer_together(exchange: Exchange) -> None:
        together.wait(20)
        GOOD(exchange)

    server.plan(always=answer_together)
    threads = [threading.Thread(target=get, args=(client,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(idle(client)) == 3


@pytest.mark.parametrize("noticed", ["before it is used", "while it is used"])
def test_all_idle_connections_are_closed_if_one_is_dead(
    client: Client, server: Proxy, opened: list[socket.socket], noticed: str
) -> None:
    """They are as old, and each of them would need a request to detect that it is dead."""
    open_three(client, server)
    if noticed == "before it is used":
        idle(client)[-1]._socket.shutdown(socket.SHUT_RDWR)
        server.plan(always=GOOD)
    else:
        server.plan(closing, always=GOOD)

    assert get(client) == ITEM

    assert [connection.fileno() == -1 for connection in opened] == [True, True, True, False]
    assert len(idle(client)) == 1


@pytest.mark.parametrize(
    ("version", "header"), [("1.1", "Connection: close"), ("1.0", "Content-Type: text/plain")]
)
def test_connection_that_the_server_will_not_keep_is_closed(
    client: Client, server: Proxy, opened: list[socket.socket], version: str, header: str
) -> None:
    """Its answer is used nevertheless."""
    body = json.dumps(ITEM).encode()
    head = f"HTTP/{version} 200 OK\r\n{header}\r\nContent-Length: {len(body)}\r\n\r\n"
    server.plan(always=lambda exchange: exchange.send(head.encode() + body))

    assert get(client) == get(client) == ITEM

    assert server.connections == 2
    assert [connection.fileno() for connection in opened] == [-1, -1]
    assert idle(client) == []


def idle(client: Client) -> list[Any]:
    connections: Any = client._transport
    idle_connections: list[Any] = connections._idle
    return idle_connections


def eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_nagles_algorithm_is_off(client: Client, server: Proxy) -> None:
    """It would delay the last part of a request until the first part was acknowledged."""
    server.plan(GOOD)
    get(client)

    [kept] = idle(client)
    assert kept._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("environment", "endpoint", "host"),
    [
        ({}, ("dynamodb.eu-west-1.amazonaws.com", 443), "dynamodb.eu-west-1.amazonaws.com"),
        (
            {"AWS_REGION": "cn-north-1"},
            ("dynamodb.cn-north-1.amazonaws.com.cn", 443),
            "dynamodb.cn-north-1.amazonaws.com.cn",
        ),
        ({"AWS_ENDPOINT_URL": "http://localhost"}, ("localhost", 80), "localhost"),
        ({"AWS_ENDPOINT_URL": "https://localhost:443"}, ("localhost", 443), "localhost"),
        ({"AWS_ENDPOINT_URL": "http://localhost:8000/"}, ("localhost", 8000), "localhost:8000"),
        (
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_DYNAMODB": "https://b:8443"},
            ("b", 8443),
            "b:8443",
        ),
    ],
)
def test_endpoint_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    endpoint: tuple[str, int],
    host: str,
) -> None:
    """The Host header, which is signed, omits a default port."""
    for name, value in ({"AWS_REGION": "eu-west-1"} | environment).items():
        monkeypatch.setenv(name, value)

    with connected() as client:
        connections: Any = client._transport

    assert (connections._address, connections.host) == (endpoint, host)


@pytest.mark.parametrize("endpoint", ["dynamodb.internal", "ftp://dynamodb", "http://"])
def test_invalid_endpoint_is_an_error(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

    with pytest.raises(ValueError, match=f"the endpoint {endpoint} is not an http or https URL"):
        lean.connect()


def certificate(folder: Path, address: str) -> Path:
    """Return a new self-signed certificate for an IP address, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{address}.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(pem)
    )
    return file


@pytest.mark.parametrize(
    ("address", "trusted", "failure"),
    [(HOST, True, None), (HOST, False, "SSLCert"), ("127.0.0.2", True, "SSLCert")],
)
def test_certificates_and_host_names_are_verified(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    trusted: bool,
    failure: str | None,
) -> None:
    """Connections with TLS are reused, too."""
    file = certificate(tmp_path, address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
    monkeypatch.setattr(lean, "_PAUSE_SECONDS", (0, 0))
    with proxy_to(tls=context) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        server.plan(always=GOOD)
        with connected() as client:
            if failure:
                with pytest.raises(TransientError, match=failure):
                    get(client)
                assert server.operations == []
            else:
                assert get(client) == get(client) == ITEM
                assert server.connections == 1


def test_no_credentials_are_one_clear_error(
    client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(NoCredentials, match="AWS_SECRET_ACCESS_KEY.* is set in the environment"):
        get(client)
    assert server.operations == []


def test_nothing_secret_is_in_an_exception_or_a_repr(
    client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No exception of the chain contains keys, requests or answers."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "classified-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "classified-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "classified-token")
    answer = b'{"Item": {"A": {"S": "classified-answer"}}, classified}'
    for fault in (
        answering(200, answer),
        answering(500, answer),
        refusing("ValidationException", message="classified-message"),
        lambda exchange: exchange.send(b"classified-status\r\n\r\n"),
        lambda exchange: exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-amz-crc32: classified\r\n\r\n"
        ),
        cut,
    ):
        server.plan(always=fault)
        with pytest.raises((TransientError, RequestRefused)) as raised:
            client.get_item(TableName="t", Key={"K": {"S": "classified-request"}})
        error: BaseException | None = raised.value
        while error:
            assert "classified" not in f"{error} {error!r}"
            assert error.__suppress_context__ or error.__context__ is None
            error = error.__cause__
    assert "classified" not in repr(Credentials("classified", "classified", "classified"))


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
