"""Calls of the deployed API. Every answer is checked against the contract."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.awsrequest import AWSRequest

from serverless_sessions._core.token import Token
from tests.support.caller import Answer, Caller
from tests.support.contract import assert_matches_contract

# The mark of tests for which the embedded service has to answer as the deployed stack does.
ALSO_EMBEDDED = pytest.mark.parametrize("call", ["deployed", "embedded"], indirect=True)


class ContractCaller(Caller):
    """Checks every answer against the contract."""

    def send(self, request: AWSRequest) -> Answer:
        answer = super().send(request)
        if answer.headers.get("content-type") == "application/x-amz-json-1.0":
            # MiniStack uses this type if IAM refuses a call. AWS uses application/json.
            answer.headers["content-type"] = "application/json"
        path = str(request.url).removeprefix(self.url)
        assert_matches_contract(
            str(request.method), path, answer.status, answer.headers, answer.body
        )
        return answer


def log_in(call: Caller, user_id: str, **fields: Any) -> tuple[str, str]:
    """Create a session. Return its id and token."""
    session = call("POST", "/sessions", {"user_id": user_id, **fields}).json
    return session["session_id"], session["token"]


def log_in_and_rotate(call: Caller, user_id: str, *, grace_seconds: int) -> tuple[str, str, str]:
    """Create a session and rotate its token. Return its id, the former and the new token."""
    session_id, former = log_in(call, user_id)
    return session_id, former, rotate(call, former, grace_seconds=grace_seconds)


def rotate(call: Caller, presented: str, *, grace_seconds: int) -> str:
    """Replace the presented token, and return the new one."""
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
