"""What the local stack's DynamoDB does where MiniStack itself differs from AWS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local.stack import LocalStack

# The statement with which expired sessions are deleted.
DELETE = (
    'DELETE FROM "partiql" WHERE "SessionId" = ? AND "ExpirationTime" <= ?'
    ' AND "RevokedAt" IS MISSING'
)


@pytest.fixture
def table(stack: LocalStack) -> Iterator[str]:
    """The ARN of the stream of a new table `partiql`, which is deleted in the end."""
    dynamodb = stack.client("dynamodb")
    description = dynamodb.create_table(
        TableName="partiql",
        KeySchema=[{"AttributeName": "SessionId", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "SessionId", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]
    yield description["LatestStreamArn"]
    dynamodb.delete_table(TableName="partiql")


def item(session_id: str, **more: int) -> dict[str, Any]:
    numbers = {"ExpirationTime": 100} | more
    return {"SessionId": {"S": session_id}} | {
        name: {"N": str(number)} for name, number in numbers.items()
    }


def records(stack: LocalStack, stream: str) -> list[tuple[str, Any, Any, Any]]:
    """Return event name, old image, new image and identity of all records of the stream."""
    streams = stack.client("dynamodbstreams")
    [shard] = streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return [
        (
            record["eventName"],
            record["dynamodb"].get("OldImage"),
            record["dynamodb"].get("NewImage"),
            record.get("userIdentity"),
        )
        for record in streams.get_records(ShardIterator=iterator)["Records"]
    ]


def test_partiql_writes_stream_records(stack: LocalStack, table: str) -> None:
    """A deletion by PartiQL is one by a caller, not by TTL. Nothing else creates a record."""
    dynamodb = stack.client("dynamodb")
    inserted = [item("expired"), item("live", ExpirationTime=101), item("ended", RevokedAt=9)]
    for session in inserted:
        names = ", ".join(f"'{name}': ?" for name in session)
        dynamodb.execute_statement(
            Statement=f'INSERT INTO "partiql" VALUE {{{names}}}', Parameters=list(session.values())
        )

    answer = dynamodb.batch_execute_statement(
        Statements=[
            {"Statement": DELETE, "Parameters": [{"S": session_id}, {"N": "100"}]}
            for session_id in ("expired", "live", "ended", "absent")
        ]
    )

    errors = [response.get("Error", {}).get("Code") for response in answer["Responses"][:3]]
    assert errors == [None, "ConditionalCheckFailed", "ConditionalCheckFailed"]
    assert records(stack, table) == [
        *(("INSERT", None, session, None) for session in inserted),
        ("REMOVE", item("expired"), None, None),
    ]


def test_permission_to_delete_by_partiql_allows_nothing_else(stack: LocalStack, table: str) -> None:
    may = stack.client("dynamodb", stack.credentials("sweeper", "dynamodb:PartiQLDelete"))

    may.execute_statement(Statement=DELETE, Parameters=[{"S": "absent"}, {"N": "100"}])

    insert = "INSERT INTO \"partiql\" VALUE {'SessionId': ?}"
    with pytest.raises(may.exceptions.ClientError, match="AccessDenied"):
        may.execute_statement(Statement=insert, Parameters=[{"S": "absent"}])
    with pytest.raises(may.exceptions.ClientError, match="AccessDenied"):
        may.delete_item(TableName="partiql", Key={"SessionId": {"S": "absent"}})
