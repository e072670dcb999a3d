"""The consumer of the trail's own stream, which puts every new event of the trail on a bus.

No caller waits for this function, so it can use AWS's SDK, which takes long to import.
"""

from __future__ import annotations

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

import clock
from audit import batch
from audit.event import AuditEvent
from audit.trail import from_item
from session_events.event_bus import EventBus

logger = Logger()
client = boto3.client(
    "events",
    config=Config(
        connect_timeout=1,
        read_timeout=4,
        retries={"mode": "standard", "total_max_attempts": 2},
    ),
)
bus = EventBus(client, os.environ["EVENT_BUS"])
bucket = os.environ["FAILED_EVENTS_BUCKET"]
# Lambda ends the function after a minute. The other 30 s are for the request that is under way, the
# bucket and the response.
PUT_SECONDS = 30


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Send a batch of events. Lambda retries it from the first record that could not be sent.

    Only an outage causes a retry. A record that the bus will never accept is kept in the bucket.
    """
    records = {record["dynamodb"]["SequenceNumber"]: record for record in event["Records"]}
    events = {
        number: audit_event for number, record in records.items() if (audit_event := _event(record))
    }
    failures = bus.put(events, deadline=clock.monotonic() + PUT_SECONDS)
    refused = dict.fromkeys(records.keys() - events.keys(), "no event") | failures.permanent

    for number, code in refused.items():
        logger.error("event refused", event_id=_event_id(records[number]), cause=code)
    logger.info(
        "sent",
        events=len(events) - len(failures.temporary) - len(failures.permanent),
        refused=len(refused),
        missed=len(failures.temporary),
        causes=sorted(set(failures.temporary.values())),
    )
    return batch.response(
        [records[number] for number in failures.temporary],
        [records[number] for number in refused],
        bucket=bucket,
    )


def _event(record: dict[str, Any]) -> AuditEvent | None:
    """Return the event in a record, or None for an item that the audit function has not written."""
    try:
        return from_item(record["dynamodb"]["NewImage"])
    except (KeyError, TypeError, ValueError):
        return None


def _event_id(record: dict[str, Any]) -> Any:
    return record["dynamodb"].get("Keys", {}).get("EventId", {}).get("S")
