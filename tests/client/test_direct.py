"""A `DirectReader` gives the verdict that the authorizer gives, and leaves the rest to the API."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import pytest

from serverless_sessions import DirectReader, IssuedSession, Sessions
from serverless_sessions import direct as direct_module
from serverless_sessions.secret import Token
from tests.client.service import Service
from tests.functional.conftest import function, lambda_context, sample
from tests.proxy import Fault, answering, dripping, proxy_to, silent

HOUR = 3600


@pytest.fixture
def reader(service: Service) -> DirectReader:
    return DirectReader(service.table, endpoint=service.dynamodb)


@pytest.fixture
def sessions(connect: Callable[..., Sessions], reader: DirectReader) -> Sessions:
    """A client whose reader knows the rules already."""
    sessions = connect(reader=reader)
    assert sessions.verify(sessions.create("warm").token)
    return sessions


@cache
def authorizer() -> ModuleType:
    return function("session_authorizer")


def authorized(token: str) -> dict[str, Any] | None:
    """What the authorizer tells of the session, None if it refuses."""
    event = sample("authorizer_http_api") | {"identitySource": [f"Bearer {token}"]}
    answer = authorizer().lambda_handler(event, lambda_context())
    return answer["context"] if answer["isAuthorized"] else None


def secret_of(token: str) -> bytes:
    parsed = Token.parse(token)
    assert parsed
    return parsed.hash


OTHER = "B" * 27

# What becomes of the item (SET and REMOVE), the token that comes (None: the session's own), whether
# it is honoured, and whether the table alone tells.
CASES: dict[str, tuple[dict[str, Any], list[str], str | None, bool, bool]] = {
    "a live session": ({}, [], None, True, True),
    "another secret": ({}, [], OTHER, False, False),
    "expired": ({"ExpirationTime": -1}, [], None, False, False),
    "expires now": ({"ExpirationTime": 0}, [], None, False, False),
    "revoked": ({"RevokedAt": -5, "ExpirationTime": HOUR}, [], None, False, False),
    "revoked, and its hash gone": ({"RevokedAt": 0}, ["TokenHash"], None, False, False),
    "without a token": ({}, ["TokenHash"], None, False, False),
    "with the hash of another": ({"TokenHash": b"\0" * 32}, [], None, False, False),
    "former, in its grace period": (
        {"TokenHash": b"\0" * 32, "PreviousTokenHash": "own", "PreviousTokenUntil": HOUR},
        [], None, True, False,
    ),
    "former, after its grace period": (
        {"TokenHash": b"\0" * 32, "PreviousTokenHash": "own", "PreviousTokenUntil": -1},
        [], None, False, False,
    ),
    "current, after a rotation": (
        {"PreviousTokenHash": b"\1" * 32, "PreviousTokenUntil": HOUR}, [], None, True, True,
    ),
    "former, and the new one not yet seen": (
        {
            "TokenHash": b"\0" * 32, "PreviousTokenHash": "own", "PreviousTokenUntil": -HOUR,
            "PreviousTokenGrace": "30",
        },
        [], None, True, False,
    ),
    "retired a moment ago": (
        {"TokenHash": b"\0" * 32, "RetiredTokenHash": "own", "RetiredTokenUntil": HOUR},
        [], None, False, False,
    ),
    "older, of the family": ({"TokenHash": b"\0" * 32}, [], None, False, False),
    "due for renewal": ({"RenewedAt": -1000, "ExpirationTime": 800}, [], None, True, False),
    "at its absolute end": (
        {"RenewedAt": -1000, "ExpirationTime": 800, "AbsoluteExpirationTime": 800},
        [], None, True, True,
    ),
    "expiring at a text": ({"ExpirationTime": "text"}, [], None, False, False),
    "expiring at a fraction": ({"ExpirationTime": "fraction"}, [], None, False, False),
    "without an end": ({}, ["ExpirationTime"], None, False, False),
    "without a beginning": ({}, ["CreatedAt"], None, False, False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_is_the_authorizers(case: str, sessions: Sessions, service: Service) -> None:
    sets, removes, secret, honoured, by_table = CASES[case]
    issued = sessions.create("ada", data={"n": 1}, ttl_seconds=1800)
    store(service, issued, sets, removes)
    token = issued.token if secret is None else f"{issued.session.session_id}.{secret}"

    told = authorized(token)
    service.plan()
    session = sessions.verify(token)

    assert (session is not None) == (told is not None) == honoured
    assert (service.calls == []) == by_table
    if session and told and by_table:
        assert session.session_id == told["session_id"]
        assert session.user_id == told["user_id"]
        assert session.expires_at == told["expires_at"]


def store(
    service: Service, issued: IssuedSession, sets: dict[str, Any], removes: list[str]
) -> None:
    """Change the item behind the API's back; numbers are seconds from now."""
    now = int(time.time())

    def attribute(value: Any) -> dict[str, Any]:
        match value:
            case bytes():
                return {"B": value}
            case "own":
                return {"B": secret_of(issued.token)}
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


def test_it_answers_what_the_api_answers(
    sessions: Sessions, service: Service, connect: Callable[..., Sessions]
) -> None:
    data = {"n": [1, 0.1, -2.5], "t": [True, None, "é", {"a": {}}], "big": 10**30}
    issued = sessions.create("ada", data=data)
    service.plan()
    assert sessions.verify(issued.token) == sessions.verify(issued.token, renew=False)
    assert service.calls == []
    assert sessions.verify(issued.token) == connect().verify(issued.token)


def test_first_use_of_a_rotated_token_goes_to_the_api(sessions: Sessions, service: Service) -> None:
    """It is a write: from then on the grace period of the former token runs."""
    issued = sessions.create("ada")
    rotated = sessions.rotate(issued.session.session_id, token=issued.token)
    service.plan()
    for renew in (False, True):
        assert sessions.verify(rotated.token, renew=renew) == issued.session
    assert service.calls == ["POST /sessions/verify"]


def test_without_renewal_nothing_is_due(sessions: Sessions, service: Service) -> None:
    issued = sessions.create("ada")
    store(service, issued, {"RenewedAt": -1000, "ExpirationTime": 800}, [])
    service.plan()
    assert sessions.verify(issued.token, renew=False)
    assert service.calls == []
    renewed = sessions.verify(issued.token)
    assert renewed
    assert renewed.renewed_at > renewed.created_at - 1000
    assert len(service.calls) == 1


def test_until_the_rules_are_known_everything_goes_to_the_api(
    connect: Callable[..., Sessions], service: Service, reader: DirectReader
) -> None:
    """Answers that refuse a token tell no rules."""
    sessions = connect(reader=reader)
    issued = sessions.create("ada")
    service.plan()
    sessions.verify(f"{issued.session.session_id}.{OTHER}")
    sessions.verify(issued.token)
    assert len(service.calls) == 2
    sessions.verify(issued.token)
    assert len(service.calls) == 2


def test_one_call_a_minute_asks_for_the_rules(
    sessions: Sessions, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill switch reaches a reader within that minute; none goes on by older rules."""
    issued = sessions.create("ada", ttl_seconds=80_000)
    clock = Clock()
    monkeypatch.setattr(direct_module, "time", clock)

    clock.ahead = 56
    monkeypatch.setattr(service.handler, "policy", {})
    service.plan()
    for _ in range(3):
        assert sessions.verify(issued.token)
    assert len(service.calls) == 1  # one asks; the others need not wait

    clock.ahead = 61
    service.plan()
    for _ in range(2):
        assert sessions.verify(issued.token)
    assert len(service.calls) == 2  # no answer has told the rules


class Clock:
    """`time`, some seconds ahead."""

    def __init__(self) -> None:
        self.ahead = 0

    def time(self) -> float:
        return time.time() + self.ahead


@pytest.mark.parametrize("fault", [silent, answering(400), answering(200, b"{}", 1), dripping])
def test_a_table_that_does_not_answer_is_no_outage(
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


def test_a_session_from_before_the_switch_goes_to_the_api(
    connect: Callable[..., Sessions], service: Service, reader: DirectReader
) -> None:
    sessions = connect(reader=reader)
    issued = sessions.create("ada")
    reader.learn(f"not_before={int(time.time()) + 5}, renewal_fraction=0.1", time.time())
    service.plan()
    assert sessions.verify(issued.token)  # this service's switch is off
    assert service.calls == ["POST /sessions/verify"]
