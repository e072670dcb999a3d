"""The `Timers` table. A timer says when to look at a session again, because it may have expired.

A timer never decides that a session has expired. So a timer too many costs a look, and one that was
forged does no harm.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import clock
from dynamodb import batches
from dynamodb.batches import Failures, check_time
from sessions.dynamodb import DynamoDB, Item
from sessions.limits import MAX_LIFETIME_SECONDS

# The timers of a minute are spread over this many partitions.
SHARDS = 16
# A new timer takes effect up to 7 s after its `now`, on a host whose clock may differ by 2 s. The
# sweeper reads what was due 10 s ago, so it can't pass a timer that is still being written.
_AHEAD_SECONDS = 5
# TTL deletes timers, which are never deleted otherwise. The sweeper may be late by a week.
_RETENTION_SECONDS = 7 * 24 * 3600
_PAGE = 1000


class Timer(NamedTuple):
    """Sorts by `due`, which is in epoch seconds."""

    due: int
    session_id: str


class Timers:
    """Timers in DynamoDB. Their keys contain everything, so a timer that is added twice is one."""

    def __init__(self, client: DynamoDB, table_name: str) -> None:
        self._client = client
        self._table_name = table_name
        # IAM can allow this statement without also allowing to overwrite or delete a timer.
        self._insert = (
            f"INSERT INTO \"{table_name}\" VALUE {{'Slot': ?, 'Due': ?, 'ExpirationTime': ?}}"
        )

    def add(self, times: Mapping[str, int], *, deadline: float) -> Failures[str]:
        """Set a timer for each of these sessions. Returns the ids of those that have none.

        `times` are the times in epoch seconds after which to look at them. No request begins after
        `deadline`, by `clock.monotonic()`.
        """
        failures = batches.execute(
            self._client,
            times,
            lambda session_id: {
                "Statement": self._insert,
                "Parameters": _parameters(session_id, _due(times[session_id], clock.now())),
            },
            deadline=deadline,
        )
        return failures._replace(condition_failed=[])  # the same timer exists already

    def due(self, start: int, stop: int, *, deadline: float) -> list[Timer]:
        """Return the timers from `start` on and before `stop`, in their order.

        Both are in epoch seconds, and within one minute. Raises `DynamoDBError` and `OutOfTime`.
        """
        return sorted(
            _timer(item["Due"]["S"], start, stop)
            for shard in range(SHARDS)
            for item in self._shard(_slot(start, shard), start, stop, deadline)
        )

    def _shard(self, slot: str, start: int, stop: int, deadline: float) -> list[Item]:
        items: list[Item] = []
        page: dict[str, Any] = {}
        while True:
            check_time(deadline)
            answer = self._client.query(
                TableName=self._table_name,
                KeyConditionExpression="Slot = :slot AND Due BETWEEN :start AND :stop",
                ExpressionAttributeValues={
                    ":slot": {"S": slot},
                    # The key of a timer is longer than the ten digits of its second, so it sorts
                    # behind them.
                    ":start": {"S": f"{start:010d}"},
                    ":stop": {"S": f"{stop:010d}"},
                },
                ConsistentRead=True,
                Limit=_PAGE,
                **page,
            )
            items += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return items
            page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def _due(time: int, now: int) -> int:
    """Return when a timer for this time is due.

    It is never in a second that the sweeper may have passed already. Nor is it later than any end
    that the service writes, such as an end in milliseconds would be.
    """
    return min(max(time, now + _AHEAD_SECONDS), now + MAX_LIFETIME_SECONDS)


def _slot(due: int, shard: int) -> str:
    return f"{due // 60:010d}#{shard}"


def _parameters(session_id: str, due: int) -> list[Any]:
    shard = zlib.crc32(session_id.encode()) % SHARDS
    return [
        {"S": _slot(due, shard)},
        {"S": f"{due:010d}#{session_id}"},
        {"N": str(due + _RETENTION_SECONDS)},
    ]


def _timer(key: str, start: int, stop: int) -> Timer:
    """Return the timer with this key, which sorts between `start` and `stop`.

    If somebody else has written the key, it may begin with anything. The timer is then due within
    these bounds all the same, so that it can't move the cursor.
    """
    due, _, session_id = key.partition("#")
    seconds = int(due) if due.isdecimal() else start
    return Timer(max(start, min(seconds, stop - 1)), session_id)
