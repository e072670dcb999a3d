"""The consumer of the trail's own stream: every new event of the trail goes out on a bus.

Nobody waits for it, so it may use AWS's SDK.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

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
# Of the function's minute: the rest is for the request under way, the bucket and the answer.
PUT_SECONDS = 30


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Send a batch out. Lambda repeats it from the first record on that could not be sent.

    Only an outage makes it repeat. A record that the bus will never take is kept in the bucket.
    """
    records = {record["dynamodb"]["SequenceNumber"]: record for record in event["Records"]}
    events = {number: made for number, record in records.items() if (made := _event(record))}
    missed = bus.put(events, deadline=monotonic() + PUT_SECONDS)
    refused = dict.fromkeys(records.keys() - events.keys(), "no event") | missed.for_good

    for number, code in refused.items():
        logger.error("event refused", event_id=_event_id(records[number]), cause=code)
    logger.info(
        "sent",
        events=len(events) - len(missed.for_now) - len(missed.for_good),
        refused=len(refused),
        missed=len(missed.for_now),
        causes=sorted(set(missed.for_now.values())),
    )
    return batch.response(
        [records[number] for number in missed.for_now],
        [records[number] for number in refused],
        bucket=bucket,
    )


def _event(record: dict[str, Any]) -> AuditEvent | None:
    """None if the trail holds something else there, which the audit function never writes."""
    try:
        return from_item(record["dynamodb"]["NewImage"])
    except (KeyError, TypeError, ValueError):
        return None


def _event_id(record: dict[str, Any]) -> Any:
    return record["dynamodb"].get("Keys", {}).get("EventId", {}).get("S")
