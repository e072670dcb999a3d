"""The lean client's signature, on a stack that enforces IAM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from dynamodb import client as lean
from dynamodb.errors import RequestRefused
from local.stack import LocalStack

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@pytest.fixture
def client(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[lean.Client]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", stack.endpoint)
    with closing(lean.connect()) as client:
        yield client


def get(client: lean.Client, stack: LocalStack) -> object:
    key = {"SessionId": {"S": "A" * 12}}
    return client.get_item(TableName=stack.outputs["SessionsTableName"], Key=key)


def refusal(client: lean.Client, stack: LocalStack) -> str:
    with pytest.raises(RequestRefused) as refused:
        get(client, stack)
    return refused.value.code


def test_keys_of_a_user(
    client: lean.Client, stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user with the permission to read is accepted. A wrong secret is not."""
    keys = stack.credentials("lean", "dynamodb:GetItem")
    monkeypatch.setenv(KEYS[0], keys.access_key)
    monkeypatch.setenv(KEYS[1], keys.secret_key)
    assert get(client, stack) == {}

    monkeypatch.setenv(KEYS[1], "guessed")
    assert refusal(client, stack) == "InvalidSignatureException"


def test_keys_of_a_role(
    client: lean.Client, stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function has such keys. They include a session token, which must be correct."""
    sts = stack.client("sts")
    keys = sts.get_session_token()["Credentials"]
    for name, part in zip(KEYS, ("AccessKeyId", "SecretAccessKey", "SessionToken"), strict=True):
        monkeypatch.setenv(name, keys[part])
    assert get(client, stack) == {}

    monkeypatch.setenv(KEYS[2], "guessed")
    assert refusal(client, stack) == "UnrecognizedClientException"
