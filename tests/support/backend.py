"""The DynamoDB that a test runs on, and the client of the functions that goes with it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType

from dynamodb import boto3_client


class Backend(NamedTuple):
    """A DynamoDB: `client` as the functions use it, and boto3's own `sdk`, for tests."""

    client: Any
    sdk: Any


@cache
def on_moto() -> Backend:
    client = boto3_client.connect()
    return Backend(client, client.sdk)


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
