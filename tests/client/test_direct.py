"""A `DirectReader` decides as the authorizer does, or leaves the decision to the API."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from serverless_sessions import DirectReader, IssuedSession, Sessions
from serverless_sessions._core import clock as client_clock
from serverless_sessions._core.token import Token
from tests.support.functions import function, lambda_context, sample
from tests.support.proxy import Exchange, Fault, answering, dripping, http_answer, proxy_to, silent
from tests.support.service import Call, Service

HOUR = 3600


@pytest.fixture
def reader(service: Service) -> DirectReader:
    return DirectReader(service.table, endpoint=service.dynamodb)


@pytest.fixture
def sessions(connect: Callable[..., Sessions], reader: DirectReader) -> Sessions:
    """A client whose reader already has the policy."""
    sessions = connect(reader=reader)
    assert sessions.verify(sessions.create("warm").token)
    return sessions


@cache
def authorizer() -> ModuleType:
    return function("session_authorizer")


def authorized(token: str) -> dict[str, Any] | None:
    """Return the session as the authorizer describes it, or None if it refuses the token."""
    event = sample("authorizer_http_api") | {"identitySource": [f"Bearer {token}"]}
    answer = authorizer().lambda_handler(event, lambda_context())
    return answer["context"] if answer["isAuthorized"] else None


def hash_of(token: str) -> bytes:
    parsed = Token.parse(token)
    assert parsed
    return parsed.hash


OTHER_SECRET = "B" * 27


class Case(NamedTuple):
    """A session whose item is changed by `sets` and `removes`, and the secret of the token.

    If `secret` is None, it is the session's own. `is_valid` is the expected result, and `by_table`
    says whether the reader must reach it without the API.
    """

    sets: dict[str, Any] = {}
    removes: list[str] = []
    secret: str | None = None
    is_valid: bool = False
    by_table: bool = False


CASES = {
    "a live session": Case(is_valid=True, by_table=True),
    "another secret": Case(secret=OTHER_SECRET),
    "expired": Case(sets={"ExpirationTime": -1}),
    "expires now": Case(sets={"ExpirationTime": 0}),
    "revoked": Case(sets={"RevokedAt": -5, "ExpirationTime": HOUR}),
    "revoked, without its hash": Case(sets={"RevokedAt": 0}, removes=["TokenHash"]),
    "without a token": Case(removes=["TokenHash"]),
    "with the hash of another": Case(sets={"TokenHash": b"\0" * 32}),
    "former, in its grace period": Case(
        sets={"TokenHash": b"\0" * 32, "PreviousTokenHash": "own", "PreviousTokenUntil": HOUR},
        is_valid=True,
    ),
    "former, after its grace period": Case(
        sets={"TokenHash": b"\0" * 32, "PreviousTokenHash": "own", "PreviousTokenUntil": -1}
    ),
    "current, after a rotation": Case(
        sets={"PreviousTokenHash": b"\1" * 32, "PreviousTokenUntil": HOUR},
        is_valid=True,
        by_table=True,
    ),
    "former, and the new one not yet used": Case(
        sets={
            "TokenHash": b"\0" * 32,
            "PreviousTokenHash": "own",
            "PreviousTokenUntil": -HOUR,
            "PreviousTokenGrace": "30",
        },
        is_valid=True,
    ),
    "retired a moment ago": Case(
        sets={"TokenHash": b"\0" * 32, "RetiredTokenHash": "own", "RetiredTokenUntil": HOUR}
    ),
    "older, of the family": Case(sets={"TokenHash": b"\0" * 32}),
    "due for renewal": Case(sets={"RenewedAt": -1000, "ExpirationTime": 800}, is_valid=True),
    "at its absolute end": Case(
        sets={"RenewedAt": -1000, "ExpirationTime": 800, "AbsoluteExpirationTime": 800},
        is_valid=True,
        by_table=True,
    ),
    "expiring at a text": Case(sets={"ExpirationTime": "text"}),
    "expiring at a fraction": Case(sets={"ExpirationTime": "fraction"}, is_valid=True),
    "without a version": Case(removes=["Version"]),
    "without a last renewal to a full window": Case(removes=["RenewableUntil"]),
    "expiring in milliseconds": Case(sets={"ExpirationTime": 1000 * 1_800_000_000}),
    "without an end": Case(removes=["ExpirationTime"]),
    "without a beginning": Case(removes=["CreatedAt"]),
}


@pytest.mark.parametrize("case", CASES)
def test_verdict_is_the_same_as_the_authorizers(
    case: str, sessions: Sessions, service: Service
) -> None:
    sets, removes, secret, is_valid, by_table = CASES[case]
    issued = sessions.create("ada", data={"n": 1}, ttl_seconds=1800)
    store(service, issued, sets, removes)
    token = issued.token if secret is None else f"{issued.session.session_id}.{secret}"

    expected = authorized(token)
    service.plan()
    session = sessions.verify(token)

    assert (session is not None) == (expected is not None) == is_valid
    assert (service.calls == []) == by_table
    if session and expected and by_table:
        assert session.session_id == expected["session_id"]
        assert session.user_id == expected["user_id"]
        assert session.expires_at == expected["expires_at"]


def store(
    service: Service, issued: IssuedSession, sets: dict[str, Any], removes: list[str]
) -> None:
    """Change the item without the API. Numbers are in seconds from now."""
    now = int(time.time())

    def attribute(value: Any) -> dict[str, Any]:
        match value:
            case bytes():
                return {"B": value}
            case "own":
                return {"B": hash_of(issued.token)}
            case "30":
                return {"N": value}
            case "text":
                return {"S": str(now + HOUR)}
            case "fraction":
                return {"N": f"{now + HOUR}.5"}
        return {"N": str(now + value)}

    expressions = []
    if sets:
        expressions.append("SET " + ", ".join(f"{name} = :{name}" for name in sets))
    if removes:
        expressions.append("REMOVE " + ", ".join(removes))
    if not expressions:
        return
    values = {f":{name}": attribute(value) for name, value in sets.items()}
    service.sdk.update_item(
        TableName=service.table,
        Key={"SessionId": {"S": issued.session.session_id}},
        UpdateExpression=" ".join(expressions),
        **({"ExpressionAttributeValues": values} if values else {}),
    )


def test_session_is_the_same_as_from_the_api(
    sessions: Sessions, service: Service, connect: Callable[..., Sessions]
) -> None:
    data = {"n": [1, 0.1, -2.5], "t": [True, None, "é", {"a": {}}], "big": 10**30}
    issued = sessions.create("ada", data=data)
    service.plan()
    assert sessions.verify(issued.token) == sessions.verify(issued.token, renew=False)
    assert service.calls == []
    assert sessions.verify(issued.token) == connect().verify(issued.token)


def test_first_use_of_a_rotated_token_goes_to_the_api(sessions: Sessions, service: Service) -> None:
    """The first use is a write, because it starts the grace period of the former token."""
    issued = sessions.create("ada")
    rotated = sessions.rotate(issued.session.session_id, token=issued.token)
    service.plan()
    for renew in (False, True):
        assert sessions.verify(rotated.token, renew=renew) == issued.session
    assert service.calls == ["POST /sessions/verify"]


def test_verify_without_renewal_reads_an_old_session(sessions: Sessions, service: Service) -> None:
    issued = sessions.create("ada")
    store(service, issued, {"RenewedAt": -1000, "ExpirationTime": 800}, [])
    service.plan()
    assert sessions.verify(issued.token, renew=False)
    assert service.calls == []
    renewed = sessions.verify(issued.token)
    assert renewed
    assert renewed.renewed_at > renewed.created_at - 1000
    assert len(service.calls) == 1


def test_every_call_goes_to_the_api_until_the_policy_is_known(
    connect: Callable[..., Sessions], service: Service, reader: DirectReader
) -> None:
    """An answer that refuses a token does not contain the policy."""
    sessions = connect(reader=reader)
    issued = sessions.create("ada")
    service.plan()
    sessions.verify(f"{issued.session.session_id}.{OTHER_SECRET}")
    sessions.verify(issued.token)
    assert len(service.calls) == 2
    sessions.verify(issued.token)
    assert len(service.calls) == 2


def test_one_call_a_minute_fetches_the_policy(
    sessions: Sessions, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new `not_before` reaches the reader within that minute. It uses no older policy."""
    issued = sessions.create("ada", ttl_seconds=80_000)
    clock = Clock()
    monkeypatch.setattr(client_clock, "time", clock.time)

    clock.ahead = 56
    monkeypatch.setattr(service.handler, "policy", {})
    service.plan()
    for _ in range(3):
        assert sessions.verify(issued.token)
    assert len(service.calls) == 1  # the other calls still use the policy

    clock.ahead = 61
    service.plan()
    for _ in range(2):
        assert sessions.verify(issued.token)
    assert len(service.calls) == 2  # no answer contained a policy


class Clock:
    """The module `time` with a clock that is some seconds ahead."""

    def __init__(self, ahead: int = 0) -> None:
        self.ahead = ahead

    def time(self) -> float:
        return time.time() + self.ahead


@pytest.mark.parametrize("fault", [silent, answering(400), answering(200, b"{}", 1), dripping])
def test_api_verifies_if_the_table_does_not_answer(
    connect: Callable[..., Sessions], service: Service, fault: Fault
) -> None:
    with proxy_to() as proxy:
        proxy.plan(always=fault)
        reader = DirectReader(service.table, endpoint=proxy.endpoint)
        reader.learn("not_before=0, renewal_fraction=0.1", time.time())
        verify_through(connect(reader=reader, verify_deadline_seconds=10.0), service)


def verify_through(sessions: Sessions, service: Service) -> None:
    issued = sessions.create("ada")
    assert sessions.verify(issued.token) == issued.session
    assert service.calls[-1] == "POST /sessions/verify"


def test_session_created_before_not_before_goes_to_the_api(
    connect: Callable[..., Sessions], service: Service, reader: DirectReader
) -> None:
    sessions = connect(reader=reader)
    issued = sessions.create("ada")
    reader.learn(f"not_before={int(time.time()) + 5}, renewal_fraction=0.1", time.time())
    service.plan()
    assert sessions.verify(issued.token)  # the service itself has no `not_before`
    assert service.calls == ["POST /sessions/verify"]


def test_a_wrong_clock_ends_and_prolongs_no_session(
    connect: Callable[..., Sessions],
    service: Service,
    reader: DirectReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time of DynamoDB's answer is used. Signatures may be wrong by up to 5 minutes."""
    clock = Clock()
    monkeypatch.setattr(client_clock, "time", clock.time)
    sessions = connect(reader=reader)
    for clock.ahead in (-280, 280):
        assert sessions.verify(sessions.create("warm").token)
        for seconds_left in (-100, 100):
            issued = sessions.create("ada", ttl_seconds=1800)
            times = {"ExpirationTime": seconds_left, "RenewedAt": seconds_left - 1800}
            store(service, issued, times, [])
            service.plan()
            session = sessions.verify(issued.token, renew=False)
            assert (session is not None) == (service.calls == []) == (seconds_left > 0)


def test_a_wrong_clock_neither_hastens_nor_delays_a_renewal(
    sessions: Sessions,
    service: Service,
    reader: DirectReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A renewal is due after a tenth of the idle timeout, here 180 s."""
    for ahead, age, due in ((280, 60, False), (-280, 240, True)):
        clock = Clock(ahead)
        monkeypatch.setattr(client_clock, "time", clock.time)
        reader.learn("not_before=0, renewal_fraction=0.1", clock.time())
        assert is_due(sessions, service, age) == due


def is_due(sessions: Sessions, service: Service, age: int) -> bool:
    """Return whether `verify` calls the API for a session that was renewed `age` seconds ago."""
    issued = sessions.create("ada", ttl_seconds=1800)
    store(service, issued, {"ExpirationTime": 1800 - age, "RenewedAt": -age}, [])
    service.plan()
    assert sessions.verify(issued.token)
    return service.calls != []


def test_api_decides_if_the_answer_has_no_valid_time(
    connect: Callable[..., Sessions], service: Service
) -> None:
    """It also decides if the session has expired at the time of the answer."""
    now = formatdate(usegmt=True)
    dates = {
        now: True,
        formatdate(time.time() + 2 * HOUR, usegmt=True): False,
        now.removesuffix(" GMT"): False,
        f"{now}\r\nDate: {now}": False,
        f"{int(time.time())}": False,
        "Thu, 32 Nov 2026 25:61:61 GMT": False,
        "Thu, 26 Nov 20261126 16:56:51 GMT": False,
        "": False,
    }
    headers = {f"Date: {date}\r\n": by_table for date, by_table in dates.items()} | {"": False}

    def answer(exchange: Exchange) -> None:
        http = re.sub(rb"Date: .*?\r\n", b"", http_answer(*exchange.forward()))
        line, _, rest = http.partition(b"\r\n")
        exchange.send(line + b"\r\n" + header.encode() + rest)

    with proxy_to(service.dynamodb) as proxy:
        proxy.plan(always=answer)
        reader = DirectReader(service.table, endpoint=proxy.endpoint)
        reader.learn("not_before=0, renewal_fraction=0.1", time.time())
        sessions = connect(reader=reader)
        issued = sessions.create("ada")
        for header, by_table in headers.items():
            service.plan()
            assert sessions.verify(issued.token) == issued.session
            assert (service.calls == []) == by_table, header


def test_api_decides_if_the_item_is_damaged(
    connect: Callable[..., Sessions], service: Service
) -> None:
    """DynamoDB sends a checksum of the body that it sent."""

    def damage(exchange: Exchange) -> None:
        line, _, rest = http_answer(*exchange.forward()).partition(b"\r\n")
        assert b'"ada"' in rest
        date = f"Date: {formatdate(usegmt=True)}\r\n".encode()
        exchange.send(line + b"\r\n" + date + rest.replace(b'"ada"', b'"eve"'))

    with proxy_to(service.dynamodb) as proxy:
        proxy.plan(always=damage)
        reader = DirectReader(service.table, endpoint=proxy.endpoint)
        reader.learn("not_before=0, renewal_fraction=0.1", time.time())
        verify_through(connect(reader=reader), service)


def test_age_of_the_policy_begins_with_the_call(
    connect: Callable[..., Sessions],
    service: Service,
    reader: DirectReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer may be slow, and the service may have a new policy by then."""
    clock = Clock()
    monkeypatch.setattr(client_clock, "time", clock.time)
    sessions = connect(reader=reader)
    issued = sessions.create("ada", ttl_seconds=80_000)

    def answer_late(call: Call) -> None:
        reply = call.forward()
        clock.ahead = 30
        call.send(reply)

    service.plan(answer_late)
    assert sessions.verify(issued.token)

    clock.ahead = 61
    service.plan()
    assert sessions.verify(issued.token)
    assert service.calls == ["POST /sessions/verify"]


def test_fraction_can_have_any_number_format(
    sessions: Sessions, service: Service, reader: DirectReader
) -> None:
    fractions = {
        "0": 0, "0.0": 0, "1e-05": 0, "1E-5": 0, "0.00001": 0, "0." + "0" * 400 + "1": 0,
        "0.5": 900, "5e-1": 900, "1": 1800, "1.0": 1800,
    }  # fmt: skip
    for fraction, due_at in fractions.items():
        for age in (due_at + 20, due_at - 20):
            if 0 <= age < 1800:
                reader.learn(f"not_before=0, renewal_fraction={fraction}", time.time())
                assert is_due(sessions, service, age) == (age > due_at), fraction


UNREADABLE = [
    "", "garbage", "not_before=0", "renewal_fraction=0.1, not_before=0",
    "not_before=, renewal_fraction=0.1", "not_before=-1, renewal_fraction=0.1",
    "not_before=1.5, renewal_fraction=0.1", "not_before=0, renewal_fraction=",
    "not_before=0, renewal_fraction=.", "not_before=0, renewal_fraction=1.2.3",
    "not_before=0, renewal_fraction=1.1", "not_before=0, renewal_fraction=1e400",
    "not_before=0, renewal_fraction=-0.1", "not_before=0, renewal_fraction=nan",
    "not_before=0, renewal_fraction=inf", "not_before=0, renewal_fraction=1e",
    "not_before=0, renewal_fraction=\u0661", "not_before=\u0661, renewal_fraction=0.1",
    f"not_before={'9' * 5000}, renewal_fraction=0.1", "not_before=0, renewal_fraction=0.1\n",
]  # fmt: skip


def test_unreadable_policy_is_ignored(
    sessions: Sessions,
    service: Service,
    reader: DirectReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The former policy is used until it is too old. Then all calls go to the API."""
    issued = sessions.create("ada", ttl_seconds=80_000)
    clock = Clock()
    monkeypatch.setattr(client_clock, "time", clock.time)
    for header in UNREADABLE:
        clock.ahead = 0
        reader.learn("not_before=0, renewal_fraction=0.1", clock.time())
        clock.ahead = 50
        reader.learn(header, clock.time())
        service.plan()
        assert sessions.verify(issued.token)
        assert service.calls == [], header

        clock.ahead = 61
        if header.isascii() and header.isprintable():
            policy = {"Sessions-Policy": header}
            monkeypatch.setattr(service.handler, "policy", policy)
        for _ in range(2):
            assert sessions.verify(issued.token)
        assert service.calls == ["POST /sessions/verify"] * 2, header
