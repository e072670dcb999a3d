"""docs/performance.md shows the measurements, and the benchmark detects a number beyond its
limit.
"""

from __future__ import annotations

import copy
import json
from types import ModuleType

import pytest

from bench import chart, limits, peers, prices, scale, sweeper
from tests.support.template import ROOT

RESULTS = json.loads(chart.RESULTS.read_text())
PARTS = {"limits": limits, "peers": peers, "scale": scale, "sweeper": sweeper}


def test_dollars_of_a_thousand_web_requests_a_second() -> None:
    """1,000 a second are 2,592 million a month. AWS's calculator gives the same prices."""
    assert prices.dollars_a_month(read_units=1) == 324
    assert prices.dollars_a_month(write_units=1) == 1620
    assert prices.dollars_a_month(read_units=0.5, write_units=2) == 162 + 2 * 1620
    assert prices.call_dollars_a_month() == pytest.approx(300 + 2292 * 0.9 + 2592 * 0.2)


def test_function_url_saves_the_price_of_api_gateway() -> None:
    costs = (ROOT / "docs/costs.md").read_text()
    saved = f"${prices.gateway_dollars_a_month():,.0f}"

    assert f"this saves {saved} a month" in costs
    assert f"DynamoDB, API Gateway, Lambda | $3 + $26 + $7 | $324 + {saved} + $691 |" in costs


@pytest.mark.parametrize(("name", "part"), PARTS.items())
def test_page_shows_the_results(name: str, part: ModuleType) -> None:
    assert part.table(RESULTS[name]) in (ROOT / "docs/performance.md").read_text()


def test_chart_shows_the_results() -> None:
    assert chart.CHART.read_text() == chart.draw(RESULTS["peers"])


@pytest.mark.parametrize(("name", "part"), PARTS.items())
def test_measurements_are_within_their_limits(name: str, part: ModuleType) -> None:
    assert part.failures(RESULTS[name]) == []


def test_more_requests_than_documented_are_a_failure() -> None:
    result = copy.deepcopy(RESULTS["peers"])
    result["stores"][peers.OURS]["web_requests"]["load"]["requests"] = 2

    [failure] = peers.failures(result)

    assert "load takes" in failure


def test_cost_that_grows_with_the_table_is_a_failure() -> None:
    result = copy.deepcopy(RESULTS["scale"])
    *_, large = result["by_size"].values()
    large["renew"]["writes"] = 2

    [failure] = scale.failures(result)

    assert failure.startswith("renew takes")


def test_dead_entries_that_still_cost_something_are_a_failure() -> None:
    """A list after a sweep costs what it costs a user who never had dead entries."""
    result = copy.deepcopy(RESULTS["scale"])
    result["swept"] = 9_999
    result["after_sweep"]["25"]["cost"]["reads"] += 1

    swept, after = scale.failures(result)

    assert swept == "The sweeper deleted 9,999 of 10,000 dead sessions."
    assert after.startswith("After the sweep, a list with limit=25 takes ")


def test_sessions_that_a_sweeper_leaves_over_are_a_failure() -> None:
    result = copy.deepcopy(RESULTS["sweeper"])
    result["kinds"]["expired"]["deleted"] -= 1
    result["kinds"]["renewed"]["deleted"] += 1
    result["overload"]["runs"][-1]["deleted"] -= 2

    assert sweeper.failures(result) == [
        "The sweeper deleted 1,999 of 2,000 expired sessions.",
        "The sweeper deleted 1 of 0 expired sessions.",
        "2 sessions are left over after the last run.",
    ]


def test_sweeper_that_is_too_slow_or_too_fast_is_a_failure() -> None:
    """Lambda gives 0.29 cores to 512 MB, so 1,000 sessions a second take 3,455 a CPU second."""
    result = copy.deepcopy(RESULTS["sweeper"])
    result["kinds"]["renewed"] |= {"sessions": 3400, "cpu_seconds": 1.0}
    result["by_latency"]["5"]["deleted"] = 1000 * result["run_seconds"] + 101

    slow, fast = sweeper.failures(result)

    assert slow == "The CPU of 512 MB is enough for 984 renewed a second."
    assert fast.startswith("With answers after 5 ms, a run deletes ")


def test_slow_or_unfinished_sign_out_is_a_failure() -> None:
    result = copy.deepcopy(RESULTS["scale"])
    result["sign_out"] |= {"seconds": [20.1, 27.1], "left": 3}

    assert scale.failures(result) == [
        "3 sessions outlived a sign-out.",
        "A call to sign out took more than 27 s.",
    ]
