"""Faults to plant into prompt expiry, and how often the stories find them.

`python -m tests.simulation.expiry_faults STORIES` prints the table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from dynamodb import batches
from expiry import sweep, timers
from expiry.sweep import Sweep
from expiry.timers import Timers
from serverless_sessions.serve.expressions import Unknown
from tests.simulation.expiry import live
from tests.support.plant import Plant, in_source
from tests.support.timers import expiry_function


def _constant(name: str, value: int) -> Plant:
    return lambda patch: patch.setattr(sweep, name, value)


def _both(*plants: Plant) -> Plant:
    """Plant faults of which each one alone has no effect, because the other place still decides."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for one in plants:
            one(patch)

    return plant


def _consumer(function: str, old: str, new: str) -> Plant:
    """Replace a part of a function of the consumer, which needs its environment to be imported."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        module: Any = expiry_function("session_timers")
        in_source(getattr(module, function), old, new)(patch)

    return plant


# Each with the first story that finds it.
FAULTS: dict[str, tuple[Plant, int]] = {
    "a partition is left out": (in_source(Timers.due, "range(SHARDS)", "range(1, SHARDS)"), 11),
    "timers are read with eventual consistency": (
        in_source(Timers._shard, "ConsistentRead=True", "ConsistentRead=False"),
        0,
    ),
    "sessions are read with eventual consistency": (
        in_source(batches.read, '"ConsistentRead": True', '"ConsistentRead": False'),
        0,
    ),
    "a timer is set in the past": (
        in_source(timers._due, "max(time, now + _AHEAD_SECONDS)", "time"),
        13,
    ),
    "a session that lives on gets no new timer": (
        in_source(Sweep._look, "times[session_id] = end", "pass"),
        7,
    ),
    "a session that can't be deleted yet gets no new timer": (
        in_source(Sweep._look, "times[session_id] = max(", "_ = max("),
        9,
    ),
    "an end that has moved nearer gets no timer": (
        _consumer("_new_end", "0 <= former_end <= end", "former_end >= 0"),
        48,
    ),
    "a timer that could not be set is forgotten": (
        in_source(Sweep._finish, "raise TransientError(failures.cause)", "pass"),
        156,
    ),
    "a record without a timer is not repeated": (
        _consumer("lambda_handler", "batch.response(unfinished", "batch.response([]"),
        12,
    ),
    "the cursor runs ahead": (
        in_source(Sweep._sweep, "self.second = end", "self.second = end + _EXPIRED_SECONDS"),
        9,
    ),
    "an empty minute counts as over": (
        in_source(Sweep._sweep, "self.second = end", "self.second = (self.second // 60 + 1) * 60"),
        9,
    ),
    "the cursor moves though the run failed": (
        in_source(Sweep._sweep, "self._cursor.move(self.second)", "self._cursor.move(end)"),
        156,
    ),
    "the first cursor starts at now": (_constant("_FIRST_SECONDS", 0), 0),
    "a session is deleted at its end": (_constant("_EXPIRED_SECONDS", 0), 16),
    "a revoked session is deleted": (
        _both(
            in_source(Sweep._look, 'end < 0 or "RevokedAt" in item', "end < 0"),
            in_source(Sweep.__init__, " AND RevokedAt IS MISSING", ""),
        ),
        0,
    ),
    "a session is deleted within its first minute": (_constant("_CREATION_SECONDS", 0), 4),
}


def find(plant: Plant, stories: range) -> Iterator[int]:
    """Return the seeds of the stories in which the planted fault breaks a promise."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        for seed in stories:
            try:
                broken = bool(live(seed).broken)
            except Unknown:
                broken = True
            if broken:
                yield seed


if __name__ == "__main__":
    total = int(sys.argv[1])
    for fault, (plant, _) in FAULTS.items():
        seeds = list(find(plant, range(total)))
        print(f"{len(seeds):6} of {total}, first {seeds[:1]}: {fault}", flush=True)
