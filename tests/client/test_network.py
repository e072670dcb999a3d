"""What lies before the service: names, proxies, certificates, and what is said when one fails."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from local.stack import HOST
from serverless_sessions import AsyncSessions, Sessions, Unavailable
from serverless_sessions._core import clock
from tests.support.ports import free_port
from tests.support.stand_in import TOKEN, StandIn, reply, stand_in
from tests.support.waiting import eventually

# A call with this deadline ends soon, and without it much later.
DEADLINE = 0.4
SOON = 15.0
NAME = "sessions.test"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no authorities but those of a test."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("SSL_CERT") or "CA_BUNDLE" in name:
            monkeypatch.delenv(name)


@pytest.fixture
def connect(connect_to: Callable[..., Sessions]) -> Callable[..., Sessions]:
    def make(url: str, **options: Any) -> Sessions:
        known = {
            "region": "us-east-1",
            "credentials": Credentials("testing", "testing"),
            "deadline_seconds": 60.0,
            "verify_deadline_seconds": 60.0,
        }
        return connect_to(url, **(known | options))

    return make


class NameServer:
    """Knows `NAME` once it may answer. `look_ups` are the names that it was asked for."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.look_ups: list[str] = []
        self._others = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host != NAME:
            return self._others(host, port, *more, **named)
        self.look_ups.append(host)
        assert self.answers.wait(60)
        return self._others(HOST, port, *more, **named)


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    name_server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", name_server)
    yield name_server
    name_server.answers.set()


@pytest.fixture
def api() -> Iterator[StandIn]:
    with stand_in() as api:
        yield api


def seconds_until_unavailable(sessions: Sessions) -> float:
    started = time.monotonic()
    with pytest.raises(Unavailable, match=f"{NAME}.*looked up"):
        sessions.verify(TOKEN)
    return time.monotonic() - started


def test_a_slow_name_server_ends_in_the_deadline(
    connect: Callable[..., Sessions], name_server: NameServer, api: StandIn
) -> None:
    """Calls that wait at the same time share one look-up, and the next one has its result."""
    sessions = connect(f"http://{NAME}:{api.port}", verify_deadline_seconds=DEADLINE)
    with ThreadPoolExecutor(4) as threads:
        took = list(threads.map(lambda _: seconds_until_unavailable(sessions), range(4)))
    assert max(took) < SOON
    name_server.answers.set()

    def succeeds() -> bool:
        try:
            return sessions.verify(TOKEN) is not None
        except Unavailable:
            return False

    assert eventually(succeeds)
    assert name_server.look_ups == [NAME]


def test_known_addresses_serve_while_the_name_is_looked_up_again(
    connect: Callable[..., Sessions],
    name_server: NameServer,
    api: StandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name_server.answers.set()
    sessions = connect(f"http://{NAME}:{api.port}")
    assert sessions.verify(TOKEN)
    name_server.answers.clear()
    now = clock.time()
    monkeypatch.setattr(clock, "time", lambda: now + 60)
    api.drop_connections()
    assert sessions.verify(TOKEN)
    assert name_server.look_ups == [NAME] * 2

    monkeypatch.setattr(clock, "time", lambda: now + 3600)
    api.drop_connections()
    name_server.answers.set()
    assert sessions.verify(TOKEN)


def test_the_event_loop_has_its_pool_of_threads_for_itself(
    name_server: NameServer, api: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_server.answers.set()

    def refuse(*_: object) -> Any:
        raise AssertionError("the pool of the app was used")

    async def use() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
        async with AsyncSessions(f"http://{NAME}:{api.port}", region="us-east-1") as sessions:
            assert await sessions.verify(TOKEN)

    asyncio.run(use())


class Authority(NamedTuple):
    """A certificate authority: its file, and the context of a server that it vouches for."""

    file: Path
    server: ssl.SSLContext


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("authority")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, both = folder / "authority.pem", folder / "server.pem"
    text = certificate.public_bytes(serialization.Encoding.PEM)
    file.write_bytes(text)
    both.write_bytes(
        text
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(both)
    return Authority(file, server)


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_authorities_of_the_environment_are_trusted(
    connect: Callable[..., Sessions],
    authority: Authority,
    name_server: NameServer,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    name_server.answers.set()
    monkeypatch.setenv(variable, str(authority.file))
    with stand_in(tls=authority.server) as api:
        assert connect(f"https://{NAME}:{api.port}").verify(TOKEN)


def test_the_authorities_of_the_profile_are_trusted(
    connect: Callable[..., Sessions],
    authority: Authority,
    name_server: NameServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    name_server.answers.set()
    (tmp_path / "config").write_text(f"[profile work]\nca_bundle = {authority.file}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with stand_in(tls=authority.server) as api:
        assert connect(f"https://{NAME}:{api.port}", profile="work").verify(TOKEN)


def test_requests_go_through_the_proxy_of_the_environment(
    connect: Callable[..., Sessions], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy looks the name up; this host does not know it."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
    with stand_in(tls=authority.server) as api, stand_in(tunnel_to=api.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@{HOST}:{proxy.port}")
        monkeypatch.setenv("HTTP_PROXY", f"{HOST}:{proxy.port}")
        assert connect(f"https://{NAME}").verify(TOKEN)
        assert connect(f"http://{NAME}/stage").verify(TOKEN)
        tunnel, forwarded = proxy.requests
        assert (tunnel.method, tunnel.target) == ("CONNECT", f"{NAME}:443")
        assert tunnel.headers["proxy-authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
        assert forwarded.target == f"http://{NAME}/stage/sessions/verify"
        assert [request.target for request in api.requests] == ["/sessions/verify"]


def test_the_proxy_can_be_called_with_tls(
    connect: Callable[..., Sessions],
    authority: Authority,
    name_server: NameServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name_server.answers.set()
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
    with (
        stand_in(tls=authority.server) as api,
        stand_in(tls=authority.server, tunnel_to=api.port) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"https://{NAME}:{proxy.port}")
        sessions = connect(f"https://{NAME}")
        assert sessions.verify(TOKEN)
        assert sessions.verify(TOKEN)
        assert [request.method for request in proxy.requests] == ["CONNECT"]
        assert len(api.requests) == 2


@pytest.mark.parametrize("hosts", [HOST, f"other.test,{HOST}", "*"])
def test_hosts_without_a_proxy_are_called_directly(
    connect: Callable[..., Sessions], api: StandIn, monkeypatch: pytest.MonkeyPatch, hosts: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{HOST}:{free_port()}")
    with pytest.raises(Unavailable):
        connect(api.url, verify_deadline_seconds=DEADLINE).verify(TOKEN)
    monkeypatch.setenv("NO_PROXY", hosts)
    assert connect(api.url).verify(TOKEN)


def failure_of(sessions: Sessions) -> Unavailable:
    with pytest.raises(Unavailable) as failed:
        list(sessions.list("the-user"))
    assert "the-user" not in str(failed.value)
    assert "/sessions" not in str(failed.value)
    return failed.value


def test_a_failure_names_the_host_and_the_reason(
    connect: Callable[..., Sessions], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    port = free_port()
    refused = failure_of(connect(f"http://{HOST}:{port}/stage"))
    assert f"{HOST}:{port}" in str(refused)
    assert "111" in str(refused)
    assert isinstance(refused.__cause__, ConnectionRefusedError)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    nameless = failure_of(connect(f"https://{NAME}/stage"))
    assert f"{NAME}: [Errno {socket.EAI_NONAME}] Name or service not known" in str(nameless)
    assert isinstance(nameless.__cause__, socket.gaierror)


def test_a_bad_certificate_is_named(
    connect: Callable[..., Sessions], authority: Authority, name_server: NameServer
) -> None:
    name_server.answers.set()
    with stand_in(tls=authority.server) as api:
        failure = failure_of(connect(f"https://{NAME}:{api.port}"))
    assert f"{NAME}:{api.port}" in str(failure)
    assert "certificate verify failed" in str(failure)
    assert isinstance(failure.__cause__, ssl.SSLCertVerificationError)


def test_a_missing_file_of_authorities_is_named(
    connect: Callable[..., Sessions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/authorities.pem")
    assert "/nowhere/authorities.pem" in str(failure_of(connect(f"https://{HOST}:1")))


def test_a_proxy_that_refuses_or_is_not_there_is_named(
    connect: Callable[..., Sessions], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stand_in(lambda _: reply(407, {})) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hidden@{HOST}:{proxy.port}")
        refused = str(failure_of(connect(f"https://{NAME}")))
    assert f"{NAME} through the proxy {HOST}:{proxy.port}: 407" in refused
    gone = str(failure_of(connect(f"https://{NAME}")))
    assert f"{NAME} through the proxy {HOST}:{proxy.port}: [Errno 111]" in gone
    assert "hidden" not in refused + gone


def test_no_stack_of_a_library_is_in_a_report(connect: Callable[..., Sessions]) -> None:
    """Its variables contain the request."""
    failure = failure_of(connect(f"http://{HOST}:{free_port()}"))
    assert failure.__cause__
    assert failure.__cause__.__traceback__ is None
    assert failure.__cause__.__context__ is None
