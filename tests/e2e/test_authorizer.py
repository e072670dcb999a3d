"""The example API, protected by the deployed authorizer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from local.stack import ROOT, LocalStack, cdk
from serverless_sessions.operate.deployment import local_url
from tests.e2e.calls import ContractCaller, log_in, log_in_and_rotate, rotate
from tests.support.caller import Answer, Caller
from tests.support.waiting import eventually

ABSENT = "A" * 12
SECRET = "B" * 27
CACHE_SECONDS = 5


class Protected(NamedTuple):
    """The example API, deployed without and with a cache."""

    uncached: Caller
    cached: Caller


@pytest.fixture(scope="module")
def protected(stack: LocalStack) -> Iterator[Protected]:
    def deploy(cache_seconds: int) -> Caller:
        name = f"Protected{cache_seconds}"
        outputs = cdk(
            *(stack, ROOT / "examples/protected_api", "deploy", name),
            *("--context", f"authorizer_arn={stack.outputs['AuthorizerArn']}"),
            *("--context", f"cache_seconds={cache_seconds}", "--context", f"stack={name}"),
        )
        return Caller(local_url(stack.endpoint, outputs["ApiUrl"]), None)

    with ThreadPoolExecutor() as pool:
        yield Protected(*pool.map(deploy, [0, CACHE_SECONDS]))


def whoami(api: Caller, token: str) -> Answer:
    return api("GET", "/whoami", headers={"Authorization": f"Bearer {token}"})


def test_no_token_is_401(protected: Protected) -> None:
    """API Gateway does not call the authorizer."""
    answer = protected.uncached("GET", "/whoami")

    assert (answer.status, answer.json) == (401, {"message": "Unauthorized"})


@pytest.mark.parametrize("token", ["x", f"{ABSENT}.{SECRET}"])
def test_bad_token_is_403(protected: Protected, token: str) -> None:
    answer = whoami(protected.uncached, token)

    assert (answer.status, answer.json) == (403, {"message": "Forbidden"})


def test_wrong_secret_is_403(protected: Protected, call: ContractCaller) -> None:
    session_id, _ = log_in(call, "guest")

    assert whoami(protected.uncached, f"{session_id}.{SECRET}").status == 403


def test_good_token_passes_with_its_session(protected: Protected, call: ContractCaller) -> None:
    session_id, token = log_in(call, "guest", methods=["pwd", "otp"])

    answer = whoami(protected.uncached, token)

    assert answer.status == 200
    session = call("GET", f"/sessions/{session_id}").json
    assert answer.json == {
        "session_id": session_id,
        "user_id": "guest",
        "expires_at": session["expires_at"],
        "authenticated_at": session["authenticated_at"],
        "methods": "pwd otp",
    }


def test_impersonated_token_passes_with_the_impersonator(
    protected: Protected, call: ContractCaller
) -> None:
    agent = {"id": "grace", "reason": "ticket-42"}
    _, token = log_in(call, "guest", impersonator=agent)

    answer = whoami(protected.uncached, token).json

    assert answer["impersonator"] == "grace"
    assert "authenticated_at" not in answer


def test_revoked_token_is_refused_at_once_without_a_cache(
    protected: Protected, call: ContractCaller
) -> None:
    session_id, token = log_in(call, "guest")
    assert whoami(protected.uncached, token).status == 200

    call("DELETE", f"/sessions/{session_id}")

    assert whoami(protected.uncached, token).status == 403


def test_revoked_token_is_refused_once_the_cache_has_expired(
    protected: Protected, call: ContractCaller
) -> None:
    """Until then, API Gateway accepts it. This is the price of the cache."""
    session_id, token = log_in(call, "guest")
    asked = time.monotonic()
    assert whoami(protected.cached, token).status == 200
    answered = time.monotonic()

    call("DELETE", f"/sessions/{session_id}")

    # It may only be refused if this machine took longer than the cache's time.
    passed = whoami(protected.cached, token).status == 200
    assert passed or time.monotonic() - asked > CACHE_SECONDS
    time.sleep(max(0, answered + CACHE_SECONDS - time.monotonic()))
    assert whoami(protected.cached, token).status == 403


def test_expired_token_is_refused(protected: Protected, call: ContractCaller) -> None:
    _, token = log_in(call, "guest", ttl_seconds=1)
    time.sleep(1.1)

    assert whoami(protected.uncached, token).status == 403


def test_rotated_token_passes_and_the_former_one_in_its_grace(
    protected: Protected, call: ContractCaller, stack: LocalStack
) -> None:
    """The grace period begins with the first use of the new token. The authorizer records it."""
    session_id, former, new = log_in_and_rotate(call, "guest", grace_seconds=3600)

    assert whoami(protected.uncached, former).status == 200
    assert "PreviousTokenGrace" in stored(stack, session_id)
    assert whoami(protected.uncached, new).status == 200
    assert "PreviousTokenGrace" not in stored(stack, session_id)
    assert whoami(protected.uncached, former).status == 200


def test_older_token_ends_the_session(protected: Protected, call: ContractCaller) -> None:
    """Somebody has a copy of the token. The trail says that the authorizer ended the session."""
    session_id, stolen, new = log_in_and_rotate(call, "guest", grace_seconds=1)
    for _ in range(2):
        new = rotate(call, new, grace_seconds=1)

    assert whoami(protected.uncached, stolen).status == 403
    assert whoami(protected.uncached, new).status == 403

    def revoked() -> Any:
        events = call("GET", "/events", query={"session_id": session_id}).json["items"]
        return next((event for event in events if event["type"] == "revoked"), None)

    event = eventually(revoked)
    assert event["reason"] == "token_reuse"
    assert "Authorizer" in event["actor"]


def stored(stack: LocalStack, session_id: str) -> dict[str, Any]:
    item: dict[str, Any] = stack.client("dynamodb").get_item(
        TableName=stack.outputs["SessionsTableName"],
        Key={"SessionId": {"S": session_id}},
        ConsistentRead=True,
    )["Item"]
    return item
