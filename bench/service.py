"""This service on DynamoDB Local: its tables, and the environment of its functions."""

from __future__ import annotations

import sys
from typing import Any

import boto3

from bench.stores.worker import Worker
from bench.template import resources
from local.stack import REGION, ROOT

COMMAND = (sys.executable, "-m", "bench.stores.ours")
SESSIONS, AUDIT, TIMERS = "sessions", "audit", "timers"
# DynamoDB accepts this many items at once.
BATCH = 25
# The audit trail names the authorizer by this ARN.
_ROLE = "arn:aws:iam::111122223333:role/session-authorizer"
# What a table of DynamoDB Local has of a table in the template.
_MEMBERS = {"KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode"}


def dynamodb(endpoint: str) -> Any:
    """Return boto3's client of DynamoDB Local."""
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
    )


def sdk_environment(endpoint: str) -> dict[str, str]:
    """Return the variables that make any AWS SDK send its requests to `endpoint`."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
    }


def environment(endpoint: str) -> dict[str, str]:
    """Return the environment of all functions in the template, for one process."""
    variables = sdk_environment(endpoint) | {
        "PYTHONPATH": str(ROOT / "functions"),
        "POWERTOOLS_LOG_LEVEL": "WARNING",
    }
    for function in resources("AWS::Lambda::Function").values():
        for name, value in function.get("Environment", {}).get("Variables", {}).items():
            variables[name] = _deployed_value(value)
    return variables


def _deployed_value(value: Any) -> str:
    """Return the value that an environment variable of the template has in a deployment."""
    match value:
        case {"Ref": "AWS::Region"}:
            return REGION
        case {"Ref": "AWS::URLSuffix"}:
            return "amazonaws.com"
        case {"Fn::Join": [str(separator), [*parts]]}:
            return separator.join(map(_deployed_value, parts))
        case {"Ref": str(logical_id)}:
            return _table_name(logical_id)
        case {"Fn::GetAtt": [_, "Arn"]}:
            return _ROLE
    return str(value)


def create_tables(client: Any) -> None:
    """Create the tables as in the template."""
    for logical_id, table in resources("AWS::DynamoDB::GlobalTable").items():
        members = _MEMBERS & table.keys()
        client.create_table(
            TableName=_table_name(logical_id), **{name: table[name] for name in members}
        )


def store(client: Any, worker: Worker, **session: Any) -> list[Any]:
    """Store 25 sessions of a user directly in the table, in the form that the API uses.

    Returns their items.
    """
    items: list[Any] = worker.do("items", {"count": BATCH, "ttl_seconds": 1800, **session}).answer
    puts = [{"PutRequest": {"Item": item}} for item in items]
    answer = client.batch_write_item(RequestItems={SESSIONS: puts})
    if answer["UnprocessedItems"]:
        raise RuntimeError("DynamoDB Local left items of a batch unprocessed")
    return items


def _table_name(logical_id: str) -> str:
    if "Timers" in logical_id:
        return TIMERS
    return AUDIT if "Audit" in logical_id else SESSIONS
