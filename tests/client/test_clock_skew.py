"""A wrong clock, or a frozen process, is corrected with the time of the service."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import pytest
from botocore.credentials import Credentials
from flask import Flask, session

from serverless_sessions import DirectReader, NotAllowed, Sessions, Unavailable
from serverless_sessions._core import clock
from serverless_sessions._core.token import Token
from serverless_sessions.flask import ServerlessSessions
from serverless_sessions.serve.gateway import Reply
from tests.support.stand_in import SESSION, TOKEN, Received, StandIn, reply, stand_in, verified

HOUR = 3600
EXPIRED = "Signature expired: 20261126T100000Z is now earlier than 20261126T105500Z"
EARLY = "Signature not yet current: 20261126T100000Z is still later than 20261126T090500Z"


class Gateway:
    """Refuses signatures of another time than its own, which is `ahead` of this host's."""

    def __init__(self, ahead: float, message: str, status: int = 403) -> None:
        self.ahead = ahead
        self._message = message
        self._status = status

    def __call__(self, request: Received) -> Reply:
        now = time.time() + self.ahead
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
        date = formatdate(now, usegmt=True)
        if abs(signed.replace(tzinfo=UTC).timestamp() - now) > 300:
            return reply(self._status, {"message": self._message}, Date=date)
        return self.accept(date)

    def accept(self, date: str) -> Reply:
        return reply(200, SESSION, Date=date)


@pytest.fixture
def connect(connect_to: Callable[..., Sessions]) -> Callable[..., Sessions]:
    def make(api: StandIn, **options: Any) -> Sessions:
        known = {
            "region": "us-east-1",
            "credentials": Credentials("testing", "testing"),
            "verify_deadline_seconds": 30.0,
        }
        return connect_to(api.url, **(known | options))

    return make


@pytest.mark.parametrize(
    ("ahead", "message"),
    [(HOUR, EXPIRED), (-HOUR, EARLY), (-30 * 24 * HOUR, EARLY), (HOUR, "Forbidden")],
)
def test_a_wrong_clock_costs_one_request(
    connect: Callable[..., Sessions], ahead: float, message: str
) -> None:
    """Also if the service does not say that the time is the reason."""
    with stand_in(Gateway(ahead, message)) as api:
        sessions = connect(api)
        assert sessions.verify(TOKEN)
        assert len(api.requests) == 2
        assert sessions.verify(TOKEN)
        assert len(api.requests) == 3


def test_a_clock_that_is_set_right_is_followed(connect: Callable[..., Sessions]) -> None:
    gateway = Gateway(HOUR, EXPIRED)
    with stand_in(gateway) as api:
        sessions = connect(api)
        assert sessions.verify(TOKEN)
        gateway.ahead = 0
        assert sessions.verify(TOKEN)
        assert sessions.verify(TOKEN)
        assert len(api.requests) == 5


def test_a_process_that_was_frozen_before_it_sent_signs_anew(
    connect: Callable[..., Sessions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock is right again when the answer comes."""
    with stand_in(Gateway(0, "Forbidden")) as api:
        monkeypatch.setattr(clock, "time", lambda: time.time() - (0 if api.requests else HOUR))
        assert connect(api).verify(TOKEN)
        assert len(api.requests) == 2


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}, {"Date": "right"}])
def test_a_time_that_cannot_be_corrected_is_an_outage(
    connect: Callable[..., Sessions], headers: dict[str, str]
) -> None:
    def refuse(_: Received) -> Reply:
        date = {"Date": formatdate(usegmt=True)} if headers == {"Date": "right"} else headers
        return reply(403, {"message": EXPIRED}, **date)

    with stand_in(refuse) as api, pytest.raises(Unavailable, match="127.0.0.1:.* time"):
        connect(api).verify(TOKEN)


def test_a_refusal_for_another_reason_is_sent_once(connect: Callable[..., Sessions]) -> None:
    date = formatdate(usegmt=True)
    with stand_in(lambda _: reply(403, {"message": "Forbidden"}, Date=date)) as api:
        with pytest.raises(NotAllowed):
            connect(api).verify(TOKEN)
        assert len(api.requests) == 1


@pytest.mark.parametrize(("has_date", "status"), [(True, 200), (False, 503)])
def test_an_app_answers_or_says_503(has_date: bool, status: int) -> None:
    gateway = Gateway(HOUR, EXPIRED)

    def answer(request: Received) -> Reply:
        answered = gateway(request)
        return answered if has_date else answered._replace(headers={})

    with stand_in(answer) as api:
        app = Flask(__name__)
        app.config["SERVERLESS_SESSIONS"] = {
            "url": api.url,
            "region": "us-east-1",
            "credentials": Credentials("testing", "testing"),
        }
        extension = ServerlessSessions(app)
        app.add_url_rule("/", view_func=lambda: dict(session))
        with app.app_context():
            browser = app.test_client()
            browser.set_cookie("__Host-session", TOKEN, domain="localhost", secure=True)
            assert browser.get("/", base_url="https://localhost").status_code == status
            extension.sessions.close()


class Table(Gateway):
    """DynamoDB with the session of `TOKEN`. The API takes every signature."""

    def __call__(self, request: Received) -> Reply:
        if request.target != "/":
            answer = verified(request)
            policy = {"Sessions-Policy": "not_before=0, renewal_fraction=0.1"}
            return answer._replace(headers=answer.headers | policy)
        return super().__call__(request)

    def accept(self, date: str) -> Reply:
        token = Token.parse(TOKEN)
        assert token
        now = int(time.time() + self.ahead)
        times = {
            "CreatedAt": now,
            "RenewedAt": now,
            "RenewableUntil": now + HOUR,
            "ExpirationTime": now + HOUR,
            "AbsoluteExpirationTime": now + 2 * HOUR,
            "TtlSeconds": HOUR,
            "Version": 1,
        }
        item = {name: {"N": str(value)} for name, value in times.items()} | {
            "SessionId": {"S": token.session_id},
            "Data": {"M": {}},
            "TokenHash": {"B": base64.b64encode(token.hash).decode()},
        }
        return Reply(200, {"Date": date}, json.dumps({"Item": item}).encode())


def test_the_table_is_read_with_the_time_of_dynamodb(connect: Callable[..., Sessions]) -> None:
    with stand_in(Table(HOUR, EXPIRED, status=400)) as api:
        sessions = connect(api, reader=DirectReader("Sessions", endpoint=api.url))
        assert sessions.verify(TOKEN)
        for _ in range(2):
            assert sessions.verify(TOKEN)
        assert [request.target for request in api.requests] == ["/sessions/verify", "/", "/", "/"]
