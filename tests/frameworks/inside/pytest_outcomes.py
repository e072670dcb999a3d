"""A pytest plugin that writes the outcome of each test."""

from __future__ import annotations

import pytest

import outcomes

_failed: set[str] = set()


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        outcomes.write(report.nodeid, "failed", str(report.longrepr))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test has three phases, and has failed if any of them has."""
    if report.failed:
        _failed.add(report.nodeid)
        outcomes.write(report.nodeid, "failed", str(report.longrepr))
    elif report.skipped:
        # What their suite marks as an expected failure counts as skipped too.
        outcomes.write(report.nodeid, "skipped", str(report.longrepr))
    elif report.when == "call" and report.nodeid not in _failed:
        outcomes.write(report.nodeid, "passed")
