"""A pytest plugin that writes the outcome of every test."""

from __future__ import annotations

import pytest

import outcomes

_failed: set[str] = set()


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        outcomes.write(report.nodeid, "failed", str(report.longrepr))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of a test. It has three phases, and fails if one of them fails."""
    if report.failed:
        _failed.add(report.nodeid)
        outcomes.write(report.nodeid, "failed", str(report.longrepr))
    elif report.skipped:
        # An expected failure of the suite also counts as skipped.
        outcomes.write(report.nodeid, "skipped", str(report.longrepr))
    elif report.when == "call" and report.nodeid not in _failed:
        outcomes.write(report.nodeid, "passed")
