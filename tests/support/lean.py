"""The lean DynamoDB client in tests, and what a server answers to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dynamodb import client as lean
from dynamodb.client import Client
from tests.support.proxy import answering

GOOD = answering(200, b'{"Item": {"A": {"N": "1"}}}')
ITEM = {"Item": {"A": {"N": "1"}}}
# A limit for tests that wait in vain, and what they may take in all on a busy machine.
SHORT, AT_MOST = 0.2, 20.0


@contextmanager
def connected() -> Iterator[Client]:
    """A client for the endpoint in the environment."""
    client = lean.connect()
    try:
        yield client
    finally:
        client.close()


def get(client: Client) -> dict[str, Any]:
    """Read an item, which is `ITEM` if the server answers `GOOD`."""
    return client.get_item(TableName="t", Key={"K": {"S": "k"}})


def idle(client: Client) -> list[Any]:
    """The connections that the client keeps."""
    connections: Any = client._transport
    idle: list[Any] = connections._idle
    return idle
