"""The real CDK app, deployed to a local AWS for the tests that follow."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest

from local.stack import HOST, LocalStack, running
from serverless_sessions._core.token import Token
from tests.caller import Answer, Caller
from tests.contract import assert_matches_contract


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    stack = LocalStack(free_port(), tmp_path_factory.mktemp("local"))
    with running(stack):
        yield stack


class HeldCaller(Caller):
    """Holds each answer against the contract."""

    def send(self, request: AWSRequest) -> Answer:
        answer = super().send(request)
        if answer.headers.get("content-type") == "application/x-amz-json-1.0":
            # MiniStack's type for a refusal by IAM; AWS says application/json.
            answer.headers["content-type"] = "application/json"
        path = str(request.url).removeprefix(self.url)
        assert_matches_contract(
            str(request.method), path, answer.status, answer.headers, answer.body
        )
        return answer


@pytest.fixture(scope="session")
def call(stack: LocalStack) -> HeldCaller:
    return HeldCaller(stack.url, stack.credentials("tests", "execute-api:Invoke"))


def log_in(call: Caller, user_id: str, **fields: Any) -> tuple[str, str]:
    """Session id and token."""
    session = call("POST", "/sessions", {"user_id": user_id, **fields}).json
    return session["session_id"], session["token"]


def log_in_and_rotate(call: Caller, user_id: str, *, grace_seconds: int) -> tuple[str, str, str]:
    """Session id, former and new token."""
    session_id, former = log_in(call, user_id)
    return session_id, former, rotate(call, former, grace_seconds=grace_seconds)


def rotate(call: Caller, presented: str, *, grace_seconds: int) -> str:
    """The new token that takes the place of the one presented."""
    token = parsed(presented).successor()
    answer = call(
        "POST",
        f"/sessions/{token.session_id}/rotate",
        {
            "token": presented,
            "grace_seconds": grace_seconds,
            "token_sha256": token.token_sha256,
        },
    )
    assert answer.status == 200, answer
    return token.text


def parsed(text: str) -> Token:
    token = Token.parse(text)
    assert token
    return token


def eventually(happened: Callable[[], Any], seconds: float = 120) -> Any:
    """What `happened` answers as soon as it is true of anything."""
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return answer
