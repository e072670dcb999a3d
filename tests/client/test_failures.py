"""No call is lost, repeated or late if the service hangs, throttles, restarts or loses answers."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.stack import HOST
from serverless_sessions import (
    AsyncSessions,
    InternalError,
    IssuedSession,
    NoCredentials,
    OutcomeUnknown,
    Sessions,
    Unavailable,
    VersionMismatch,
)
from serverless_sessions._core.calls import Answer, find_failure
from serverless_sessions._core.network import domain_of
from serverless_sessions._core.signing import find_region
from serverless_sessions._core.transport import AsyncTransport
from tests.support import service as faults
from tests.support.service import Call, Fault, Service

# Far less than the time of a server that hangs, and far more than a busy machine needs.
SOON = 15.0


def async_client(service: Service) -> AsyncSessions:
    return AsyncSessions(service.url, region=service.region, credentials=service.credentials)


def all_calls(sessions: Sessions, issued: IssuedSession) -> dict[str, Callable[[], object]]:
    session_id = issued.session.session_id
    return {
        "create": lambda: sessions.create("ada"),
        "verify": lambda: sessions.verify(issued.token),
        "get": lambda: sessions.get(session_id),
        "change": lambda: sessions.change(session_id, {"a": 1}),
        "change a version": lambda: sessions.change(session_id, {"a": 1}, version=1),
        "replace": lambda: sessions.replace(session_id, {}),
        "update": lambda: sessions.update(session_id, lambda data: {"a": 2}),
        "renew": lambda: sessions.renew(session_id),
        "rotate": lambda: sessions.rotate(session_id),
        "authenticate": lambda: sessions.authenticate(session_id, methods=["otp"]),
        "revoke": lambda: sessions.revoke(session_id),
        "revoke_all": lambda: sessions.revoke_all("ada"),
        "list": lambda: list(sessions.list("ada")),
        "events": lambda: list(sessions.events(user_id="ada")),
        "pending": lambda: sessions.pending(session_id),
    }


@pytest.mark.parametrize(
    "fault", [faults.frozen, faults.drip, faults.throttled, faults.unavailable, faults.reset]
)
def test_every_call_ends_within_its_deadline(
    connect: Callable[..., Sessions], service: Service, fault: Fault
) -> None:
    """`verify` raises, too, because an outage must not look like a signed-out user."""
    issued = connect().create("ada")
    sessions = connect(
        deadline_seconds=0.8, verify_deadline_seconds=0.8, sign_out_deadline_seconds=0.8
    )
    service.plan(always=fault)

    def fails(call: Callable[[], object]) -> float:
        started = time.monotonic()
        with pytest.raises(Unavailable):
            call()
        return time.monotonic() - started

    calls = all_calls(sessions, issued)
    with ThreadPoolExecutor(len(calls)) as threads:
        took = dict(zip(calls, threads.map(fails, calls.values()), strict=True))
    assert max(took.values()) < SOON, took


AFTER_EXECUTION = [faults.lose_answer, faults.answer_503, faults.cut]
BEFORE_EXECUTION = [faults.throttled, faults.unavailable, faults.reset]


@pytest.mark.parametrize("fault", [*AFTER_EXECUTION, *BEFORE_EXECUTION])
def test_a_creation_is_repeated_and_makes_one_session(
    sessions: Sessions, service: Service, fault: Fault
) -> None:
    service.plan(fault, fault)
    issued = sessions.create("ada", data={"a": 1})
    assert len(service.items()) == 1
    assert len(service.calls) == 3
    assert sessions.verify(issued.token) == issued.session


@pytest.mark.parametrize("fault", [*AFTER_EXECUTION, *BEFORE_EXECUTION])
def test_a_rotation_is_repeated_and_makes_one_token(
    sessions: Sessions, service: Service, fault: Fault
) -> None:
    issued = sessions.create("ada")
    service.plan(fault, fault)
    rotated = sessions.rotate(issued.session.session_id)
    assert sessions.verify(rotated.token) == rotated.session
    assert sessions.verify(issued.token) == rotated.session  # in its grace period


@pytest.mark.parametrize("fault", [*AFTER_EXECUTION, *BEFORE_EXECUTION])
def test_reads_and_ends_are_repeated(sessions: Sessions, service: Service, fault: Fault) -> None:
    issued = sessions.create("ada")
    service.plan(fault)
    assert sessions.verify(issued.token) == issued.session
    service.plan(fault)
    assert list(sessions.list("ada"))
    service.plan(fault)
    sessions.revoke(issued.session.session_id)
    assert sessions.verify(issued.token) is None


def test_a_restart_is_not_noticed(sessions: Sessions, service: Service) -> None:
    issued = sessions.create("ada", data={"n": 0})
    for n in range(3):
        service.restart()
        assert sessions.verify(issued.token) is not None
        service.restart()
        assert sessions.change(issued.session.session_id, {"n": n}, version=n + 1).data == {"n": n}


def test_call_succeeds_after_a_short_outage(
    connect: Callable[..., Sessions], service: Service
) -> None:
    sessions = connect(verify_deadline_seconds=SOON)
    issued = sessions.create("ada")
    service.stop()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(sessions.verify, issued.token)
        time.sleep(0.1)
        service.start()
        assert answer.result() == issued.session


def test_retry_after_is_honoured(connect: Callable[..., Sessions], service: Service) -> None:
    sessions = connect(deadline_seconds=SOON)
    service.plan(faults.gateway(503, "later", **{"Retry-After": "1"}))
    started = time.monotonic()
    issued = sessions.create("ada")
    assert time.monotonic() - started >= 1

    service.plan(faults.gateway(503, "later", **{"Retry-After": "3600"}))
    started = time.monotonic()
    with pytest.raises(Unavailable):
        sessions.get(issued.session.session_id)
    assert time.monotonic() - started < SOON
    assert len(service.calls) == 1


@pytest.mark.parametrize("text", ["", "Fri, 27 Nov 2026 10:00:00 GMT", "-1", "1e9", "inf", "²"])
def test_retry_after_that_is_not_in_seconds_is_ignored(text: str) -> None:
    """A date is allowed by HTTP, but its meaning would depend on this host's clock."""
    failure = find_failure(Answer(503, {"retry-after": text}, b"{}"))
    assert failure
    assert failure.retry_after == 0


def test_internal_error_has_its_request_id(
    sessions: Sessions, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    session_id = sessions.create("ada").session.session_id
    monkeypatch.setattr(service.handler.sessions, "get", fail)
    with pytest.raises(InternalError, match=r"\(request [0-9a-f-]{36}\)"):
        sessions.get(session_id)


class TestChangeWithoutVersion:
    """The change is sent once. A retry could overwrite the change of another writer."""

    @pytest.mark.parametrize("fault", AFTER_EXECUTION)
    def test_visible_effect_is_a_success(
        self, sessions: Sessions, service: Service, fault: Fault
    ) -> None:
        session_id = sessions.create("ada", data={"a": 0, "b": 0}).session.session_id
        service.plan(fault)
        session = sessions.change(session_id, {"a": 1, "b": None})
        assert (session.data, session.version) == ({"a": 1}, 2)
        assert sent(service) == 1

    @pytest.mark.parametrize("method", ["change", "replace"])
    def test_missing_effect_is_an_unknown_outcome(
        self, sessions: Sessions, service: Service, method: str
    ) -> None:
        session_id = sessions.create("ada", data={"a": True}).session.session_id
        service.plan(faults.reset)
        with pytest.raises(OutcomeUnknown):
            getattr(sessions, method)(session_id, {"a": 1})
        assert sent(service) == 1

    def test_rejected_change_is_sent_again(self, sessions: Sessions, service: Service) -> None:
        session_id = sessions.create("ada").session.session_id
        service.plan(faults.throttled)
        assert sessions.replace(session_id, {"a": 1}).data == {"a": 1}

    def test_change_of_another_writer_is_not_overwritten(
        self, sessions: Sessions, service: Service, connect: Callable[..., Sessions]
    ) -> None:
        session_id = sessions.create("ada").session.session_id
        other = connect()
        service.plan(losing_answer(lambda: other.change(session_id, {"a": "other"})))
        with pytest.raises(OutcomeUnknown):
            sessions.change(session_id, {"a": 1})
        assert sessions.get(session_id).data == {"a": "other"}


class TestChangeOfAVersion:
    """The change is repeated with the same version, so it is made at most once."""

    @pytest.mark.parametrize("fault", [*AFTER_EXECUTION, *BEFORE_EXECUTION])
    def test_it_is_made_once(self, sessions: Sessions, service: Service, fault: Fault) -> None:
        session_id = sessions.create("ada").session.session_id
        service.plan(fault, fault)
        assert sessions.change(session_id, {"a": 1.0}, version=1).version == 2
        service.plan(fault, fault)
        assert sessions.replace(session_id, {"b": 2}, version=2).version == 3
        assert sessions.get(session_id).data == {"b": 2}

    def test_change_of_another_writer_makes_the_outcome_unknown(
        self, sessions: Sessions, service: Service, connect: Callable[..., Sessions]
    ) -> None:
        session_id = sessions.create("ada").session.session_id
        other = connect()
        service.plan(losing_answer(lambda: other.change(session_id, {"b": 1})))
        with pytest.raises(OutcomeUnknown):
            sessions.change(session_id, {"a": 1}, version=1)
        assert sessions.get(session_id).data == {"a": 1, "b": 1}

    def test_certain_conflict_is_a_version_mismatch(
        self, sessions: Sessions, service: Service
    ) -> None:
        session_id = sessions.create("ada").session.session_id
        service.plan(faults.throttled)
        with pytest.raises(VersionMismatch):
            sessions.change(session_id, {"a": 1}, version=7)


@pytest.mark.parametrize("fault", AFTER_EXECUTION)
def test_update_whose_answer_is_lost_counts_once(
    sessions: Sessions, service: Service, fault: Fault
) -> None:
    session_id = sessions.create("ada", data={"n": 0}).session.session_id
    inputs = []

    def count(data: dict[str, Any]) -> dict[str, Any]:
        inputs.append(data)
        return {"n": data["n"] + 1}

    service.plan(pass_on, fault)
    assert sessions.update(session_id, count).data == {"n": 1}
    assert len(inputs) == 1


def test_update_with_an_unknown_outcome_is_not_computed_again(
    sessions: Sessions, service: Service, connect: Callable[..., Sessions]
) -> None:
    session_id = sessions.create("ada", data={"n": 0}).session.session_id
    other = connect()
    inputs = []

    def count(data: dict[str, Any]) -> dict[str, Any]:
        inputs.append(data)
        return {"n": data["n"] + 1}

    service.plan(pass_on, losing_answer(lambda: other.change(session_id, {"n": 10})))
    with pytest.raises(OutcomeUnknown):
        sessions.update(session_id, count)
    assert len(inputs) == 1


def test_lasting_conflict_raises_an_error(
    sessions: Sessions, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serverless_sessions._core.operations._MAX_CONFLICTS", 3)
    created = sessions.create("ada", data={"n": 0}).session
    with Sessions(service.url, region=service.region) as other:

        def change_with_conflict(data: dict[str, Any]) -> dict[str, Any]:
            other.change(created.session_id, {"n": data["n"] + 1})
            return {"n": -1}

        with pytest.raises(VersionMismatch):
            sessions.update(created.session_id, change_with_conflict)
    assert sessions.get(created.session_id).data == {"n": 3}


def test_every_event_loop_has_its_own_connections(
    service: Service, loop: asyncio.AbstractEventLoop
) -> None:
    sessions = AsyncSessions(service.url, region=service.region)

    async def use() -> None:
        issued = await sessions.create("ada")
        assert await sessions.verify(issued.token) == issued.session

    async def use_and_close() -> None:
        async with sessions:
            await use()

    asyncio.run_coroutine_threadsafe(use(), loop).result()
    asyncio.run(use_and_close())
    asyncio.run(use_and_close())
    asyncio.run_coroutine_threadsafe(use_and_close(), loop).result()
    assert service.connections == 3


def test_unreachable_address_leaves_time_for_the_next(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's name has two addresses, and the backlog of the first one is full."""
    port, look_up = urlsplit(service.url).port, socket.getaddrinfo

    def find_addresses(host: str, *args: Any, **options: Any) -> list[Any]:
        hosts = ["127.0.0.2", HOST] if host == "sessions.test" else [host]
        return [address for name in hosts for address in look_up(name, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", find_addresses)
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.2", port), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with Sessions(
            f"http://sessions.test:{port}", region=service.region, deadline_seconds=6.0
        ) as sessions:
            sessions.create("ada")
    assert service.calls == ["POST /sessions"]


@pytest.fixture
def unclosed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Returns the warnings of sockets that have been collected without having been closed."""
    warnings: list[str] = []

    def find() -> list[str]:
        gc.collect()
        return warnings

    gc.collect()
    monkeypatch.setattr(sys, "unraisablehook", lambda error: warnings.append(str(error.exc_value)))
    return find


def test_connections_are_closed_with_their_event_loop(
    service: Service, unclosed: Callable[[], list[str]]
) -> None:
    """An app may run every call on a new event loop, as async views of Django do under WSGI."""
    sessions = async_client(service)
    for _ in range(20):
        asyncio.run(sessions.create("ada"))
    assert service.connections == 20
    del sessions
    assert unclosed() == []


def test_connections_are_closed_with_a_client_that_is_dropped(
    service: Service, unclosed: Callable[[], list[str]]
) -> None:
    async def use() -> None:
        await async_client(service).create("ada")
        await asyncio.sleep(0)

    asyncio.run(use())
    assert unclosed() == []


# httpcore2 also starts a generator for each answer.
in_a_loop_that_shuts_down = pytest.mark.filterwarnings(
    "ignore:asynchronous generator .* was scheduled after:ResourceWarning"
)


@in_a_loop_that_shuts_down
def test_call_during_the_shutdown_of_its_event_loop(
    service: Service, unclosed: Callable[[], list[str]]
) -> None:
    """The shutdown closes the connections first. The client closes those that come after it."""

    async def use_at_shutdown(sessions: AsyncSessions) -> AsyncIterator[None]:
        await sessions.create("ada")
        try:
            yield
        finally:
            await asyncio.sleep(0.1)
            await sessions.create("ada")
            await sessions.aclose()

    async def start() -> AsyncIterator[None]:
        generator = use_at_shutdown(async_client(service))
        await anext(generator)
        return generator

    generator = asyncio.run(start())
    assert service.connections == 2
    del generator
    assert unclosed() == []


@in_a_loop_that_shuts_down
def test_fork_does_not_close_the_connections_of_an_event_loop(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop of the parent also ends in the child, which shares the connections with it."""

    async def use() -> None:
        sessions = async_client(service)
        await sessions.create("ada")
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            await asyncio.get_running_loop().shutdown_asyncgens()
        await sessions.create("ada")
        assert service.connections == 1
        await sessions.aclose()

    asyncio.run(use())


def test_a_closed_event_loop_is_forgotten() -> None:
    transport = AsyncTransport()

    async def use() -> None:
        await transport._add(asyncio.get_running_loop())

    for _ in range(3):
        asyncio.run(use())
    assert len(transport._loops.get()) == 1


def test_a_forked_process_has_its_own_connections(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with one connection would read each other's answers."""
    with Sessions(service.url, region=service.region) as sessions:
        sessions.create("ada")
        parents = sessions._transport._routes.get()
        monkeypatch.setattr(os, "getpid", lambda: -1)
        sessions.create("ada")
        assert service.connections == 2
        for pool in parents.pools:
            pool.close()


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")


def test_missing_credentials_raise_an_error(
    connect: Callable[..., Sessions], service: Service, no_credentials: None
) -> None:
    for options in ({"credentials": None}, {"credentials": None, "profile": "absent"}):
        with pytest.raises(NoCredentials):
            connect(**options).create("ada")
    assert service.calls == []


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("us-east-1", "amazonaws.com"),
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
        ("us-iso-east-1", "c2s.ic.gov"),
        ("us-isob-east-1", "sc2s.sgov.gov"),
        ("xx-new-9", "amazonaws.com"),
    ],
)
def test_the_domain_of_a_partition_is_that_of_botocore(region: str, domain: str) -> None:
    assert domain_of(region) == domain


def test_the_region_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_region("https://abc.execute-api.eu-west-1.amazonaws.com", None) == "eu-west-1"
    assert find_region("https://abc.execute-api.cn-north-1.amazonaws.com.cn/", None) == "cn-north-1"
    assert (
        find_region("https://abc.execute-api.eusc-de-east-1.amazonaws.eu", None) == "eusc-de-east-1"
    )
    assert find_region("https://sessions.example.com", None) == "us-east-1"  # AWS_DEFAULT_REGION
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert find_region("https://sessions.example.com", None) == "eu-north-1"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ValueError, match="region"):
        find_region("https://sessions.example.com", None)


def pass_on(call: Call) -> None:
    call.send(call.forward())


def losing_answer(then: Callable[[], object]) -> Fault:
    """Lose the answer, and call `then` before the next attempt."""

    def lose(call: Call) -> None:
        call.forward()
        then()
        faults.reset(call)

    return lose


def sent(service: Service) -> int:
    """Return the number of changes that arrived."""
    return sum(call.startswith(("PATCH", "PUT")) for call in service.calls)
