"""The lean DynamoDB client, against a server that answers, fails and sends wrong data as
planned.
"""

from __future__ import annotations

import datetime
import json
import random
import time
from typing import Any

import pytest

from dynamodb import client as lean
from dynamodb.client import Client
from dynamodb.connection import ANSWER_SECONDS, CONNECT_SECONDS, Answer, Connections
from dynamodb.credentials import Credentials
from dynamodb.errors import RequestRefused, TransientError
from tests.support.lean import AT_MOST, GOOD, ITEM, SHORT, connected, get
from tests.support.proxy import (
    Exchange,
    Fault,
    Proxy,
    answering,
    closing,
    cut,
    dripping,
    http_answer,
    refusing,
    resetting,
    silent,
)


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


def absurdly_long(length: int) -> Fault:
    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        closing(exchange)

    return answer


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
        (absurdly_long(10**18), "MemoryError|IncompleteRead"),
        (absurdly_long(10**30), "OverflowError|IncompleteRead"),
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


def test_pauses_differ_in_copies_of_a_snapshot(
    client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SnapStart copies the state of `random`, and copies that repeat at once are no help."""
    pauses: list[float] = []
    monkeypatch.setattr(lean, "_PAUSE_SECONDS", (0.05, 0.5))
    monkeypatch.setattr("clock.sleep", pauses.append)
    state = random.getstate()
    for _ in range(3):
        random.setstate(state)
        server.plan(answering(500), GOOD)
        get(client)

    assert len(set(pauses)) == 3
    assert all(0.05 <= pause <= 0.5 for pause in pauses)


def judging_time(seconds_ahead: float) -> Fault:
    """As DynamoDB does, whose clock is this far ahead of this host's."""

    def answer(exchange: Exchange) -> None:
        now = time.time() + seconds_ahead
        date = datetime.datetime.strptime(exchange.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
        if abs(late := now - date.timestamp()) < 300:
            GOOD(exchange)
            return
        message = "Signature expired: …" if late > 0 else "Signature not yet current: …"
        error = {"__type": "com.amazon.coral.service#InvalidSignatureException"}
        body = json.dumps(error | {"message": message}).encode()
        exchange.send(http_answer(400, body, date=now))

    return answer


@pytest.mark.parametrize("minutes", [-60 * 24 * 365, -6, 6, 60 * 24])
def test_wrong_clock_costs_a_single_attempt(client: Client, server: Proxy, minutes: int) -> None:
    """The difference to DynamoDB's clock is kept for later requests."""
    server.plan(always=judging_time(minutes * 60))

    for _ in range(3):
        assert get(client) == ITEM

    assert len(server.operations) == 4


def test_clock_that_is_set_right_costs_a_single_attempt(client: Client, server: Proxy) -> None:
    """The kept difference is wrong from then on."""
    server.plan(always=judging_time(3600))
    get(client)
    server.plan(always=judging_time(0))

    for _ in range(3):
        assert get(client) == ITEM

    assert len(server.operations) == 4


def test_request_that_was_frozen_before_it_was_sent_is_signed_anew(
    client: Client, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both clocks are right, so no difference is kept."""
    server.plan(always=judging_time(0))
    send = Connections.exchange
    monkeypatch.setattr("clock.time", lambda: time.time() - 900)

    def thaw_and_send(*request: Any) -> Answer:
        monkeypatch.setattr("clock.time", time.time)
        return send(*request)

    monkeypatch.setattr(Connections, "exchange", thaw_and_send)

    assert get(client) == ITEM
    assert len(server.operations) == 2
    assert abs(client._clock_ahead) < 60


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Nov 2026 00:00:00 GMT", None])
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidSignatureException", "Signature expired: …"),
        ("InvalidSignatureException", "Signature not yet current: …"),
        ("RequestExpired", "Request has expired."),
    ],
)
def test_time_that_dynamodb_goes_on_to_refuse_is_an_outage(
    client: Client, server: Proxy, code: str, message: str, date: str | None
) -> None:
    """Whether its answer says what the time is, or does not."""
    body = json.dumps({"__type": code, "message": message}).encode()
    header = "" if date is None else f"Date: {date}\r\n"
    head = f"HTTP/1.1 400 Bad Request\r\n{header}Content-Length: {len(body)}\r\n\r\n"
    server.plan(always=lambda exchange: exchange.send(head.encode() + body))

    with pytest.raises(TransientError, match=code):
        get(client)

    assert len(server.operations) == 2


@pytest.mark.parametrize("message", ["The request signature we calculated does not match", 1, None])
def test_wrong_signature_is_refused(client: Client, server: Proxy, message: object) -> None:
    """Its code is that of a signature that is too old."""
    error = {"__type": "InvalidSignatureException", "message": message}
    server.plan(answering(400, json.dumps(error).encode()))

    with pytest.raises(RequestRefused, match="InvalidSignatureException") as refused:
        get(client)

    assert isinstance(refused.value.message, str)


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
    monkeypatch.setattr("dynamodb.connection.ANSWER_SECONDS", AT_MOST)
    server.plan(always=silent)
    begin = time.monotonic()

    with pytest.raises(TransientError, match="TimeoutError"):
        get(client)

    assert time.monotonic() - begin < AT_MOST


def test_two_attempts_and_their_pause_end_within_seven_seconds() -> None:
    attempts = lean.ATTEMPTS * (CONNECT_SECONDS + ANSWER_SECONDS)
    assert lean.ATTEMPTS == 2
    assert attempts + lean._PAUSE_SECONDS[1] < 7


@pytest.mark.parametrize(
    ("environment", "endpoint", "host"),
    [
        (
            {"DYNAMODB_ENDPOINT": "https://dynamodb.cn-north-1.amazonaws.com.cn"},
            ("dynamodb.cn-north-1.amazonaws.com.cn", 443),
            "dynamodb.cn-north-1.amazonaws.com.cn",
        ),
        (
            {"DYNAMODB_ENDPOINT": "https://a", "AWS_ENDPOINT_URL": "http://localhost:4566"},
            ("localhost", 4566),
            "localhost:4566",
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
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with connected() as client:
        connections: Any = client._transport

    assert (connections._address, connections.host) == (endpoint, host)


@pytest.mark.parametrize("endpoint", ["dynamodb.internal", "ftp://dynamodb", "http://"])
def test_invalid_endpoint_is_an_error(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

    with pytest.raises(ValueError, match=f"the endpoint {endpoint} is not an http or https URL"):
        lean.connect()


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
