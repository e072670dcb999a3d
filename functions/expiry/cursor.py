"""The second up to which the sweeper has done its work, in an item of the `Timers` table."""

from __future__ import annotations

from contextlib import suppress

from sessions.dynamodb import ConditionFailed, DynamoDB, translated_errors
from sessions.lifetime import seconds

_KEY = {"Slot": {"S": "cursor"}, "Due": {"S": "cursor"}}


class Cursor:
    """All that was due before this second is done. It has no expiration time, so it stays."""

    def __init__(self, client: DynamoDB, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def read(self) -> int | None:
        """Return the second, in epoch seconds, or None before the first run.

        Raises `DynamoDBError`. It is a Query because the sweeper needs no other permission to read.
        """
        answer = self._client.query(
            TableName=self._table_name,
            KeyConditionExpression="Slot = :cursor",
            ExpressionAttributeValues={":cursor": _KEY["Slot"]},
            ConsistentRead=True,
        )
        done_before = [seconds(item, "DoneBefore") for item in answer["Items"]]
        return max(done_before, default=None)

    def move(self, second: int) -> None:
        """Move the cursor to `second`, unless it is there or further. Raises `SessionsError`."""
        with suppress(ConditionFailed), translated_errors():
            self._client.update_item(
                TableName=self._table_name,
                Key=_KEY,
                UpdateExpression="SET DoneBefore = :second",
                ConditionExpression="attribute_not_exists(DoneBefore) OR DoneBefore < :second",
                ExpressionAttributeValues={":second": {"N": str(second)}},
            )
