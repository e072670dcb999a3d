"""The limits of `make bench`, and that it measures the right requests."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench
from bench import chart, limits, template, warm
from bench.runtime import lambda_runtime
from tests.support.template import ROOT, app_folder


@pytest.fixture
def result() -> Any:
    """The measurement in docs/performance.md, which is within all limits."""
    return copy.deepcopy(json.loads(chart.RESULTS.read_text())["limits"])


@pytest.fixture
def default_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings that the measurement was made with, whatever `cdk.json` has now."""
    monkeypatch.setattr(template, "ROOT", app_folder(tmp_path / "app"))
    template._template.cache_clear()
    yield
    template._template.cache_clear()


@pytest.mark.usefixtures("default_settings")
def test_each_operation_makes_the_expected_requests(result: dict[str, Any]) -> None:
    """Most make one request.

    A renewal by `verify`, the first use of a rotated token and a list make two. A batch of 100
    events or timers makes four. A sweep makes a request for its cursor, and 16 for the timers of
    each of two minutes. In each minute, it looks at 50 sessions with one request, deletes them with
    two, and moves its cursor.
    """
    with lambda_runtime() as runtime:
        calls = warm.measure(runtime, rounds=1)

    assert {name: call["requests"] for name, call in calls.items()} == {
        name: call["requests"] for name, call in result["warm"].items()
    }


def test_every_function_has_a_limit(result: dict[str, Any]) -> None:
    table = limits.table(result)

    for handler in (ROOT / "functions").glob("*/handler.py"):
        assert f"cold start of `{handler.parent.name}`" in table


def test_an_exceeded_limit_is_named(result: dict[str, Any]) -> None:
    result["cold"]["session_api"]["over_boto3"] = 0.76
    result["bundle"]["zipped"] = 2.71
    result["warm"]["get"]["requests"] = ["GetItem", "UpdateItem"]

    assert limits.failures(result) == [
        "cold start of `session_api` is 0.760 ×; its limit is 0.75 ×.",
        "bundle, zipped is 2.710 MB; its limit is 2.7 MB.",
        "warm get makes GetItem, UpdateItem; the expected number is 1.",
    ]


@pytest.mark.parametrize(("measured", "status"), [(0.75, 0), (0.76, 1)])
def test_exit_code_of_bench_shows_whether_all_limits_are_met(
    measured: float,
    status: int,
    result: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result["cold"]["session_api"]["over_boto3"] = measured
    monkeypatch.setattr(limits, "measure", lambda *, long: result)
    monkeypatch.setattr(sys, "argv", ["bench", "limits"])

    assert bench.main() == status
    assert limits.table(result) in capsys.readouterr().out
