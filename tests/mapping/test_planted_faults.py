"""Each planted fault breaks a promise in its scenario."""

from __future__ import annotations

import pytest

from tests.mapping.planted_faults import FAULTS, find, worse_trouble


@pytest.mark.parametrize("fault", FAULTS)
def test_scenario_finds_a_planted_fault(fault: str) -> None:
    """A scenario that finds nothing may be unable to find anything."""
    assert find(FAULTS[fault])


def test_worse_trouble_breaks_nothing_by_itself() -> None:
    """The other scenarios have their own tests."""
    assert worse_trouble().broken == []
