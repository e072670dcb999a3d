"""Plays failed events back through the functions that could not take them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from serverless_sessions.operate.deployment import Deployment, OperationError

# As the event source mapping does it.
_RECORDS_PER_INVOCATION = 100
# Lambda takes 6 MiB in a synchronous invocation:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_BYTES_PER_INVOCATION = 6_000_000
# One object may be at fault itself; so many in a row mean that the cause is elsewhere.
_FAILURES_IN_A_ROW = 3


class Foreign(Exception):
    """Why an object can't be played back, in a few words."""


class FailedEvents:
    """A bucket of a deployment, and the function that takes the records of `table`."""

    def __init__(self, deployment: Deployment, *, bucket: str, table: str, function: str) -> None:
        self.bucket = bucket
        self._table = table
        self._function = function
        self._deployment = deployment
        self._s3 = deployment.client("s3")
        # Raised where an object is not there any more.
        self.gone = self._s3.exceptions.NoSuchKey

    def objects(self) -> dict[str, datetime]:
        """When each object was put there, by its key, in the order of the keys."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {
            item["Key"]: item["LastModified"] for page in pages for item in page.get("Contents", ())
        }

    def read(self, key: str) -> list[dict[str, Any]]:
        """The stream records of an object.

        Raises `Foreign`, or botocore's `ClientError`. The form is that of Lambda's invocation
        record, which has the whole event as `payload`:
        https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
        """
        body = self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        try:
            payload = json.loads(body)["payload"]
            event = json.loads(payload) if isinstance(payload, str) else payload
            records = list(event["Records"])
            # arn:aws:dynamodb:<region>:<account>:table/<name>/stream/<time>
            [table] = {record["eventSourceARN"].split("/")[1] for record in records}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Foreign("it is no invocation record of one table's stream") from error
        if table != self._table:
            raise Foreign(f"its records are from the table {table}")
        return records

    def play_back(self, key: str) -> int:
        """Give an object's records to their function, delete it, and return how many they were.

        A record that is given twice changes nothing, so this may end at any point and begin anew.
        Raises `OperationError` if not all were taken: the object then stays.
        """
        records = self.read(key)
        for lot in lots(records):
            answer = self._deployment.invoke(self._function, {"Records": lot})
            if answer != {"batchItemFailures": []}:
                raise OperationError(
                    f"{self._function} did not take all records; its log tells more."
                )
        self._s3.delete_object(Bucket=self.bucket, Key=key)
        return len(records)


def buckets(deployment: Deployment) -> Iterator[FailedEvents]:
    """What the trail could not take, then what could not go out, which is of the trail."""
    yield FailedEvents(
        deployment,
        bucket=deployment.output("FailedEventsBucket"),
        table=deployment.output("SessionsTableName"),
        function=deployment.output("AuditFunctionArn"),
    )
    if deployment.has_output("EventsFunctionArn"):
        yield FailedEvents(
            deployment,
            bucket=deployment.output("UndeliveredEventsBucket"),
            table=deployment.output("AuditTableName"),
            function=deployment.output("EventsFunctionArn"),
        )


def lots(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The records in their order, as many at a time as one invocation takes."""
    lot: list[dict[str, Any]] = []
    size = 0
    for record in records:
        length = len(json.dumps(record)) + len(", ")
        if lot and (len(lot) == _RECORDS_PER_INVOCATION or size + length > _BYTES_PER_INVOCATION):
            yield lot
            lot, size = [], 0
        lot.append(record)
        size += length
    yield lot


def redrive(failed: FailedEvents, *, dry_run: bool, yes: bool) -> int:
    """Print what there is, ask, play it back, and print what is left.

    Returns the exit code: 0 when all went well, 1 when something is left, 2 when there is no one to
    ask. What comes in meanwhile is for the next time: a record that fails again must not go on
    forever.
    """
    listed = failed.objects()
    if not listed:
        print(f"{failed.bucket} is empty: nothing failed.")
        return 0
    keys, foreign = _survey(failed, listed)
    if dry_run or not keys:
        print("Nothing was played back.")
        return 1 if foreign else 0
    if not yes:
        if not sys.stdin.isatty():
            print(
                "Nothing was played back: there is no one to ask; say --yes (YES=1 with make).",
                file=sys.stderr,
            )
            return 2
        print("Play them back? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("Nothing was played back.")
            return 0
    left = _play_back(failed, keys)
    if came := len(failed.objects().keys() - listed.keys()):
        print(f"Objects that came in meanwhile: {came}. Their records failed again, or are new.")
    if left:
        print(f"{left} of {len(keys)} objects are left; play them back again.", file=sys.stderr)
    return 1 if left or foreign else 0


def _survey(failed: FailedEvents, listed: dict[str, datetime]) -> tuple[list[str], int]:
    """Print what there is; return the keys to play back and how many objects are foreign."""
    keys, foreign, count = list[str](), 0, 0
    sessions, times = set[str](), list[Any]()
    for key in listed:
        try:
            records = failed.read(key)
        except failed.gone:
            continue
        except Foreign as error:
            print(f"Left alone: {key}: {error}.", file=sys.stderr)
            foreign += 1
            continue
        keys.append(key)
        count += len(records)
        for change in (record.get("dynamodb") or {} for record in records):
            sessions.add(json.dumps(change.get("Keys")))
            times.append(change.get("ApproximateCreationDateTime"))
    if keys:
        oldest = min(listed[key] for key in keys)
        print(
            f"{failed.bucket} holds {count} records of {len(sessions)} sessions in {len(keys)}"
            f" objects, the oldest from {oldest:%Y-%m-%d %H:%M} UTC."
        )
    if known := [when for when in times if isinstance(when, int | float) and 0 <= when < 10**10]:
        print(f"The changes are from {_utc(min(known))} to {_utc(max(known))} UTC.")
    return keys, foreign


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _play_back(failed: FailedEvents, keys: list[str]) -> int:
    """Play back one object after the other, and return how many are left."""
    left = in_a_row = 0
    for number, key in enumerate(keys, start=1):
        try:
            count = failed.play_back(key)
        except failed.gone:
            continue  # someone else plays back too
        except (OperationError, BotoCoreError, ClientError) as error:
            print(f"Failed: {key}: {error}", file=sys.stderr, flush=True)
            left, in_a_row = left + 1, in_a_row + 1
            if in_a_row == _FAILURES_IN_A_ROW:
                return left + len(keys) - number
        else:
            in_a_row = 0
            print(f"  {number} of {len(keys)}: {count} records of {key}", flush=True)
    return left
