"""Callers, hosts and a network that do everything that the contract allows, in simulated time."""

from __future__ import annotations

from tests.simulation.callers import live, report
from tests.simulation.story import draw

_STORIES = 1000


def test_no_story_breaks_a_promise() -> None:
    """What a caller was told stays true, whatever the network, the clocks and other callers do."""
    for seed in range(_STORIES):
        if live(draw(seed)).broken:
            raise AssertionError(report(seed))


def test_a_story_is_the_same_each_time() -> None:
    """So a seed that failed once can be examined."""
    for seed in range(20):
        assert live(draw(seed)).log == live(draw(seed)).log
