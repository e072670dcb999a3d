"""Ends of sessions in time, and sockets that are closed by them.

TTL is off on this file's own local stack, so only the sweeper deletes sessions. The tests share one
wait for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import pytest

from local.example import ORIGIN, deploy_live_sockets
from local.stack import LocalStack, running
from tests.e2e.calls import ContractCaller, parsed
from tests.support.ports import free_port
from tests.support.template import app_folder
from tests.support.waiting import eventually
from tests.support.websocket import Refused, WebSocket

COOKIE = "__Host-session"
ENDS = {"revoked", "expired", "deleted", "purged"}
# The sweeper deletes no session in the first minute after its creation. Fifty take some seconds.
FIRST_SWEEP_SECONDS = 70
# Longer than two runs of the sweeper, also if this machine is busy.
PATIENCE_SECONDS = 400


class Ended(NamedTuple):
    """A session and how it is going to end. Times are in epoch seconds."""

    session_id: str
    created_at: int
    end: str
    at: int


class Sessions(NamedTuple):
    """Fifty sessions that end by themselves, and two live ones."""

    fifty: list[Ended]
    to_revoke: dict[str, Any]
    to_expire: dict[str, Any]


@pytest.fixture(scope="module")
def prompt_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    folder = tmp_path_factory.mktemp("prompt")
    app = app_folder(folder / "app", prompt_expiry=True)
    stack = LocalStack(free_port(), folder, app=app, ttl=False)
    with running(stack):
        yield stack


@pytest.fixture(scope="module")
def call(prompt_stack: LocalStack) -> ContractCaller:
    keys = prompt_stack.credentials("tests", "execute-api:Invoke")
    return ContractCaller(prompt_stack.url, keys)


@pytest.fixture(scope="module", autouse=True)
def sessions(prompt_stack: LocalStack, call: ContractCaller) -> Iterator[Sessions]:
    """Fifty sessions of which some are renewed, revoked, rotated or shortened, and two live ones.

    The sweeper's rule is disabled until the sweeper may delete them. Otherwise it could come a
    moment too early, and the tests would wait another minute.
    """
    events = prompt_stack.client("events")
    [rule] = [
        rule["Name"]
        for rule in events.list_rules()["Rules"]
        if rule.get("ScheduleExpression") == "rate(1 minute)"
    ]
    events.disable_rule(Name=rule)
    timer = threading.Timer(FIRST_SWEEP_SECONDS, events.enable_rule, kwargs={"Name": rule})
    timer.start()
    try:
        live = [create(call, ttl_seconds=1800) for _ in range(2)]
        yield Sessions([begin(call, index) for index in range(50)], *live)
    finally:
        timer.cancel()


def create(call: ContractCaller, *, ttl_seconds: int) -> dict[str, Any]:
    session: dict[str, Any] = call(
        "POST", "/sessions", {"user_id": "ada", "ttl_seconds": ttl_seconds}
    ).json
    return session


def begin(call: ContractCaller, index: int) -> Ended:
    """Create a session that ends within half a minute, after one of five kinds of life.

    If this machine is so slow that the session has expired before its change, the change is 404 or
    401, and the session ends as if nobody had tried.
    """
    kind = ("untouched", "renewed", "revoked", "rotated", "shortened")[index % 5]
    ttl_seconds = {"untouched": 1, "revoked": 1800, "shortened": 1800}.get(kind, 20)
    session = create(call, ttl_seconds=ttl_seconds)
    path = f"/sessions/{session['session_id']}"
    match kind:
        case "renewed":
            answer = call("POST", f"{path}/renew", {"ttl_seconds": 30})
        case "shortened":
            answer = call("POST", f"{path}/renew", {"ttl_seconds": 1})
        case "rotated":
            token = parsed(session["token"]).successor()
            hashed = {"token": session["token"], "token_sha256": token.token_sha256}
            answer = call("POST", f"{path}/rotate", hashed)
        case "revoked":
            assert call("DELETE", path).status == 204
            return Ended(session["session_id"], session["created_at"], "revoked", 0)
        case _:
            return expiring(session)
    assert answer.status in (200, 401, 404)
    return expiring(answer.json if answer.status == 200 else session)


def expiring(session: dict[str, Any]) -> Ended:
    return Ended(session["session_id"], session["created_at"], "expired", session["expires_at"])


def latest(at: int, created_at: int) -> int:
    """Return until when an end must be known, as docs/audit-events.md promises."""
    return max(at + 120, created_at + 200)


@pytest.fixture(scope="module")
def url(prompt_stack: LocalStack, sessions: Sessions) -> str:
    """The URL of the example's sockets. It is deployed while the sessions expire."""
    return deploy_live_sockets(prompt_stack).replace("http:", "ws:")


def connect(url: str, token: str, origin: str = ORIGIN) -> WebSocket:
    return WebSocket(url, {"Origin": origin, "Cookie": f"theme=dark; {COOKIE}={token}"})


def test_functions_may_only_do_what_they_have_to(prompt_stack: LocalStack, url: str) -> None:
    """Only `close` may close connections, and nothing is allowed on all resources."""
    cloudformation = prompt_stack.client("cloudformation")
    template = cloudformation.get_template(StackName="LiveSockets")["TemplateBody"]
    statements = {
        name.partition("ServiceRole")[0]: resource["Properties"]["PolicyDocument"]["Statement"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Policy"
    }

    assert "*" not in [one["Resource"] for some in statements.values() for one in some]
    assert {name: [one["Action"] for one in some] for name, some in statements.items()} == {
        "Connect": ["dynamodb:UpdateItem"],
        "Disconnect": ["dynamodb:UpdateItem"],
        "Close": [
            ["sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage"],
            "dynamodb:UpdateItem",
            "execute-api:ManageConnections",
        ],
    }


def test_socket_without_a_cookie_is_401(url: str) -> None:
    with pytest.raises(Refused, match="401"):
        WebSocket(url, {"Origin": ORIGIN})


def test_socket_with_a_foreign_token_is_403(url: str, sessions: Sessions) -> None:
    foreign = f"{sessions.to_revoke['session_id']}.{'B' * 27}"

    with pytest.raises(Refused, match="403"):
        connect(url, foreign)


def test_socket_of_a_foreign_origin_is_403(url: str, sessions: Sessions) -> None:
    """The browser sends the cookie with it if the page is on the same site."""
    with pytest.raises(Refused, match="403"):
        connect(url, sessions.to_revoke["token"], "https://blog.example.com")


def test_sockets_are_closed_when_their_session_is_revoked(
    url: str, sessions: Sessions, call: ContractCaller
) -> None:
    token = sessions.to_revoke["token"]
    with closing(connect(url, token)) as first, closing(connect(url, token)) as second:
        assert first.is_open
        assert second.is_open

        call("DELETE", f"/sessions/{sessions.to_revoke['session_id']}")
        revoked = time.monotonic()
        first.wait_until_closed()
        second.wait_until_closed()

        assert time.monotonic() - revoked <= 120
    with pytest.raises(Refused, match="403"):
        connect(url, token)


def test_socket_is_closed_when_its_session_expires(
    url: str, sessions: Sessions, call: ContractCaller
) -> None:
    session = sessions.to_expire
    with closing(connect(url, session["token"])) as socket:
        path = f"/sessions/{session['session_id']}/renew"
        end = call("POST", path, {"ttl_seconds": 1}).json["expires_at"]
        assert socket.is_open

        socket.wait_until_closed()

        assert end <= time.time() <= latest(end, session["created_at"])


def test_each_session_has_one_end_in_time(sessions: Sessions, call: ContractCaller) -> None:
    def ends(session: Ended) -> list[dict[str, Any]]:
        query = {"session_id": session.session_id, "limit": 100}
        events = call("GET", "/events", query=query).json["items"]
        return [event for event in events if event["type"] in ENDS]

    for session in sessions.fifty:
        eventually(partial(ends, session), PATIENCE_SECONDS)

    for session in sessions.fifty:
        [end] = ends(session)
        assert end["type"] == session.end
        assert end["recorded_at"] <= latest(end["at"], session.created_at)
        if session.end == "expired":
            assert (end["at"], end["removed_by"]) == (session.at, "unknown"), "not by TTL"
