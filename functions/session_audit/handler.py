"""The consumer of the `Sessions` table's stream, which records every change in the audit trail."""

from __future__ import annotations

import gc

gc.disable()  # the reason is at the end of the file

import os
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

import clock
from audit import batch
from audit.classify import events_in, is_from_record, is_kept, replacements, unreadable
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
# The API has enforced `not_before` since this time at the latest: its function was deployed before
# this one.
started_at = clock.now()
bucket = os.environ["FAILED_EVENTS_BUCKET"]
# Lambda ends the function after a minute. The other 30 s are for the request that is under way, the
# bucket and the response.
APPEND_SECONDS = 30

# Events with the records that they were made from.
Pairs = list[tuple[AuditEvent, Any]]


class _Outcome(NamedTuple):
    """The events that are in the trail, and those that are not, with their records.

    An event is `unwritten` because of an outage, `refused` if DynamoDB will never accept it, and
    `displaced` if another event has its key.
    """

    recorded: list[AuditEvent]
    unwritten: Pairs
    refused: Pairs
    displaced: Pairs


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record a batch. Lambda retries it from the first record that could not be recorded.

    Only an outage causes a retry. If a record can't be read, or DynamoDB will never accept its
    event, an `unreadable` event is recorded instead, and the record is kept in the bucket. If
    another event has the key of an event, the event gets a new key, and a `tampered` event is
    recorded as well.
    """
    deadline = clock.monotonic() + APPEND_SECONDS
    events = [
        (audit_event, record)
        for record in event["Records"]
        for audit_event in events_in(record, not_before=not_before, enforced_since=started_at)
    ]
    first = _append(events, deadline)
    substitutes = [(unreadable(record), record) for _, record in first.refused]
    substitutes += [
        (substitute, record)
        for audit_event, record in first.displaced
        for substitute in replacements(audit_event)
    ]
    second = _append(substitutes, deadline)
    metrics.emit(
        first.recorded + second.recorded, function_name=context.function_name, now=clock.time()
    )

    unwritten = [record for _, record in first.unwritten + second.unwritten]
    to_keep = [pair for pair in events + substitutes if pair[0].type == "unreadable"]
    to_keep += second.refused + second.displaced
    for audit_event, _ in to_keep:
        logger.error("unreadable stream record", event_id=audit_event.event_id)
    for audit_event, _ in first.displaced:
        logger.error("another event has the key", event_id=audit_event.event_id)
    logger.info("recorded", events=len(events), missed=len(unwritten), unreadable=len(to_keep))
    return batch.response(unwritten, [record for _, record in to_keep], bucket=bucket)


def _append(events: Pairs, deadline: float) -> _Outcome:
    # DynamoDB refuses a request that has the same key twice.
    by_key = {
        (event.session_id, event.event_id): (event, record)
        for event, record in events
        if is_kept(event, record, unrecorded, record_anonymous=record_anonymous)
    }
    failures = trail.append(
        [event for event, _ in by_key.values()],
        retention_seconds=retention_seconds,
        deadline=deadline,
    )
    displaced = [
        event
        for event, other in failures.displaced
        if other is None or not is_from_record(other, by_key[event.session_id, event.event_id][1])
    ]
    unwritten, refused, displaced_pairs = (
        [by_key.pop((event.session_id, event.event_id)) for event in group]
        for group in (failures.temporary, failures.permanent, displaced)
    )
    recorded = [event for event, _ in by_key.values()]
    return _Outcome(recorded, unwritten, refused, displaced_pairs)


# Imported objects are never freed. Looking for garbage among them would take a tenth of a cold
# start and delay a later request.
gc.freeze()
gc.enable()
