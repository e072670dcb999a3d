"""The stream consumer: every change of the `Sessions` table becomes a line of the audit trail."""

from __future__ import annotations

import gc

gc.disable()  # see the end

import os
from time import monotonic, time
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from audit import batch
from audit.classify import beside, events_in, is_kept, is_reading, unreadable
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

# Events with the records that they were made of.
Sourced = list[tuple[AuditEvent, Any]]


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record a batch. Lambda repeats it from the first record on that could not be recorded.

    Only an outage makes it repeat. A record that can't be read, and one whose event DynamoDB will
    never take, is on record as `unreadable`, and kept whole in the bucket. An event whose key holds
    another one is recorded under a key of its own, beside a `tampered` event.
    """
    deadline = monotonic() + APPEND_SECONDS
    events = [
        (made, record)
        for record in event["Records"]
        for made in events_in(record, not_before=not_before, enforced_since=started_at)
    ]
    recorded, missed, refused, displaced = _append(events, deadline)
    instead = [(unreadable(record), record) for _, record in refused]
    instead += [(made, record) for known, record in displaced for made in beside(known)]
    recorded_too, missed_too, refused_too, displaced_too = _append(instead, deadline)
    metrics.emit(recorded + recorded_too, function_name=context.function_name, now=time())

    unwritten = [record for _, record in missed + missed_too]
    strange = [pair for pair in events + instead if pair[0].type == "unreadable"]
    strange += refused_too + displaced_too
    for made, _ in strange:
        logger.error("unreadable stream record", event_id=made.event_id)
    for known, _ in displaced:
        logger.error("another event has the key", event_id=known.event_id)
    logger.info("recorded", events=len(events), missed=len(unwritten), unreadable=len(strange))
    return batch.answer(unwritten, [record for _, record in strange], bucket=bucket)


def _append(events: Sourced, deadline: float) -> tuple[list[AuditEvent], Sourced, Sourced, Sourced]:
    """Return the events that are on record, and those that are not.

    These are the ones that are missing for now, the ones that are refused for good, and the ones
    whose keys hold other events.
    """
    # The same key twice would fail the whole request.
    by_key = {
        (event.session_id, event.event_id): (event, record)
        for event, record in events
        if is_kept(event, record, unrecorded, record_anonymous=record_anonymous)
    }
    missed = trail.append(
        [event for event, _ in by_key.values()],
        retention_seconds=retention_seconds,
        deadline=deadline,
    )
    displaced = [
        event
        for event, other in missed.displaced
        if other is None or not is_reading(other, by_key[event.session_id, event.event_id][1])
    ]
    absent = [
        [by_key.pop((event.session_id, event.event_id)) for event in events]
        for events in (missed.for_now, missed.for_good, displaced)
    ]
    return [event for event, _ in by_key.values()], absent[0], absent[1], absent[2]


# What has been imported stays for good. To look for garbage among it would take a tenth of a cold
# start, and hold up some later request.
gc.freeze()
gc.enable()
