"""A limit for the sessions of a user in simulated time, with a late index and wrong clocks."""

from __future__ import annotations

import pytest

from tests.simulation.session_limit import Story
from tests.simulation.session_limit_faults import FAULTS, find

_STORIES = 60


def test_no_story_breaks_a_promise() -> None:
    for seed in range(_STORIES):
        story = Story(seed).play()
        assert story.broken == [], "\n".join([f"Story {seed}:", *story.world.log])


@pytest.mark.parametrize("between", [0, 100])
@pytest.mark.parametrize("seed", range(3))
def test_fifty_log_ins_at_once_leave_the_newest(seed: int, between: int) -> None:
    """As long as the index is late, more sessions are left. Two log-ins later, exactly three are.

    Up to 100 log-ins and log-outs lie between, so the index has many entries of sessions that have
    ended.
    """
    story = Story(seed, most=3, at_once=50, between=between).play()

    assert story.broken == [], "\n".join(story.world.log)
    assert len(story.left) == 3
    assert len(story.before) > 3 or between


@pytest.mark.parametrize("fault", FAULTS)
def test_stories_find_a_planted_fault(fault: str) -> None:
    """A simulation that finds nothing may be unable to find anything."""
    plant, seed = FAULTS[fault]

    assert list(find(plant, range(seed, seed + 1))) == [seed]
