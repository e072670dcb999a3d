"""The connections of the lean DynamoDB client: kept, lost, refused, silent and encrypted ones."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dynamodb import client as lean
from dynamodb import connection as connection_module
from dynamodb.client import Client
from dynamodb.connection import Connections, _Connection
from dynamodb.errors import TransientError
from local.stack import HOST
from tests.support.lean import AT_MOST, GOOD, ITEM, SHORT, connected, get, idle
from tests.support.proxy import (
    Exchange,
    Fault,
    Proxy,
    answering,
    closing,
    http_answer,
    proxy_to,
    resetting,
    silent,
)
from tests.support.waiting import eventually


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


def encryption_with(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A server whose certificate the client trusts."""
    file = certificate(tmp_path, HOST)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
    with proxy_to(tls=encryption_with(file)) as server:
        yield server


@pytest.fixture(params=["server", "tls_server"])
def any_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """A server behind the endpoint of the environment, without and with TLS."""
    server: Proxy = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    return server


@contextmanager
def full_listener() -> Iterator[int]:
    """A port that takes no connection: its backlog is full, and the kernel ignores what comes."""
    with socket.create_server((HOST, 0), backlog=0) as full, ExitStack() as fillers:
        for _ in range(3):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@contextmanager
def silent_listener() -> Iterator[int]:
    """A port that takes connections, and never sends anything on them."""
    with socket.create_server((HOST, 0)) as silent:
        yield silent.getsockname()[1]


def port_of(server: Proxy) -> int:
    port = urlsplit(server.endpoint).port
    assert port
    return port


def resolve_to(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Let any name have one address for each of these ports of this host, in this order."""
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (HOST, port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)


def test_host_that_accepts_no_connection_is_given_up_in_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamodb.connection.CONNECT_SECONDS", SHORT)
    with full_listener() as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{port}")
        begin = time.monotonic()
        with connected() as client, pytest.raises(TransientError, match="TimeoutError"):
            get(client)

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
    resolve_to(monkeypatch, port, port_of(server))

    assert get(client) == ITEM
    assert len(server.operations) == 1


@pytest.mark.parametrize("silent_address", [full_listener, silent_listener])
def test_next_address_of_a_silent_host_is_tried(
    tls_server: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    silent_address: Callable[[], AbstractContextManager[int]],
) -> None:
    """An address may ignore the connection, or take it and stay silent during the handshake."""
    monkeypatch.setattr("dynamodb.connection.CONNECT_SECONDS", 2.0)
    tls_server.plan(always=GOOD)
    monkeypatch.setenv("AWS_ENDPOINT_URL", tls_server.endpoint)
    with silent_address() as port, connected() as client:
        resolve_to(monkeypatch, port, port_of(tls_server))

        assert get(client) == ITEM

    assert len(tls_server.operations) == 1


def test_each_address_of_a_host_has_half_of_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many there are, the first one has long enough for a handshake on a slow host."""
    shares: list[float] = []

    def refuse(address: Any, tls: None, host: str, deadline: float) -> socket.socket:
        shares.append(deadline - time.monotonic())
        raise ConnectionRefusedError

    monkeypatch.setattr("dynamodb.connection.CONNECT_SECONDS", 80_000)
    monkeypatch.setattr("dynamodb.connection._connect", refuse)
    resolve_to(monkeypatch, 1, 2, 3, 4)

    with pytest.raises(TransientError, match="ConnectionRefusedError"):
        Connections("http://localhost").exchange({}, b"", time.monotonic() + 80_000)

    assert shares == pytest.approx([40_000, 40_000, 40_000, 80_000], rel=0.01)


class SlowNames:
    """A look-up of names that ends when it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.may_end = threading.Event()
        self._look_up = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, *where: Any, **options: Any) -> Any:
        self.count += 1
        self.may_end.wait(20)
        return self._look_up(*where, **options)


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowNames]:
    names = SlowNames(monkeypatch)
    yield names
    names.may_end.set()


def test_name_that_is_not_found_in_time_is_an_outage(
    client: Client, server: Proxy, slow_names: SlowNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`getaddrinfo` has no time limit. However many wait for it, it runs once."""
    monkeypatch.setattr("dynamodb.connection.CONNECT_SECONDS", SHORT)
    failures: list[str] = []

    def fail() -> None:
        with pytest.raises(TransientError) as raised:
            get(client)
        failures.append(str(raised.value))

    begin = time.monotonic()
    threads = [threading.Thread(target=fail) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert time.monotonic() - begin < AT_MOST
    assert failures == ["TimeoutError"] * 5
    assert slow_names.count == 1

    monkeypatch.setattr("dynamodb.connection.CONNECT_SECONDS", AT_MOST)
    slow_names.may_end.set()
    server.plan(GOOD)
    assert get(client) == ITEM


@pytest.mark.parametrize("failure", [socket.gaierror(-3, "try again"), UnicodeError("label")])
def test_name_that_can_not_be_looked_up_is_an_outage(
    client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """Until it can."""
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", Mock(side_effect=failure))
        with pytest.raises(TransientError, match=type(failure).__name__):
            get(client)

    server.plan(GOOD)
    assert get(client) == ITEM


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


def test_connections_whose_peer_has_vanished_cost_one_attempt(
    client: Client,
    server: Proxy,
    opened: list[socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing tells this host, and each of them would cost a timeout of its own."""
    open_three(client, server)
    vanished = {connection.getsockname() for connection in opened}

    def answer(exchange: Exchange) -> None:
        (silent if exchange.connection.getpeername() in vanished else GOOD)(exchange)

    server.plan(always=answer)
    monkeypatch.setattr("dynamodb.connection.ANSWER_SECONDS", 1.0)

    assert get(client) == ITEM

    assert len(server.operations) == 2
    assert [connection.fileno() == -1 for connection in opened] == [True, True, True, False]


@pytest.mark.parametrize("length", [2_000, 8_192, 9_000])
def test_second_answer_to_one_request_is_not_taken_for_that_of_the_next(
    any_server: Proxy, length: int
) -> None:
    """It may be in this process already, where a poll of the socket does not see it.

    The buffer for reading holds 8,192 bytes. The rest of a TLS record stays in a buffer of TLS.
    """
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    body_length = length - len(head % 1_000)
    first = head % body_length + json.dumps(ITEM).encode().ljust(body_length)
    second = http_answer(200, b'{"Item": {"A": {"S": "stale"}}}'.ljust(5_000))
    any_server.plan(lambda exchange: exchange.send(first + second), always=GOOD)

    with connected() as client:
        assert get(client) == get(client) == ITEM

    assert len(first) == length
    assert any_server.connections == len(any_server.operations) == 2


@pytest.mark.parametrize("status", [102, 103])
def test_interim_answer_is_not_taken_for_the_answer(
    client: Client, server: Proxy, status: int
) -> None:
    """The real one follows on the same connection, and must not be taken for that of the next."""

    def answer(exchange: Exchange) -> None:
        exchange.send(f"HTTP/1.1 {status} Wait\r\n\r\n".encode())
        closed.wait(20)

    closed = threading.Event()
    server.plan(answer, GOOD)
    assert get(client) == ITEM
    closed.set()
    assert server.connections == 2


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


def test_nagles_algorithm_is_off(client: Client, server: Proxy) -> None:
    """It would delay the last part of a request until the first part was acknowledged."""
    server.plan(GOOD)
    get(client)

    [kept] = idle(client)
    assert kept._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


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
    if trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
    monkeypatch.setattr(lean, "_PAUSE_SECONDS", (0, 0))
    with proxy_to(tls=encryption_with(file)) as server:
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


def test_response_can_be_discarded_after_its_connection() -> None:
    """The garbage collector may close the stream first. Python 3.13 logs the error of a flush."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        connection = _Connection(here)
        connection._received.deadline = time.monotonic() + AT_MOST
        response = HTTPResponse(connection, method="POST")  # type: ignore[arg-type]
        response.begin()

        connection._received.close()

        response.close()
