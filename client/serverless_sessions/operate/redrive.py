"""Plays failed events back: invokes the functions again with the records that they rejected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from serverless_sessions.operate.deployment import Deployment, OperationError
from serverless_sessions.operate.report import ask, say
from serverless_sessions.wording import Moment

# The batch size of the event source mapping.
_RECORDS_PER_INVOCATION = 100
# Lambda accepts up to 6 MiB in a synchronous invocation:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_BYTES_PER_INVOCATION = 6_000_000
# A single failure may be caused by the object. After this many in a row, the cause is elsewhere.
_FAILURES_IN_A_ROW = 3


class UnexpectedObject(Exception):
    """An object in the bucket cannot be played back. The message is the reason."""


class FailedEvents:
    """A bucket with failed stream records of `table`, and the function that processes them."""

    def __init__(self, deployment: Deployment, *, bucket: str, table: str, function: str) -> None:
        self.bucket = bucket
        self._table = table
        self._function = function
        self._deployment = deployment
        self._s3 = deployment.client("s3")
        self.no_such_key = self._s3.exceptions.NoSuchKey

    def objects(self) -> dict[str, datetime]:
        """Return the objects' keys, in order, and the time at which each object was stored."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {
            item["Key"]: item["LastModified"] for page in pages for item in page.get("Contents", ())
        }

    def read(self, key: str) -> list[dict[str, Any]]:
        """Return the stream records of an object.

        Raises `UnexpectedObject`, or botocore's `ClientError`. Lambda stores an invocation record,
        which contains the whole event as `payload`:
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
            raise UnexpectedObject(
                "it is not an invocation record with the stream records of exactly one table"
            ) from error
        if table != self._table:
            raise UnexpectedObject(f"its records are from the table {table}")
        return records

    def play_back(self, key: str) -> int:
        """Invoke the function with an object's records, delete the object, and return their number.

        Processing a record twice changes nothing, so this can be interrupted and repeated at any
        point. If the function rejects a record, raises `OperationError` and keeps the object.
        """
        records = self.read(key)
        for batch in batches(records):
            result = self._deployment.invoke(self._function, {"Records": batch})
            if result != {"batchItemFailures": []}:
                raise OperationError(
                    f"{self._function} did not process all records. Its log has the details."
                )
        self._s3.delete_object(Bucket=self.bucket, Key=key)
        return len(records)


def buckets(deployment: Deployment) -> Iterator[FailedEvents]:
    """Yield the bucket for failed events, then those for undelivered events and for failed timers.

    Only the first one always exists. The order matters: playing back the first bucket adds events
    to the trail, and the records of the second bucket come from the trail.
    """
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
    if deployment.has_output("TimersFunctionArn"):
        yield FailedEvents(
            deployment,
            bucket=deployment.output("FailedTimersBucket"),
            table=deployment.output("SessionsTableName"),
            function=deployment.output("TimersFunctionArn"),
        )


def batches(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split the records into batches that fit into one invocation, in order."""
    batch: list[dict[str, Any]] = []
    size = 0
    for record in records:
        length = len(json.dumps(record)) + len(", ")
        is_full = len(batch) == _RECORDS_PER_INVOCATION or size + length > _BYTES_PER_INVOCATION
        if batch and is_full:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    yield batch


def redrive(failed: FailedEvents, *, dry_run: bool, yes: bool) -> int:
    """Print what there is, ask for confirmation, play it back, and print what is left.

    Returns the exit code: 0 for success, 1 if objects are left, 2 if there is no terminal to ask
    on. Objects that arrive in the meantime are not played back. Otherwise a record that fails every
    time would keep this running forever.
    """
    bucket = failed.bucket
    objects = failed.objects()
    if not objects:
        say(f"{bucket} is empty: nothing failed.", bucket=bucket, objects=0)
        return 0
    keys, unexpected_count = _survey(failed, objects)
    if dry_run or not keys:
        say("Nothing was played back.", bucket=bucket, played_back=0)
        return 1 if unexpected_count else 0
    if not yes:
        answer = ask("Play them back?")
        if answer is None:
            say(
                "Nothing was played back: there is no one to ask; say --yes (YES=1 with make).",
                problem=True,
                bucket=bucket,
                played_back=0,
            )
            return 2
        if not answer:
            say("Nothing was played back.", bucket=bucket, played_back=0)
            return 0
    left = _play_back(failed, keys)
    if new_count := len(failed.objects().keys() - objects.keys()):
        say(
            f"Objects that came in meanwhile: {new_count}. Their records failed again, or are new.",
            bucket=bucket,
            new_objects=new_count,
        )
    if left:
        say(
            f"{left} of {len(keys)} objects are left; play them back again.",
            problem=True,
            bucket=bucket,
            left=left,
        )
    return 1 if left or unexpected_count else 0


def _survey(failed: FailedEvents, objects: dict[str, datetime]) -> tuple[list[str], int]:
    """Print what there is. Return the keys to play back, and the number of unexpected objects."""
    keys, unexpected_count, count = list[str](), 0, 0
    sessions, times = set[str](), list[Any]()
    for key in objects:
        try:
            records = failed.read(key)
        except failed.no_such_key:
            continue
        except UnexpectedObject as error:
            say(f"Left alone: {key}: {error}.", problem=True, bucket=failed.bucket, key=key)
            unexpected_count += 1
            continue
        keys.append(key)
        count += len(records)
        for change in (record.get("dynamodb") or {} for record in records):
            sessions.add(json.dumps(change.get("Keys")))
            times.append(change.get("ApproximateCreationDateTime"))
    if keys:
        oldest = min(objects[key] for key in keys)
        say(
            f"{failed.bucket} holds {count} records of {len(sessions)} sessions in {len(keys)}"
            f" objects, the oldest from {oldest:%Y-%m-%d %H:%M} UTC.",
            bucket=failed.bucket,
            records=count,
            sessions=len(sessions),
            objects=len(keys),
            oldest_at=int(oldest.timestamp()),
        )
    if known := [when for when in times if isinstance(when, int | float) and 0 <= when < 10**10]:
        first, last = Moment(int(min(known))), Moment(int(max(known)))
        say(
            f"The changes are from {first.date_and_time()} to {last.date_and_time()} UTC.",
            bucket=failed.bucket,
            first_change_at=first.seconds,
            last_change_at=last.seconds,
        )
    return keys, unexpected_count


def _play_back(failed: FailedEvents, keys: list[str]) -> int:
    """Play back the objects one by one, and return how many are left."""
    left = in_a_row = 0
    for number, key in enumerate(keys, start=1):
        try:
            count = failed.play_back(key)
        except failed.no_such_key:
            continue  # another redrive has played it back
        except (OperationError, BotoCoreError, ClientError) as error:
            say(f"Failed: {key}: {error}", problem=True, bucket=failed.bucket, key=key)
            left, in_a_row = left + 1, in_a_row + 1
            if in_a_row == _FAILURES_IN_A_ROW:
                return left + len(keys) - number
        else:
            in_a_row = 0
            say(
                f"  {number} of {len(keys)}: {count} records of {key}",
                bucket=failed.bucket,
                key=key,
                records=count,
            )
    return left
