"""The stream consumer: every change of the `Sessions` table becomes a line of the audit trail."""

from __future__ import annotations

import gc

gc.disable()  # see the end

import os
from collections.abc import Iterable
from time import monotonic, time
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from audit import failed_events
from audit.classify import events_in, is_kept, unreadable
from audit.event import AuditEvent
from audit.trail import AuditTrail
from session_audit import metrics
from sessions.dynamodb import connect

logger = Logger()
trail = AuditTrail(connect(), os.environ["AUDIT_TABLE"])
retention_seconds = int(os.environ["AUDIT_RETENTION_SECONDS"])
unrecorded = os.environ["UNRECORDED_EVENTS"].split(",")
record_anonymous = os.environ["RECORD_ANONYMOUS"] == "true"
not_before = int(os.environ["NOT_BEFORE"])
# The setting came with this version of the functions, which is no younger than this environment.
started_at = int(time())
bucket = os.environ["FAILED_EVENTS_BUCKET"]
# Of the function's minute: the rest is for the request under way, the bucket and the answer.
APPEND_SECONDS = 30

# Events by their keys, each with its record.
Batch = dict[tuple[str, str], tuple[AuditEvent, Any]]


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record a batch; answers the lowest record that is not on record, from which Lambda repeats.

    https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html

    Only an outage makes it repeat. A record that can't be read, and one whose event DynamoDB will
    never take, is on record as `unreadable`, and kept whole in the bucket.
    """
    deadline = monotonic() + APPEND_SECONDS
    batch = _keyed(
        (found, record)
        for record in event["Records"]
        for found in events_in(record, not_before=not_before, enforced_since=started_at)
    )
    recorded, missed, refused = _append(batch, deadline)
    instead = _keyed((unreadable(each), each) for each in refused)
    recorded_too, missed_too, _ = _append(instead, deadline)
    missed += missed_too
    metrics.emit(recorded + recorded_too, function_name=context.function_name, now=time())

    strange = [each for each in (batch | instead).values() if each[0].type == "unreadable"]
    for found, _ in strange:
        logger.error("unreadable stream record", event_id=found.event_id)
    lowest = _lowest(missed)
    passed = [each for _, each in strange if not _comes_again(each, lowest)]
    if passed and not failed_events.keep(passed, bucket=bucket):
        lowest = _lowest(missed + passed)
    logger.info("recorded", events=len(batch), missed=len(missed), unreadable=len(strange))
    return {"batchItemFailures": [] if lowest is None else [{"itemIdentifier": lowest}]}


def _keyed(found: Iterable[tuple[AuditEvent, Any]]) -> Batch:
    # The same key twice would fail the whole request.
    return {
        (event.session_id, event.event_id): (event, record)
        for event, record in found
        if is_kept(event, record, unrecorded, record_anonymous=record_anonymous)
    }


def _append(batch: Batch, deadline: float) -> tuple[list[AuditEvent], list[Any], list[Any]]:
    """Answers the events that are on record, and the records of those that are not.

    These are the ones that are missing for now, and then the ones that are refused for good.
    """
    missed = trail.append(
        [event for event, _ in batch.values()],
        retention_seconds=retention_seconds,
        deadline=deadline,
    )
    absent = missed.for_now + missed.for_good
    recorded = [event for event, _ in batch.values() if event not in absent]
    records = [
        [batch[event.session_id, event.event_id][1] for event in events]
        for events in (missed.for_now, missed.for_good)
    ]
    return recorded, records[0], records[1]


def _lowest(records: list[Any]) -> str | None:
    """The first of these in the stream's order, None if there are none.

    Empty, which makes Lambda repeat the whole batch, if one of them does not tell its place.
    """
    if not records:
        return None
    try:
        lowest: str = min((each["dynamodb"]["SequenceNumber"] for each in records), key=int)
    except (KeyError, TypeError, ValueError):
        return ""
    return lowest


def _comes_again(record: Any, lowest: str | None) -> bool:
    """Whether Lambda repeats `record` when it repeats from `lowest` on."""
    if not lowest:
        return lowest == ""
    try:
        return int(record["dynamodb"]["SequenceNumber"]) >= int(lowest)
    except (KeyError, TypeError, ValueError):
        return False


# What has been imported stays for good. To look for garbage among it would take a tenth of a cold
# start, and hold up some later request.
gc.freeze()
gc.enable()
