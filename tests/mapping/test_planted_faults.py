"""The scenarios find what they are for: each fault that is planted breaks a promise."""

from __future__ import annotations

import pytest

from tests.mapping.planted_faults import FAULTS, find, worse_trouble


@pytest.mark.parametrize("fault", FAULTS)
def test_scenario_finds_a_planted_fault(fault: str) -> None:
    """A harness that finds nothing may be blind."""
    assert find(FAULTS[fault])


def test_worse_trouble_breaks_nothing_by_itself() -> None:
    """The other scenarios are tests of their own."""
    assert worse_trouble().broken == []
