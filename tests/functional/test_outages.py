"""When DynamoDB throttles, is slow, or its answers get lost."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from moto.core.models import botocore_stubber

from sessions.dynamodb import connect
from sessions.store import SessionStore
from tests.functional.conftest import NOW, Api, dynamodb_answer

ABSENT = "AAAAAAAAAAAAAAAAAAAAAA"


def refusal(code: str, status: int = 400, message: str = "no") -> AWSResponse:
    error = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
    return dynamodb_answer(json.dumps(error).encode(), status)


CALLS: list[tuple[str, str, object]] = [
    ("POST", "/sessions", {"user_id": "ada"}),
    ("GET", f"/sessions/{ABSENT}", None),
    ("PATCH", f"/sessions/{ABSENT}", {"data": {"a": 1}}),
    ("PUT", f"/sessions/{ABSENT}", {"data": {}}),
    ("DELETE", f"/sessions/{ABSENT}", None),
    ("POST", f"/sessions/{ABSENT}/renew", None),
    ("POST", f"/sessions/{ABSENT}/rotate", None),
    ("POST", "/sessions/verify", {"token": f"{ABSENT}.{'A' * 43}"}),
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
    api: Api, on_send: Any, method: str, path: str, body: Any, code: str, status: int
) -> None:
    """Nothing is wrong with the request, and the caller learns when to come back."""
    on_send(lambda **_: refusal(code, status))
    path, _, query = path.partition("?")

    answer = api(method, path, body, query=query)

    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "failure",
    [ConnectTimeoutError, EndpointConnectionError, ConnectionClosedError, ReadTimeoutError],
)
@pytest.mark.parametrize(("method", "path", "body"), CALLS[:3])
def test_no_answer_in_time_is_503(
    api: Api,
    on_send: Any,
    logged: StringIO,
    failure: type[BotoCoreError],
    method: str,
    path: str,
    body: Any,
) -> None:
    """The log tells the kinds of outage apart."""

    def fail(request: Any, **_: Any) -> None:
        raise failure(endpoint_url=request.url)

    on_send(fail)

    assert api(method, path, body).status == 503
    assert f'"cause":"{failure.__name__}"' in logged.getvalue()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
@pytest.mark.parametrize("content", [b"", b"<html>busy</html>", b'{"__type": "InternalFailure"}'])
def test_error_that_is_not_dynamodbs_own_is_503(
    api: Api, on_send: Any, status: int, content: bytes
) -> None:
    """Whatever stands in front of DynamoDB may answer in its place."""
    on_send(lambda **_: dynamodb_answer(content, status))

    assert api("GET", f"/sessions/{ABSENT}").status == 503


def test_silent_table_is_given_up_in_time(api: Api, on_send: Any) -> None:
    """Before API Gateway gives up an authorizer, after 10 s: attempts, time limits and pauses."""
    attempts: list[Any] = []

    def time_out(request: Any, **_: Any) -> None:
        attempts.append(request)
        raise ReadTimeoutError(endpoint_url=request.url)

    on_send(time_out)
    api("GET", f"/sessions/{ABSENT}")

    config = api.handler.client.meta.config
    assert len(attempts) == 2
    assert len(attempts) * (config.connect_timeout + config.read_timeout) + 1 < 10


def test_garbage_is_collected_once_there_is_a_client() -> None:
    gc.disable()
    connect()

    assert gc.isenabled()


@pytest.mark.parametrize(
    "message",
    [
        "Item size has exceeded the maximum allowed size",
        "Item size to update has exceeded the maximum allowed size",
    ],
)
def test_data_grown_over_the_items_limit_is_413(api: Api, on_send: Any, message: str) -> None:
    """DynamoDB's 400 KB, in its own words; moto lets an update pass it."""
    on_send(lambda **_: refusal("ValidationException", message=message))

    answer = api("PATCH", f"/sessions/{ABSENT}", {"data": {"a": 1}})

    assert (answer.status, answer.json["code"]) == (413, "data_too_large")


def test_throttled_part_of_a_list_is_asked_for_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BatchGetItem answers what it could; the rest comes with the next request."""
    ids = [api.create() for _ in range(3)]
    client = api.handler.client
    original = client.batch_get_item
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

    monkeypatch.setattr(client, "batch_get_item", halve)

    answer = api("GET", "/sessions", query={"user_id": "ada"})

    assert {item["session_id"] for item in answer.json["items"]} == set(ids)


def test_list_that_stays_throttled_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.create()
    monkeypatch.setattr("sessions.user_sessions.sleep", lambda _: None)
    monkeypatch.setattr(
        api.handler.client,
        "batch_get_item",
        lambda RequestItems: {"Responses": {}, "UnprocessedKeys": RequestItems},
    )

    assert api("GET", "/sessions", query={"user_id": "ada"}).status == 503


@pytest.mark.parametrize(
    ("method", "suffix", "body", "attribute", "expected"),
    [
        ("PATCH", "", {"data": {"a": 1}}, "Version", "2"),
        ("PUT", "", {"data": {"a": 1}}, "Version", "2"),
        ("POST", "/renew", None, "ExpirationTime", str(NOW + 1860)),
        ("POST", "/rotate", {}, "PreviousTokenUntil", str(NOW + 90)),
        ("DELETE", "", None, "RevokedAt", str(NOW + 60)),
    ],
)
def test_repeated_send_is_no_second_change(
    api: Api,
    on_send: Any,
    stored: Any,
    method: str,
    suffix: str,
    body: Any,
    attribute: str,
    expected: str,
) -> None:
    """The first send succeeds but its answer is lost; the SDK sends again by itself."""
    session_id = api.create()
    api.clock.now += 60
    sends = _lose_first_answer(on_send)
    headers = {"if-match": '"v1"'}

    answer = api(method, f"/sessions/{session_id}{suffix}", body, headers=headers)

    assert sends == [200, 400]
    assert answer.status == (204 if method == "DELETE" else 200)
    assert stored(session_id)[attribute] == {"N": expected}
    if method in ("PATCH", "PUT"):
        assert answer.headers["etag"] == '"v2"'
        assert answer.json["data"] == {"a": 1}
    if "token" in answer.body:
        assert api("POST", "/sessions/verify", {"token": answer.json["token"]}).status == 200


@pytest.mark.parametrize("grace_seconds", [0, 30])
def test_repeated_rotation_is_one_though_another_wrote_between(
    api: Api, on_send: Any, grace_seconds: int
) -> None:
    """A renewal has put its own request id into the item; the new hash tells all the same."""
    former = api.log_in()
    session_id = former.partition(".")[0]
    api.clock.now += 60

    def renew() -> None:
        writer = api.handler.Writer(actor="other", request_id="other")
        SessionStore(client, "sessions").renew(session_id, now=api.clock.now, by=writer)

    client = connect()
    sends = _lose_first_answer(on_send, then=renew)

    answer = api("POST", f"/sessions/{session_id}/rotate", {"grace_seconds": grace_seconds})

    assert sends == [200, 400]
    assert answer.status == 200
    assert api("POST", "/sessions/verify", {"token": answer.json["token"]}).status == 200
    api.clock.now += grace_seconds
    assert api("POST", "/sessions/verify", {"token": former}).status == 401
    assert api("GET", f"/sessions/{session_id}").status == 404  # found out as a reused one


def test_repeated_create_is_one_session(api: Api, on_send: Any, tables: Any) -> None:
    sends = _lose_first_answer(on_send)

    answer = api("POST", "/sessions", {"user_id": "ada"})

    assert sends == [200, 400]
    assert answer.status == 201
    assert tables.client.scan(TableName=tables.sessions)["Count"] == 1


def test_repeated_create_is_one_session_though_another_renewed_between(
    api: Api, on_send: Any, tables: Any
) -> None:
    client = connect()

    def renew() -> None:
        writer = api.handler.Writer(actor="other", request_id="other")
        [item] = client.scan(TableName=tables.sessions)["Items"]
        store = SessionStore(client, tables.sessions)
        store.renew(item["SessionId"]["S"], now=api.clock.now, by=writer)

    sends = _lose_first_answer(on_send, then=renew)

    answer = api("POST", "/sessions", {"user_id": "ada"})

    assert sends == [200, 400]
    assert answer.status == 201
    assert api("POST", "/sessions/verify", {"token": answer.json["token"]}).status == 200


def test_repeated_create_of_a_session_that_was_ended_between_is_503(
    api: Api, on_send: Any, tables: Any
) -> None:
    """The user was signed out everywhere while logging in: the next try decides."""
    client = connect()

    def revoke() -> None:
        writer = api.handler.Writer(actor="other", request_id="other")
        [item] = client.scan(TableName=tables.sessions)["Items"]
        store = SessionStore(client, tables.sessions)
        store.revoke(item["SessionId"]["S"], reason="logout", now=api.clock.now, by=writer)

    _lose_first_answer(on_send, then=revoke)

    assert api("POST", "/sessions", {"user_id": "ada"}).status == 503


def test_repeated_rotation_does_not_undo_another_one_between(
    api: Api, on_send: Any, stored: Any
) -> None:
    """Its token was cut off meanwhile, and stays so."""
    session_id = api.create()
    client = connect()
    between: list[str] = []

    def rotate() -> None:
        writer = api.handler.Writer(actor="other", request_id="other")
        _, token = SessionStore(client, "sessions").rotate(
            session_id, grace_seconds=0, now=api.clock.now, by=writer
        )
        between.append(str(token))

    sends = _lose_first_answer(on_send, then=rotate)

    answer = api("POST", f"/sessions/{session_id}/rotate", {})

    assert (sends, answer.status) == ([200, 400], 200)
    assert api("POST", "/sessions/verify", {"token": between[0]}).status == 200
    assert stored(session_id)["PreviousTokenUntil"] == {"N": str(NOW)}


def _lose_first_answer(on_send: Any, then: Callable[[], None] = lambda: None) -> list[int]:
    """Answers of the table, the first of them lost on its way; `then` comes before the second."""
    statuses: list[int] = []

    def answer(event_name: str, request: Any, **_: Any) -> AWSResponse:
        response = botocore_stubber(event_name, request)
        assert response
        statuses.append(response.status_code)
        if len(statuses) > 1:
            return response
        then()
        return refusal("InternalServerError", 500)

    on_send(answer)
    return statuses


def test_foreign_session_of_the_same_id_is_not_taken_over(
    api: Api, monkeypatch: pytest.MonkeyPatch, stored: Any
) -> None:
    """Two of 2^128 ids alike: an unforeseen error, and the first session stays what it is."""
    monkeypatch.setattr("sessions.session.secrets", SimpleNamespace(token_bytes=bytes))
    session_id = api.create("ada")
    before = stored(session_id)

    assert api("POST", "/sessions", {"user_id": "eve"}).status == 500
    assert stored(session_id) == before


def test_unforeseen_error_is_logged_without_its_words(
    api: Api, on_send: Any, logged: StringIO
) -> None:
    """Where it happened, not what DynamoDB said: that may quote data."""
    on_send(lambda **_: refusal("ValidationException", message="what of classified?"))

    answer = api("POST", "/sessions", {"user_id": "ada", "data": {"k": "classified"}})

    assert (answer.status, answer.json["code"]) == (500, "internal_error")
    assert "unforeseen error" in logged.getvalue()
    assert "store.py" in logged.getvalue()
    assert "classified" not in logged.getvalue() + answer.body
    assert "ValidationException" not in answer.body
