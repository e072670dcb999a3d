"""Tokens: returned once, stored as hashes, verified in one read, and refused with the same
answer.
"""

from __future__ import annotations

import base64
import re
import statistics
import time
from collections.abc import Callable
from hashlib import sha256
from io import StringIO
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest

from audit.classify import classify
from dynamodb.client import Client, Transport
from dynamodb.connection import Answer as HttpAnswer
from sessions.token import Token
from tests.support.api import BY_OTHER, NOW, THROUGH_BOTH, Answer, Api
from tests.support.backend import ON_DYNAMODB_LOCAL
from tests.support.functions import function, lambda_context
from tests.support.gateway import api_event
from tests.support.seam import seam
from tests.support.tokens import (
    ABSENT,
    SECRET,
    family_of,
    id_of,
    rotate,
    successor,
    verify,
)


def test_token_is_the_session_id_and_a_secret_of_162_bits(api: Api) -> None:
    """The secret has 27 characters of six bits, so that the token fits into 40 characters."""
    answer = api("POST", "/sessions", {"user_id": "ada"})

    token = answer.json["token"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{12}\.[A-Za-z0-9_-]{27}", token)
    assert id_of(token) == answer.json["session_id"]
    assert len(token) == 40


def test_no_two_secrets_are_alike(api: Api) -> None:
    tokens = [api.log_in() for _ in range(20)]

    assert len({token.partition(".")[2] for token in tokens}) == 20
    assert len({family_of(token) for token in tokens}) == 20


def test_every_character_of_a_secret_is_random() -> None:
    """None of the 27 characters has fewer bits than the others."""
    secrets = [Token.issue(ABSENT).secret for _ in range(1000)]

    assert all(len({secret[i] for secret in secrets}) == 64 for i in range(27))


def test_only_hashes_of_the_secret_and_of_its_family_are_stored(api: Api, stored: Any) -> None:
    session_id, _, secret = api.log_in().partition(".")

    item = stored(session_id)

    assert item["TokenHash"] == {"B": sha256(secret.encode()).digest()}
    assert item["FamilyHash"] == {"B": sha256(secret[:12].encode()).digest()}
    assert secret not in repr(item)
    assert secret[:12] not in repr(item)


@THROUGH_BOTH
def test_token_appears_in_no_other_answer(api: Api) -> None:
    token = api.log_in()
    path = f"/sessions/{token.partition('.')[0]}"

    answers = [
        api("GET", path),
        api("PATCH", path, {"data": {"a": 1}}),
        api("PUT", path, {"data": {}}),
        api("POST", f"{path}/renew"),
        api("GET", "/sessions", query={"user_id": "ada"}),
        verify(api, token),
    ]

    for answer in answers:
        assert answer.status == 200
        assert "token" not in answer.body.lower()


@THROUGH_BOTH
def test_good_token_returns_its_session(api: Api) -> None:
    token = api.log_in(data={"a": 1})

    answer = verify(api, token)

    assert answer.status == 200
    assert answer.json == api("GET", f"/sessions/{token.partition('.')[0]}").json


def bad_tokens(api: Api) -> dict[str, str]:
    """Return invalid tokens by the reason why they are invalid."""
    good, other, revoked = (api.log_in() for _ in range(3))
    expired = api.log_in(ttl_seconds=1)
    cut_off, forgotten, retired, reused, kept = (api.log_in() for _ in range(5))
    rotate(api, id_of(cut_off), grace_seconds=0)
    for _ in range(3):
        rotate(api, id_of(forgotten), grace_seconds=0)
    successor(api, successor(api, retired))
    second = successor(api, successor(api, reused, grace_seconds=1), grace_seconds=1)
    successor(api, successor(api, successor(api, kept)))
    api("DELETE", f"/sessions/{id_of(revoked)}")
    api.clock.now += 1
    assert verify(api, second).status == 200
    session_id, _, secret = good.partition(".")
    digest = base64.urlsafe_b64encode(sha256(secret.encode()).digest()).decode()
    return {
        "empty": "",
        "no dot": good.replace(".", ""),
        "too short": good[:-1],
        "too long": good + "A",
        "newline": good + "\n",
        "only the session id": session_id,
        "other characters": session_id + "." + "é" * 27,
        "absent session": f"{ABSENT}.{secret}",
        "wrong secret": f"{session_id}.{SECRET}",
        "another session's secret": f"{session_id}.{other.partition('.')[2]}",
        "case of the secret changed": f"{session_id}.{secret.swapcase()}",
        "the hash itself": f"{session_id}.{digest[:27]}",
        "expired": expired,
        "revoked": revoked,
        "rotated away at once": cut_off,
        "of a former family": forgotten,
        "retired a moment ago": retired,
        "retired, and used again": reused,
        "older than all known tokens": kept,
        "family of a live session": f"{id_of(other)}.{family_of(other)}{'B' * 15}",
    }


@THROUGH_BOTH
def test_every_bad_token_gets_the_same_answer(api: Api) -> None:
    """Only `instance` differs, which is the request id."""
    answers = {why: verify(api, token) for why, token in bad_tokens(api).items()}

    assert len(answers) == 20
    for why, answer in answers.items():
        problem = answer.json
        assert problem.pop("instance"), why
        assert (answer.status, problem) == (
            401,
            {
                "type": "about:blank",
                "title": "Unauthorized",
                "status": 401,
                "detail": "The token does not prove a live session.",
                "code": "invalid_token",
            },
        ), why
        assert answer.headers == answers["empty"].headers, why


def test_other_base64_spelling_of_a_secret_is_refused(api: Api) -> None:
    """The last of 27 base64 characters has two unused bits, so there are four spellings of the same
    bytes.
    """
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for spelling in range(1, 4):
        token = api.log_in()
        last = alphabet[alphabet.index(token[-1]) ^ spelling]
        respelled = token[:-1] + last
        assert base64.urlsafe_b64decode(f"{respelled[13:]}=") == base64.urlsafe_b64decode(
            f"{token[13:]}="
        )

        assert verify(api, respelled).status == 401


@pytest.mark.parametrize(
    ("after", "options", "renewed"),
    [
        (179, {}, False),
        (180, {}, True),
        (180, {"renew": True}, True),
        (180, {"renew": False}, False),
        (1799, {"renew": False}, False),
    ],
)
def test_verify_renews_once_a_tenth_of_the_window_has_passed(
    api: Api, stored: Any, after: int, options: dict[str, Any], renewed: bool
) -> None:
    """A session in frequent use therefore causes mostly reads."""
    token = api.log_in()
    before = stored(token.partition(".")[0])
    api.clock.now += after

    answer = verify(api, token, **options)

    assert answer.json["expires_at"] == NOW + 1800 + (after if renewed else 0)
    assert api.requests == (["GetItem", "UpdateItem"] if renewed else ["GetItem"])
    if not renewed:
        assert stored(token.partition(".")[0]) == before


def test_verify_renews_to_the_absolute_end_in_one_write_and_then_no_more(api: Api) -> None:
    token = api.log_in(ttl_seconds=600, absolute_ttl_seconds=1000)
    api.clock.now = NOW + 500
    assert verify(api, token).json["expires_at"] == NOW + 1000
    assert api.requests == ["GetItem", "UpdateItem"]

    api.clock.now = NOW + 900
    assert verify(api, token).json["expires_at"] == NOW + 1000
    assert api.requests == ["GetItem"]
    api.clock.now = NOW + 1000
    assert verify(api, token).status == 401


@pytest.mark.parametrize(("moment", "expires"), [(399, 999), (400, 1000), (401, 1000)])
def test_verify_chooses_the_renewal_by_the_remaining_time(
    api: Api, moment: int, expires: int
) -> None:
    """The test calls it just before and just within the last window."""
    token = api.log_in(ttl_seconds=600, absolute_ttl_seconds=1000)
    api.clock.now = NOW + moment

    assert verify(api, token).json["expires_at"] == NOW + expires
    assert api.requests == ["GetItem", "UpdateItem"]


def test_revocation_between_read_and_renewal_is_401(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = api.log_in()
    session_id = token.partition(".")[0]
    api.clock.now += 600
    store = api.handler.sessions
    read = store._read

    def revoke_after_reading(session_id: str, attributes: str | None) -> Any:
        item = read(session_id, attributes)
        monkeypatch.setattr(store, "_read", read)
        store.revoke(session_id, reason="logout", by=BY_OTHER)
        return item

    monkeypatch.setattr(store, "_read", revoke_after_reading)

    assert verify(api, token).status == 401
    assert api("GET", f"/sessions/{session_id}").status == 404


def test_later_renewal_between_read_and_renewal_stands(
    api: Api, monkeypatch: pytest.MonkeyPatch, stored: Any
) -> None:
    """Another function's clock is ahead. Its renewal is kept, and the token is valid."""
    token = api.log_in(ttl_seconds=100)
    session_id = token.partition(".")[0]
    api.clock.now += 50
    store = api.handler.sessions
    read = store._read

    def race(session_id: str, attributes: str | None) -> Any:
        item = read(session_id, attributes)
        api.clock.now += 5
        store.renew(session_id, by=BY_OTHER)
        api.clock.now -= 5
        return item

    monkeypatch.setattr(store, "_read", race)

    answer = verify(api, token)

    assert (answer.status, answer.json["expires_at"]) == (200, NOW + 155)
    assert stored(session_id)["RenewedAt"] == {"N": str(NOW + 55)}


def test_hash_of_a_wrong_type_verifies_nothing(api: Api, tables: Any) -> None:
    token = api.log_in()
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": token.partition(".")[0]}},
        UpdateExpression="SET TokenHash = :text",
        ExpressionAttributeValues={":text": {"S": token.partition(".")[2]}},
    )

    assert verify(api, token).status == 401


@THROUGH_BOTH
@pytest.mark.parametrize(
    "spelled",
    [
        lambda _: "x",
        lambda token: token[1:],
        lambda token: token[:-1],
        lambda token: "A" + token,
        lambda token: token + "A",
        lambda token: token.replace(".", ":"),
        lambda token: token + "\n",
    ],
)
def test_malformed_token_costs_no_request(api: Api, spelled: Callable[[str], str]) -> None:
    assert verify(api, spelled(api.log_in())).status == 401
    assert api.requests == []


def test_wrong_secret_costs_one_read(api: Api) -> None:
    session_id = api.create()

    verify(api, f"{session_id}.{SECRET}")

    assert api.requests == ["GetItem"]


class Replay(NamedTuple):
    """A transport that answers each request with its recorded answer."""

    network: Transport
    answers: dict[bytes, HttpAnswer]

    @property
    def host(self) -> str:
        return self.network.host

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> HttpAnswer:
        if body not in self.answers:
            self.answers[body] = self.network.exchange(headers, body, deadline)
        return self.answers[body]

    def close(self) -> None:
        """Do nothing, because there are no connections."""


@ON_DYNAMODB_LOCAL
def test_wrong_secret_and_absent_session_can_not_be_told_apart(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    """The test makes 2,000 calls of each kind in turn, and compares body, status and headers.

    It reports the medians of the CPU time, with DynamoDB's recorded answers. The time of the
    network is not included.
    """
    session_id = api.create(data={"k": "x" * 500})
    seam.client = Client(Replay(seam.client._transport, {}), region="us-east-1")
    answers: dict[str, set[Any]] = {session_id: set(), ABSENT: set()}
    spent: dict[str, list[int]] = {session_id: [], ABSENT: []}
    event = api_event("POST", "/sessions/verify")
    event["headers"]["content-type"] = "application/json"

    def handle(session_id: str) -> Any:
        body = msgspec.json.encode({"token": f"{session_id}.{SECRET}"}).decode()
        event["body"] = body
        begin = time.process_time_ns()
        response = api.handler.lambda_handler(event, lambda_context())
        spent[session_id].append(time.process_time_ns() - begin)
        return response

    for _ in range(2000):
        for target in (session_id, ABSENT):
            answers[target].add(msgspec.json.encode(handle(target)))

    assert len(answers[session_id]) == 1
    assert answers[session_id] == answers[ABSENT]
    wrong, absent = (statistics.median(spent[target]) / 1000 for target in (session_id, ABSENT))
    with capsys.disabled():
        print(
            f"\nmedian CPU of verify: wrong secret {wrong:.0f} µs, absent session {absent:.0f} µs"
        )


def test_token_leaves_no_trace(
    api: Api, tables: Any, logged: StringIO, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets must not be in the log lines, the stream images or the audit items of a session's
    whole life, with successful and failed calls.
    """
    audit = function("session_audit")
    images: list[dict[str, Any]] = [{}]
    events: list[Any] = []
    secrets: list[str] = []

    def step(answer: Answer, session_id: str) -> Answer:
        old, new = images[-1], stored(session_id)
        if new != old:
            record: dict[str, Any] = {
                "eventName": "MODIFY" if old else "INSERT",
                "dynamodb": {
                    "ApproximateCreationDateTime": api.clock.now,
                    "SequenceNumber": str(len(images)),
                    "Keys": {"SessionId": {"S": session_id}},
                    "NewImage": new,
                    **({"OldImage": old} if old else {}),
                },
            }
            images.append(new)
            events.append(classify(record, not_before=0))
            audit.lambda_handler({"Records": [record]}, lambda_context())
        if "token" in answer.body and answer.status < 300:
            secrets.append(answer.json["token"].partition(".")[2])
        return answer

    session_id = ABSENT
    monkeypatch.setattr("sessions.session.secrets", SimpleNamespace(token_urlsafe=lambda _: ABSENT))
    path = f"/sessions/{session_id}"
    token = step(api("POST", "/sessions", {"user_id": "ada"}), session_id).json["token"]
    step(verify(api, token), session_id)
    step(verify(api, token + "x"), session_id)
    step(verify(api, f"{session_id}.{SECRET}"), session_id)
    step(api("GET", f"{path}/{token}"), session_id)
    step(api("POST", "/sessions/verify", {"tokn": token}), session_id)
    step(api("POST", "/sessions/verify", f'{{"token": "{token}"'), session_id)
    step(api("PATCH", path, {"data": {"a": 1}}), session_id)
    api.clock.now += 200
    step(verify(api, token), session_id)
    body = {"token": token, "grace_seconds": 1}
    new = step(api("POST", f"{path}/rotate", body), session_id).json["token"]
    assert step(api("POST", f"{path}/rotate", body), session_id).status == 409
    step(api("POST", f"{path}/rotate", {"token": f"{session_id}.{SECRET}"}), session_id)
    step(verify(api, new), session_id)
    with monkeypatch.context() as broken:
        broken.setattr(api.handler.sessions, "_read", lambda session_id, _: {}[session_id])
        assert step(verify(api, new), session_id).status == 500
    api.clock.now += 1
    step(verify(api, token), session_id)
    assert [event.type for event in events] == [
        "created",
        "updated",
        "renewed",
        "rotated",
        "confirmed",
        "revoked",
    ]
    assert events[-1].reason == "token_reuse"

    traces = repr(images) + repr(tables.client.scan(TableName=tables.audit)["Items"])
    traces += logged.getvalue()
    assert "unforeseen error" in traces
    assert len(secrets) == 2
    family = secrets[0][:12]
    assert secrets[1].startswith(family)
    for secret in [*secrets, family, SECRET]:
        raw = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
        for trace in (secret, raw.hex(), repr(raw)[2:-1], base64.b64encode(raw).decode()):
            assert trace not in traces
    hashes = [sha256(secret.encode()).digest() for secret in [*secrets, family]]
    assert repr(hashes[0]) in repr(images)
    public = repr(tables.client.scan(TableName=tables.audit)["Items"]) + logged.getvalue()
    for digest in hashes:
        assert digest.hex() not in public
        assert repr(digest)[2:-1] not in public


def test_repr_of_a_token_has_no_secret() -> None:
    token = Token.issue(ABSENT)

    assert repr(token) == f"Token({ABSENT!r})"
    assert Token.parse(str(token)) == token
