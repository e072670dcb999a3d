"""Deletes expired sessions. EventBridge calls it every minute."""

from __future__ import annotations

import gc

gc.disable()  # the reason is at the end of the file

import json
import logging
import os
from typing import Any

import clock
from embedded_metrics import log_line
from expiry.sweep import Sweep
from sessions.dynamodb import connect

logger = logging.getLogger()
logger.setLevel(logging.INFO)
client = connect()
sessions_table = os.environ["SESSIONS_TABLE"]
timers_table = os.environ["TIMERS_TABLE"]
# Lambda ends the function after a minute. The rest is for the request that is under way, and for
# moving the cursor.
SWEEP_SECONDS = 40


def lambda_handler(event: dict[str, Any], context: Any) -> None:
    """Delete the sessions that expired since the last run, and log how far it got."""
    sweep = Sweep(client, sessions_table, timers_table, deadline=clock.monotonic() + SWEEP_SECONDS)
    try:
        sweep.run()
    finally:
        _emit_metrics(sweep, context.function_name)


def _emit_metrics(sweep: Sweep, function_name: str) -> None:
    now = clock.time()
    values = {"deleted": sweep.deleted, "timers_failed": sweep.failed}
    units = dict.fromkeys(values, "Count")
    if sweep.second is not None:
        # A cursor in the future is as wrong as one that is late, and should trigger the same alarm.
        values["cursor_age_seconds"] = abs(int(now) - sweep.second)
        units["cursor_age_seconds"] = "Seconds"
    print(json.dumps(log_line(values, units, function_name=function_name, now=now)))


# Imported objects are never freed. Looking for garbage among them would take a tenth of a cold
# start and delay a later request.
gc.freeze()
gc.enable()
