"""The real CDK app, deployed to a local AWS for the tests that follow."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.caller import Answer, Caller
from local.stack import HOST, LocalStack, running
from tests.contract import hold


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

    def __call__(self, method: str, path: str, *args: Any, **options: Any) -> Answer:
        answer = super().__call__(method, path, *args, **options)
        if answer.headers.get("content-type") == "application/x-amz-json-1.0":
            # MiniStack's type for a refusal by IAM; AWS says application/json.
            answer.headers["content-type"] = "application/json"
        hold(method, path, answer.status, answer.headers, answer.body)
        return answer


@pytest.fixture(scope="session")
def call(stack: LocalStack) -> HeldCaller:
    return HeldCaller(stack.url, stack.credentials("tests", "execute-api:Invoke"))


def eventually(happened: Callable[[], Any], seconds: float = 20) -> Any:
    """What `happened` answers as soon as it is true of anything."""
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return answer
