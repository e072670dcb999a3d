"""Prompt expiry keeps its promises in simulated time, whatever happens to its functions."""

from __future__ import annotations

import pytest

from tests.simulation.expiry import live


@pytest.mark.parametrize("seed", range(60))
def test_story_keeps_every_promise(seed: int) -> None:
    outcome = live(seed)

    assert outcome.broken == [], "\n".join(outcome.log)
