"""The second consumer of the `Sessions` table's stream, which sets a timer for every new session.

Renewals, by far the most frequent changes, set no timer. When a session's timer is due, the sweeper
looks at the session and sets a new one.
"""

from __future__ import annotations

import gc

gc.disable()  # the reason is at the end of the file

import logging
import os
from typing import Any

import clock
from audit import batch
from expiry.timers import Timers
from sessions.dynamodb import connect
from sessions.lifetime import seconds
from sessions.limits import SESSION_ID

logger = logging.getLogger()
logger.setLevel(logging.INFO)
timers = Timers(connect(), os.environ["TIMERS_TABLE"])
record_anonymous = os.environ["RECORD_ANONYMOUS"] == "true"
bucket = os.environ["FAILED_EVENTS_BUCKET"]
# Lambda ends the function after a minute. The other 30 s are for the request that is under way, the
# bucket and the response.
ADD_SECONDS = 30


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Set the timers of a batch. Lambda retries it from the first record that has none.

    Only an outage causes a retry. A record that can't be read, or whose timer DynamoDB will never
    accept, is kept in the bucket.
    """
    deadline = clock.monotonic() + ADD_SECONDS
    ends = dict[str, int]()
    records = dict[str, list[Any]]()
    refused = list[Any]()
    for record in event["Records"]:
        try:
            end = _new_end(record)
        except Exception:
            refused.append(record)
            continue
        if end is not None:
            session_id = record["dynamodb"]["Keys"]["SessionId"]["S"]
            # One timer is enough, because the sweeper sets the next one.
            ends[session_id] = min(end, ends.get(session_id, end))
            records.setdefault(session_id, []).append(record)
    failures = timers.add(ends, deadline=deadline)
    unfinished, rejected = (
        [record for session_id in group for record in records[session_id]]
        for group in (failures.temporary, failures.permanent)
    )
    refused += rejected

    if refused:
        logger.error("no timer for records", extra={"records": len(refused)})
    logger.info(
        "timers set",
        extra={
            "timers": len(ends) - len(failures.temporary) - len(failures.permanent),
            "missed": len(failures.temporary),
            "cause": failures.cause,
        },
    )
    return batch.response(unfinished, refused, bucket=bucket)


def _new_end(record: Any) -> int | None:
    """Return the end of a session that needs a timer, in epoch seconds, or None.

    This is a new session, or one whose end has moved nearer. A revoked session does not expire, and
    nobody waits for the end of an anonymous session if its events are not recorded.
    """
    change = record["dynamodb"]
    if record["eventName"] not in ("INSERT", "MODIFY"):
        return None
    new, old = change["NewImage"], change.get("OldImage", {})
    end, former_end = seconds(new, "ExpirationTime"), seconds(old, "ExpirationTime")
    if (
        end < 0
        or 0 <= former_end <= end
        or "RevokedAt" in new
        or not SESSION_ID.fullmatch(change["Keys"]["SessionId"]["S"])
        or ("UserId" not in new and not record_anonymous)
    ):
        return None
    return end


# Imported objects are never freed. Looking for garbage among them would take a tenth of a cold
# start and delay a later request.
gc.freeze()
gc.enable()
