"""DynamoDB throttles, is slow, or its answers are lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing as closed_in_the_end
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dynamodb import boto3_client
from dynamodb import client as lean
from sessions.rotation import Rotation
from sessions.store import SessionStore
from sessions.token import Token
from tests.support.api import BY_OTHER, NOW, Api
from tests.support.backend import Backend
from tests.support.proxy import (
    Fault,
    Proxy,
    answering,
    closing,
    proxy_to,
    refusing,
    resetting,
    silent,
)
from tests.support.seam import seam
from tests.support.tables import sdk
from tests.support.tokens import id_of, is_authorized, successor, verify

ABSENT = "AAAAAAAAAAAA"


@pytest.fixture
def network(dynamodb: str) -> Iterator[Proxy]:
    """The proxy between the functions and DynamoDB Local."""
    with proxy_to(dynamodb) as proxy:
        yield proxy


@pytest.fixture(params=["boto3", "lean"])
def backend(
    request: pytest.FixtureRequest, network: Proxy, dynamodb: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Backend]:
    """One of the clients, behind a network with planned faults."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", network.endpoint)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    monkeypatch.setattr(lean, "_PAUSE_SECONDS", (0, 0))
    # Each test gets a new client, because boto3 limits the retries of a client.
    connect: Any = {"boto3": boto3_client.connect, "lean": lean.connect}[request.param]
    with closed_in_the_end(connect()) as client:
        yield Backend(client, sdk(dynamodb))


CALLS: list[tuple[str, str, object]] = [
    ("POST", "/sessions", {"user_id": "ada"}),
    ("GET", f"/sessions/{ABSENT}", None),
    ("PATCH", f"/sessions/{ABSENT}", {"data": {"a": 1}}),
    ("PUT", f"/sessions/{ABSENT}", {"data": {}}),
    ("DELETE", f"/sessions/{ABSENT}", None),
    ("POST", f"/sessions/{ABSENT}/renew", None),
    ("POST", f"/sessions/{ABSENT}/rotate", None),
    ("POST", "/sessions/verify", {"token": f"{ABSENT}.{'A' * 27}"}),
    ("DELETE", "/sessions?user_id=ada", None),
    ("GET", "/sessions?user_id=ada", None),
    ("GET", "/events?user_id=ada", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 400),
        ("ProvisionedThroughputExceededException", 400),
        ("RequestLimitExceeded", 400),
        ("RequestTimeoutException", 400),
        ("Throttling", 400),
        ("InternalServerError", 500),
    ],
)
def test_throttled_table_is_503(
    api: Api, network: Proxy, method: str, path: str, body: Any, code: str, status: int
) -> None:
    """The request is correct, and `Retry-After` says when to send it again."""
    network.plan(always=refusing(code, status))
    path, _, query = path.partition("?")

    answer = api(method, path, body, query=query)

    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("failure", "causes"),
    [
        (closing, {"RemoteDisconnected", "ConnectionClosedError"}),
        (resetting, {"ConnectionResetError", "ConnectionClosedError"}),
    ],
)
@pytest.mark.parametrize(("method", "path", "body"), CALLS[:3])
def test_no_answer_in_time_is_503(
    api: Api,
    network: Proxy,
    logged: StringIO,
    monkeypatch: pytest.MonkeyPatch,
    failure: Fault,
    causes: set[str],
    method: str,
    path: str,
    body: Any,
) -> None:
    """The log distinguishes the kinds of outages."""
    network.plan(always=failure)

    answer = api(method, path, body, request_id="the-one")

    assert (answer.status, answer.json["instance"]) == (503, "the-one")
    [line] = map(json.loads, logged.getvalue().splitlines())
    assert line["cause"] in causes
    assert line["api_request_id"] == "the-one"


def test_silent_table_is_given_up_in_time(api: Api, network: Proxy, logged: StringIO) -> None:
    """API Gateway waits 10 s for an authorizer."""
    network.plan(always=silent)
    begin = time.monotonic()

    assert api("GET", f"/sessions/{ABSENT}").status == 503
    assert time.monotonic() - begin < 10
    assert network.operations == ["GetItem", "GetItem"]
    assert json.loads(logged.getvalue())["cause"] in {"TimeoutError", "ReadTimeoutError"}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
@pytest.mark.parametrize("content", [b"", b"<html>busy</html>", b'{"__type": "InternalFailure"}'])
def test_error_that_is_not_dynamodbs_own_is_503(
    api: Api, network: Proxy, status: int, content: bytes
) -> None:
    """A proxy in front of DynamoDB may answer in its place."""
    network.plan(always=answering(status, content))

    assert api("GET", f"/sessions/{ABSENT}").status == 503


def test_signature_that_dynamodb_finds_too_old_is_503(api: Api, network: Proxy) -> None:
    """The clock of this host is wrong, or the host was frozen: the next call may succeed."""
    late = refusing("InvalidSignatureException", message="Signature expired: … is now earlier …")
    network.plan(always=late)

    answer = api("GET", f"/sessions/{ABSENT}")

    assert (answer.status, answer.json["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    "message",
    [
        "Item size has exceeded the maximum allowed size",
        "Item size to update has exceeded the maximum allowed size",
    ],
)
def test_data_grown_over_the_items_limit_is_413(api: Api, network: Proxy, message: str) -> None:
    """This is the error of DynamoDB's limit of 400 KB."""
    network.plan(always=refusing("ValidationException", message=message))

    answer = api("PATCH", f"/sessions/{ABSENT}", {"data": {"a": 1}})

    assert (answer.status, answer.json["code"]) == (413, "data_too_large")


def test_throttled_part_of_a_list_is_requested_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BatchGetItem returns a part of the items. The next request gets the rest."""
    ids = [api.create() for _ in range(3)]
    original = seam.client.batch_get_item
    left: list[Any] = []

    def halve(RequestItems: Any) -> Any:
        answer = original(RequestItems=RequestItems)
        if not left:
            [(table, request)] = RequestItems.items()
            rest = request["Keys"][1:]
            left.append(rest)
            answer["Responses"][table] = [
                item
                for item in answer["Responses"][table]
                if {"SessionId": item["SessionId"]} not in rest
            ]
            answer["UnprocessedKeys"] = {table: {**request, "Keys": rest}}
        return answer

    monkeypatch.setattr(seam.client, "batch_get_item", halve)

    answer = api("GET", "/sessions", query={"user_id": "ada"})

    assert {item["session_id"] for item in answer.json["items"]} == set(ids)


def test_list_that_stays_throttled_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.create()
    monkeypatch.setattr("clock.sleep", lambda _: None)
    monkeypatch.setattr(
        seam.client,
        "batch_get_item",
        lambda RequestItems: {"Responses": {}, "UnprocessedKeys": RequestItems},
    )

    assert api("GET", "/sessions", query={"user_id": "ada"}).status == 503


@pytest.mark.parametrize(
    ("method", "suffix", "body", "attribute", "expected"),
    [
        ("PATCH", "", {"data": {"a": 1, "b": None}}, "Version", "2"),
        ("PATCH", "", {"data": {"a": 1, "b": None, "c": None}}, "Version", "2"),
        ("PUT", "", {"data": {"a": 1, "keep": 3}}, "Version", "2"),
        ("POST", "/renew", None, "ExpirationTime", str(NOW + 1860)),
        ("POST", "/rotate", {}, "PreviousTokenUntil", str(NOW + 90)),
        ("DELETE", "", None, "RevokedAt", str(NOW + 60)),
    ],
)
def test_repeated_send_is_no_second_change(
    api: Api,
    network: Proxy,
    stored: Any,
    method: str,
    suffix: str,
    body: Any,
    attribute: str,
    expected: str,
) -> None:
    """The first send succeeds, but its answer is lost. The SDK sends the request again."""
    session_id = api.create(data={"keep": 3, "b": 2})
    api.clock.now += 60
    network.plan(network.lose_answer())
    headers = {"if-match": '"v1"'}

    answer = api(method, f"/sessions/{session_id}{suffix}", body, headers=headers)

    assert network.statuses == [200, 400]
    assert answer.status == (204 if method == "DELETE" else 200)
    assert stored(session_id)[attribute] == {"N": expected}
    if method in ("PATCH", "PUT"):
        assert answer.headers["etag"] == '"v2"'
        assert answer.json["data"] == {"keep": 3, "a": 1}
    if "token" in answer.body:
        assert api("POST", "/sessions/verify", {"token": answer.json["token"]}).status == 200


def test_creation_whose_session_ended_between_two_sends_is_tried_again(
    api: Api, network: Proxy, other: SessionStore, tables: Any
) -> None:
    """The service generated the id, so the conflict is not the caller's fault.

    The next call has another id.
    """

    def end() -> None:
        [item] = tables.client.scan(TableName=tables.sessions)["Items"]
        other.revoke(item["SessionId"]["S"], reason="logout", by=BY_OTHER)

    network.plan(network.lose_answer(then=end))

    answer = api("POST", "/sessions", {"user_id": "ada"})

    assert network.statuses == [200, 400]
    assert (answer.status, answer.json["code"]) == (503, "unavailable")


@pytest.mark.parametrize("grace_seconds", [0, 30])
def test_repeated_rotation_is_one_though_another_write_came_between(
    api: Api, network: Proxy, other: SessionStore, stored: Any, grace_seconds: int
) -> None:
    """A renewal has replaced the request id in the item.

    The rotation is still recognized by the new hash.
    """
    former = api.log_in()
    session_id = former.partition(".")[0]
    api.clock.now += 60
    before = stored(session_id)

    def renew() -> None:
        other.renew(session_id, by=BY_OTHER)

    network.plan(network.lose_answer(then=renew))

    answer = api("POST", f"/sessions/{session_id}/rotate", {"grace_seconds": grace_seconds})

    assert network.statuses == [200, 400]
    assert answer.status == 200
    item = stored(session_id)
    assert item["PreviousTokenHash"] == item["RetiredTokenHash"] == before["TokenHash"]
    assert item["PreviousTokenUntil"] == {"N": str(NOW + 60 + grace_seconds)}
    assert api("POST", "/sessions/verify", {"token": answer.json["token"]}).status == 200
    api.clock.now += 30
    assert api("POST", "/sessions/verify", {"token": former}).status == 401
    assert api("GET", f"/sessions/{session_id}").status == 404  # detected as reused


def test_repeated_mark_of_a_first_use_is_one(api: Api, network: Proxy, stored: Any) -> None:
    """The second send must not extend the former token's grace period."""
    token = successor(api, api.log_in())
    network.plan(network.pass_on, network.lose_answer(then=lambda: _wait(api, 5)))

    assert verify(api, token).status == 200

    assert network.statuses[-3:] == [200, 200, 400]
    assert stored(id_of(token))["PreviousTokenUntil"] == {"N": str(NOW + 30)}


def test_repeated_mark_by_the_authorizer_is_one(
    api: Api, authorizer: ModuleType, network: Proxy, stored: Any
) -> None:
    token = successor(api, api.log_in())
    network.plan(network.pass_on, network.lose_answer(then=lambda: _wait(api, 5)))

    assert is_authorized(authorizer, token)

    assert network.statuses[-3:] == [200, 200, 400]
    assert stored(id_of(token))["PreviousTokenUntil"] == {"N": str(NOW + 30)}


def test_repeated_replacement_of_a_lost_token_is_one(api: Api, network: Proxy, stored: Any) -> None:
    token = api.log_in()
    successor(api, token)
    api.clock.now += 30
    network.plan(network.pass_on, network.lose_answer(then=lambda: _wait(api, 5)))

    new = successor(api, token)

    assert network.statuses[-3:] == [400, 200, 400]
    assert stored(id_of(token))["PreviousTokenUntil"] == {"N": str(NOW + 60)}
    assert verify(api, new).status == 200


def test_repeated_end_of_a_stolen_session_is_one(api: Api, network: Proxy, stored: Any) -> None:
    stolen = api.log_in()
    assert verify(api, successor(api, stolen)).status == 200
    api.clock.now += 30
    network.plan(network.pass_on, network.lose_answer(then=lambda: _wait(api, 5)))

    assert verify(api, stolen).status == 401

    assert network.statuses[-3:] == [200, 200, 400]
    assert stored(id_of(stolen))["RevokedAt"] == {"N": str(NOW + 30)}


def test_repeated_last_window_is_one(api: Api, network: Proxy, stored: Any) -> None:
    session_id = api.create(None)
    network.plan(network.lose_answer(then=lambda: _wait(api, 5)))

    answer = api("POST", f"/sessions/{session_id}/renew", {"ttl_seconds": 60, "final": True})

    assert network.statuses[-2:] == [200, 400]
    assert answer.json["absolute_expires_at"] == NOW + 60


def _wait(api: Api, seconds: int) -> None:
    api.clock.now += seconds


def test_repeated_create_is_one_session(api: Api, network: Proxy, tables: Any) -> None:
    network.plan(network.lose_answer())

    answer = api("POST", "/sessions", {"user_id": "ada"})

    assert network.statuses == [200, 400]
    assert answer.status == 201
    assert tables.client.scan(TableName=tables.sessions)["Count"] == 1


def test_repeated_create_is_one_session_though_another_renewed_between(
    api: Api, network: Proxy, other: SessionStore, tables: Any
) -> None:

    def renew() -> None:
        [item] = tables.client.scan(TableName=tables.sessions)["Items"]
        other.renew(item["SessionId"]["S"], by=BY_OTHER)

    network.plan(network.lose_answer(then=renew))

    answer = api("POST", "/sessions", {"user_id": "ada"})

    assert network.statuses == [200, 400]
    assert answer.status == 201
    assert api("POST", "/sessions/verify", {"token": answer.json["token"]}).status == 200


def test_repeated_create_of_a_session_that_was_ended_between_is_503(
    api: Api, network: Proxy, other: SessionStore, tables: Any
) -> None:
    """The user was signed out everywhere during the log-in. The next attempt decides."""

    def revoke() -> None:
        [item] = tables.client.scan(TableName=tables.sessions)["Items"]
        other.revoke(item["SessionId"]["S"], reason="logout", by=BY_OTHER)

    network.plan(network.lose_answer(then=revoke))

    assert api("POST", "/sessions", {"user_id": "ada"}).status == 503


def test_repeated_rotation_does_not_undo_another_one_between(
    api: Api, network: Proxy, other: SessionStore, stored: Any
) -> None:
    """The other rotation has replaced its token. The caller is told so."""
    session_id = api.create()
    between = Token.issue(session_id)

    def rotate() -> None:
        rotation = Rotation(between.hashes, None, grace_seconds=0, retired_seconds=30)
        other.rotate(session_id, rotation, by=BY_OTHER)

    network.plan(network.lose_answer(then=rotate))

    answer = api("POST", f"/sessions/{session_id}/rotate", {})

    assert network.statuses == [200, 400]
    assert (answer.status, answer.json["code"]) == (409, "token_superseded")
    assert api("POST", "/sessions/verify", {"token": str(between)}).status == 200
    assert stored(session_id)["PreviousTokenUntil"] == {"N": str(NOW)}


def test_foreign_session_of_the_same_id_is_not_taken_over(
    api: Api, monkeypatch: pytest.MonkeyPatch, stored: Any
) -> None:
    """If two ids of 2^72 are equal, the next attempt has another id, and the first session does not
    change.
    """
    monkeypatch.setattr("sessions.session.secrets", SimpleNamespace(token_urlsafe=lambda _: ABSENT))
    session_id = api.create("ada")
    before = stored(session_id)

    assert api("POST", "/sessions", {"user_id": "eve"}).status == 503
    assert stored(session_id) == before


def test_unexpected_error_is_logged_without_its_message(
    api: Api, network: Proxy, logged: StringIO
) -> None:
    """The log has the place of the error, but not DynamoDB's message, which may quote data."""
    network.plan(always=refusing("ValidationException", message="what of classified?"))

    body = {"user_id": "ada", "data": {"k": "classified"}}
    answer = api("POST", "/sessions", body, request_id="the-one")

    assert (answer.status, answer.json["code"]) == (500, "internal_error")
    line = json.loads(logged.getvalue())
    assert (line["message"], line["api_request_id"]) == ("unforeseen error", "the-one")
    assert "store.py" in line["stack"]
    assert "classified" not in logged.getvalue() + answer.body
    assert "ValidationException" not in answer.body


def test_message_of_an_unexpected_error_is_not_logged(api: Api, logged: StringIO) -> None:
    """This includes errors of our own code: a KeyError quotes the key."""

    secret = "classified"

    def fail() -> None:
        raise KeyError(secret)

    seam.before = fail

    answer = api("GET", f"/sessions/{ABSENT}")

    assert answer.status == 500
    assert json.loads(logged.getvalue())["error"] == "KeyError"
    assert secret not in logged.getvalue() + answer.body
