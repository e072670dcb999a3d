"""The stream consumer: every change of the `Sessions` table becomes a line of the audit trail."""

from __future__ import annotations

import gc

gc.disable()  # see the end

import os
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sessions.audit_event import classify, is_kept
from sessions.audit_trail import AuditTrail
from sessions.dynamodb import connect

logger = Logger()
trail = AuditTrail(connect(), os.environ["AUDIT_TABLE"])
retention_seconds = int(os.environ["AUDIT_RETENTION_SECONDS"])
unrecorded = os.environ["UNRECORDED_EVENTS"].split(",")
not_before = int(os.environ["NOT_BEFORE"])


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record a batch; answers the lowest record that DynamoDB refused, from which Lambda repeats.

    https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
    """
    events = {}
    for record in event["Records"]:
        found = classify(record, not_before=not_before)
        if is_kept(found, unrecorded):
            # The same key twice would fail the whole request.
            events[found.session_id, found.event_id] = found, record
            if found.type == "unreadable":
                logger.error("unreadable stream record", event_id=found.event_id)
    refused = trail.append(
        [found for found, _ in events.values()], retention_seconds=retention_seconds
    )
    logger.info("recorded", events=len(events) - len(refused), refused=len(refused))
    if not refused:
        return {"batchItemFailures": []}
    failures = [events[each.session_id, each.event_id][1] for each in refused]
    return {"batchItemFailures": [{"itemIdentifier": _lowest(failures)}]}


def _lowest(records: list[Any]) -> str:
    """The first of these in the stream's order.

    Empty, which makes Lambda repeat the whole batch, if one of them does not tell its place.
    """
    try:
        lowest: str = min((each["dynamodb"]["SequenceNumber"] for each in records), key=int)
    except (KeyError, TypeError, ValueError):
        return ""
    return lowest


# What has been imported stays for good. To look for garbage among it would take a tenth of a cold
# start, and hold up some later request.
gc.freeze()
gc.enable()
