"""The connections of the lean DynamoDB client: kept, lost, refused, silent and encrypted ones."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dynamodb import client as lean
from dynamodb import connection as connection_module
from dynamodb.client import Client
from dynamodb.errors import TransientError
from local.stack import HOST
from tests.support.lean import AT_MOST, GOOD, ITEM, SHORT, connected, get, idle
from tests.support.proxy import Exchange, Fault, Proxy, answering, closing, proxy_to, resetting


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
