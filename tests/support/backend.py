"""The DynamoDB on which a test runs, and the functions' client for it."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any, NamedTuple

import pytest
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType

from dynamodb import boto3_client
from dynamodb import client as lean
from serverless_sessions.serve.service import REGION, InMemory
from serverless_sessions.serve.tables import Tables
from tests.support.memory import MemorySdk

MOTO = "boto3 on moto"
DYNAMODB_LOCAL = "lean on DynamoDB Local"
MEMORY = "lean in memory"
# AWS's own engine with the deployed client. `make test-quick` uses the tables in memory.
DEFAULT = os.environ.get("BACKEND", DYNAMODB_LOCAL)


# Marks for modules and tests. The mark of a test replaces the mark of its module.
ON_BOTH = pytest.mark.backends(MOTO, DEFAULT)
ON_DYNAMODB_LOCAL = pytest.mark.backends(DYNAMODB_LOCAL)
# The tables in memory have only the operations of the service.
NOT_IN_MEMORY = pytest.mark.backends(MOTO, DYNAMODB_LOCAL)
IN_MEMORY = pytest.mark.backends(MEMORY)


class Backend(NamedTuple):
    """A DynamoDB: `client` as the functions use it, and boto3's own client `sdk` for tests."""

    client: Any
    sdk: Any


@cache
def on_moto() -> Backend:
    """Return a backend without tables. It only works inside `moto.mock_aws`."""
    client = boto3_client.connect()
    return Backend(client, client.sdk)


def in_memory() -> Backend:
    """Return a backend with both tables, which are empty."""
    tables = Tables(lambda: 0.0, lambda: 0.0, lambda old, new: None)
    return Backend(lean.Client(InMemory(tables), region=REGION), MemorySdk(tables))


def insert_statements(
    backend: DynamoDBBackend, statements: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Implement BatchExecuteStatement for INSERT, because moto loses the parameters of an INSERT.

    Like DynamoDB, it rejects a single statement for an existing key or an empty index key, and the
    whole request if it contains a key twice.
    """
    answers: list[dict[str, Any]] = []
    seen = set()
    assert len(statements) <= 25
    for statement in statements:
        insert = re.fullmatch(r'INSERT INTO "(.+)" VALUE {(.+)}', statement["Statement"])
        assert insert, statement
        names = re.findall(r"'(\w+)': \?", insert[2])
        item = dict(zip(names, statement["Parameters"], strict=True))
        key = item["SessionId"]["S"], item["EventId"]["S"]
        assert key not in seen, "DynamoDB refuses the whole request"
        seen.add(key)
        table = backend.get_table(insert[1])
        if item.get("UserId") == {"S": ""}:
            answers.append({"Error": {"Code": "ValidationError", "Message": "empty index key"}})
        elif table.get_item(DynamoType(item["SessionId"]), DynamoType(item["EventId"])):
            answers.append({"Error": {"Code": "DuplicateItem", "Message": "exists"}})
        else:
            table.put_item(item)
            answers.append({"TableName": insert[1]})
    return answers
