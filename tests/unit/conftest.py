"""The lean DynamoDB client, and the server that it talks to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dynamodb import client as lean
from dynamodb.client import Client
from tests.support.lean import connected
from tests.support.proxy import Proxy, proxy_to


@pytest.fixture
def server() -> Iterator[Proxy]:
    with proxy_to() as server:
        yield server


@pytest.fixture
def client(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setattr(lean, "_PAUSE_SECONDS", (0, 0))
    with connected() as client:
        yield client
