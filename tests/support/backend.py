"""The DynamoDB that a test runs on, and the client of the functions that goes with it."""

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
from serverless_sessions.serve.tables import Tables
from tests.support.memory import InMemory, MemorySdk

MOTO = "boto3 on moto"
DYNAMODB_LOCAL = "lean on DynamoDB Local"
MEMORY = "lean in memory"
# AWS's own engine, with the client that ships; `make test-quick` has the tables in memory.
DEFAULT = os.environ.get("BACKEND", DYNAMODB_LOCAL)


# Marks for modules and tests; the nearest one counts.
ON_BOTH = pytest.mark.backends(MOTO, DEFAULT)
ON_DYNAMODB_LOCAL = pytest.mark.backends(DYNAMODB_LOCAL)
# The tables in memory take values that DynamoDB refuses.
NOT_IN_MEMORY = pytest.mark.backends(MOTO, DYNAMODB_LOCAL)
IN_MEMORY = pytest.mark.backends(MEMORY)


class Backend(NamedTuple):
    """A DynamoDB: `client` as the functions use it, and boto3's own `sdk`, for tests."""

    client: Any
    sdk: Any


@cache
def on_moto() -> Backend:
    """It has no tables outside `moto.mock_aws`."""
    client = boto3_client.connect()
    return Backend(client, client.sdk)


def in_memory() -> Backend:
    """It has both tables, empty."""
    tables = Tables(lambda: 0.0, lambda: 0.0, lambda old, new: None)
    return Backend(lean.Client(InMemory(tables), region="us-east-1"), MemorySdk(tables))


def insert_statements(
    backend: DynamoDBBackend, statements: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """BatchExecuteStatement for INSERT alone: moto's own loses the parameters of an INSERT.

    As DynamoDB does, it refuses an existing key and an empty one of an index per statement, and a
    key given twice altogether.
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
