"""The function URL of the deployed local stack, with the policy of docs/integrating."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from local.stack import LocalStack
from serverless_sessions import Sessions
from serverless_sessions.errors import NotAllowed, SessionNotFound
from tests.support.caller import Caller
from tests.support.functions import sample
from tests.support.template import ROOT
from tests.support.waiting import eventually

PAGE = (ROOT / "docs/integrating/permissions.md").read_text()


def documented_statements(stack: LocalStack) -> list[dict[str, Any]]:
    """Return the statements of the policy for the function URL."""
    [block] = re.findall(r"^```json\n(\[.+?\])\n^```", PAGE, re.MULTILINE | re.DOTALL)
    statements: list[dict[str, Any]] = json.loads(
        block.replace("FUNCTION", stack.outputs["ApiFunctionArn"])
    )
    return statements


@pytest.fixture(scope="module")
def keys(stack: LocalStack) -> Callable[..., Credentials]:
    """Create a user who is allowed these statements."""

    def create(user: str, *statements: dict[str, Any]) -> Credentials:
        keys = stack.credentials(user)
        if statements:
            policy = {"Version": "2012-10-17", "Statement": statements}
            stack.client("iam").put_user_policy(
                UserName=user, PolicyName="guide", PolicyDocument=json.dumps(policy)
            )
        return keys

    return create


def through_url(stack: LocalStack, keys: Credentials) -> Sessions:
    return stack.sessions(keys, stack.function_url)


def test_session_lives_through_the_function_url(
    stack: LocalStack, keys: Callable[..., Credentials]
) -> None:
    """The trail names the caller whom Lambda has authenticated."""
    user_id = "url|a/b@c +&,%😀"
    with through_url(stack, keys("url-user", *documented_statements(stack))) as sessions:
        issued = sessions.create(user_id, data={"k": "ä"})
        session_id = issued.session.session_id

        assert sessions.verify(issued.token) == issued.session
        assert sessions.change(session_id, {"k": None}).data == {}
        rotated = sessions.rotate(session_id, token=issued.token)
        assert sessions.verify(rotated.token)
        assert session_id in [session.session_id for session in sessions.list(user_id)]
        sessions.revoke(session_id)
        with pytest.raises(SessionNotFound):
            sessions.get(session_id)

        def recorded() -> list[Any]:
            events = list(sessions.events(session_id=session_id, newest_first=False))
            return events if {"created", "revoked"} <= {event.type for event in events} else []

        created = eventually(recorded)[0]
    assert created.actor.endswith(":user/url-user")


def test_function_url_may_not_be_bypassed(
    stack: LocalStack, keys: Callable[..., Credentials]
) -> None:
    """Whoever may invoke the function itself can name any caller in the event."""
    client = stack.client("lambda", keys("url-bypass", *documented_statements(stack)))

    with pytest.raises(ClientError, match="AccessDenied"):
        client.invoke(
            FunctionName=stack.outputs["ApiFunctionArn"],
            Payload=json.dumps(sample("api_function_url")).encode(),
        )


def test_wrong_signature_is_refused(stack: LocalStack, keys: Callable[..., Credentials]) -> None:
    known = keys("url-forger", *documented_statements(stack))

    with (
        through_url(stack, Credentials(known.access_key, "guessed")) as sessions,
        pytest.raises(NotAllowed),
    ):
        sessions.get("A" * 12)


def test_signature_for_another_service_is_refused(
    stack: LocalStack, keys: Callable[..., Credentials]
) -> None:
    url_keys = keys("url-service", *documented_statements(stack))

    assert Caller(stack.function_url, url_keys)("GET", "/sessions/x").status == 403
    answer = Caller(stack.function_url, url_keys, aws_service="lambda")("GET", "/sessions/x")
    assert (answer.status, answer.json["code"]) == (404, "session_not_found")
    answer = Caller(stack.function_url, url_keys, aws_service="lambda")("GET", "/nowhere")
    assert (answer.status, answer.json["code"]) == (404, "route_not_found")


@pytest.mark.parametrize("allowed", [(), (0,), (1,)], ids=["neither", "first", "second"])
def test_caller_without_both_permissions_is_refused(
    stack: LocalStack, keys: Callable[..., Credentials], allowed: tuple[int, ...]
) -> None:
    statements = documented_statements(stack)
    some = keys(f"url-{len(allowed)}{sum(allowed)}", *(statements[number] for number in allowed))

    with through_url(stack, some) as sessions, pytest.raises(NotAllowed):
        sessions.get("A" * 12)


def test_permission_for_the_api_is_none_for_the_function_url(stack: LocalStack) -> None:
    with (
        through_url(stack, stack.credentials("url-api", "execute-api:Invoke")) as sessions,
        pytest.raises(NotAllowed),
    ):
        sessions.get("A" * 12)
