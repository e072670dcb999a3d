"""Creates both tables of the synthesized template, on any DynamoDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3

from tests.support.template import resources


@cache
def sdk(endpoint: str) -> Any:
    return boto3.client("dynamodb", endpoint_url=endpoint)


@contextmanager
def created_tables(client: Any) -> Iterator[Any]:
    """Create both tables, which are empty, and delete them at the end.

    The attributes `sessions` and `audit` are their names, and `client` is boto3's client.
    """
    for name, schema in table_schemas().items():
        client.create_table(TableName=name, **schema)
    assert sorted(client.list_tables()["TableNames"]) == ["audit", "sessions"]
    try:
        yield SimpleNamespace(client=client, sessions="sessions", audit="audit")
    finally:
        for name in table_schemas():
            client.delete_table(TableName=name)


@cache
def table_schemas() -> dict[str, dict[str, Any]]:
    """Return the arguments of CreateTable by the names of the tables in tests."""
    members = ("KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")
    return {
        "audit" if "Audit" in logical_id else "sessions": {name: table[name] for name in members}
        for logical_id, table in resources("AWS::DynamoDB::GlobalTable").items()
    }
