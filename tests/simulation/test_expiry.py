"""Prompt expiry keeps its promises in simulated time, whatever happens to its functions."""

from __future__ import annotations

from typing import Any

import pytest

from serverless_sessions.serve.expressions import Item
from tests.simulation.expiry import live
from tests.simulation.expiry_faults import FAULTS, find
from tests.simulation.expiry_world import ExpiryWorld
from tests.simulation.turnstile import Actor
from tests.simulation.world import START, Call, Request
from tests.support.functions import sample

_STORIES = 60


@pytest.mark.parametrize("seed", range(_STORIES))
def test_story_keeps_every_promise(seed: int) -> None:
    outcome = live(seed)

    assert outcome.broken == [], "\n".join(outcome.log)


@pytest.mark.parametrize("fault", FAULTS)
def test_stories_find_a_planted_fault(fault: str) -> None:
    """A simulation that finds nothing may be unable to find anything."""
    plant, seed = FAULTS[fault]

    assert list(find(plant, range(seed, seed + 1))) == [seed]


def test_sweeper_that_stood_still_for_three_hours_ends_10000_sessions() -> None:
    """All of them are deleted, in the order of their ends, and none of them twice."""
    count, still = 10_000, 3 * 3600
    deleted: list[str] = []

    def wrote(old: Item, new: Item, request: Request | None) -> None:
        if not new:
            assert request, "TTL was faster"
            deleted.append(old["SessionId"]["S"])

    world = ExpiryWorld(10.0**6, wrote)
    [created] = sample("stream_created")["Records"]

    def call(kind: str) -> Call:
        return Call(0, kind, "Lambda", ())

    def store_and_sweep() -> None:
        world.sweep(call("sweeper"))
        start = int(world.time.now)
        for number in range(count):
            times: Any = {
                "CreatedAt": {"N": str(start)},
                "ExpirationTime": {"N": str(start + 60 + number * (still - 120) // count)},
            }
            session_id = f"{number:012d}"
            item = created["dynamodb"]["NewImage"] | {"SessionId": {"S": session_id}} | times
            world.tables._put("sessions", (session_id,), item)
        for first in range(0, count, 100):
            world.set_timers(call("timers"), world.tables.stream[first : first + 100])
        world.time.wait(START + still - world.time.now)
        # Deleting takes 10 s at the least, and the rest of the time is for the other requests.
        while len(deleted) < count:
            assert world.time.now < START + still + 180
            world.sweep(call("sweeper"))
            world.time.wait(60)

    with world.installed():
        world.time.start(Actor("A", 0.0, store_and_sweep))
        world.time.at(START + still + 600, world.time._due.clear)
        world.time.run()

    assert deleted == [f"{number:012d}" for number in range(count)]
    assert sum(metrics["deleted"] for metrics in world.metrics) == count
