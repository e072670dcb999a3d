"""The stories find what they are for: each fault that is planted breaks a promise."""

from __future__ import annotations

import pytest

from tests.simulation.planted_faults import FAULTS, find

_STORIES = 600


@pytest.mark.parametrize("fault", FAULTS)
def test_stories_find_a_planted_fault(fault: str) -> None:
    """A simulation that finds nothing may be blind."""
    assert next(find(FAULTS[fault], range(_STORIES)), None) is not None
