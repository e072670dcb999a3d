"""The stories find each planted fault."""

from __future__ import annotations

import pytest

from tests.simulation.planted_faults import FAULTS, PROOF_FAULTS, find

_STORIES = 1000


@pytest.mark.parametrize("fault", [*FAULTS, *PROOF_FAULTS])
def test_stories_find_a_planted_fault(fault: str) -> None:
    """A simulation that finds nothing may be unable to find anything."""
    assert next(find(fault, range(_STORIES)), None) is not None
