"""Browsers with the apps, in simulated time: nobody is signed out by accident."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.browser_faults import EARLIER_RULES, FAULTS, find
from tests.simulation.browser_soak import Figures
from tests.simulation.browser_stories import draw
from tests.simulation.browsers import Jar, live, report
from tests.simulation.web_apps import APPS, WebApp, web_app

_STORIES = 110
_THIEVES = 50
# With this many stories, each removed rule breaks at least one.
_UNTIL_FOUND = 400
# If only a later story breaks, the search begins shortly before it.
_FIRST = {
    "a log-in ends the visitor's session immediately": 50,
    "a lost token is not replaced": 220,
    "the authorizer does not record a first use": 30,
}


@pytest.fixture(params=APPS)
def app(request: pytest.FixtureRequest) -> Iterator[WebApp]:
    with web_app(request.param) as app:
        yield app


@pytest.mark.parametrize(("thief", "stories"), [(False, _STORIES), (True, _THIEVES)])
def test_no_story_breaks_a_promise(app: WebApp, thief: bool, stories: int) -> None:
    """The order of answers never signs a user out or makes them look like a thief, and no thief
    stays signed in.
    """
    figures = Figures(app.name)
    for seed in range(stories):
        figures.add(app, [seed], thief=thief)
        if figures.failing:
            raise AssertionError(report(app, seed, thief=thief))
    print(figures)


def test_stories_break_without_a_rule() -> None:
    """Each rule is removed in turn, because a simulation that finds nothing may be unable to find
    anything.
    """
    with web_app("flask") as app:
        for fault, (plant, thief) in FAULTS.items():
            seeds = range(_FIRST.get(fault, 0), _UNTIL_FOUND)
            broken = next(find(app, plant, seeds, thief=thief), None)
            assert broken is not None, fault


@pytest.mark.parametrize("thief", [False, True])
def test_stories_break_with_the_earlier_rules(thief: bool) -> None:
    """The rules of cookies and of rotation replaced these rules."""
    with web_app("flask") as app:
        assert next(find(app, EARLIER_RULES, range(_UNTIL_FOUND), thief=thief), None) is not None


def test_a_story_is_the_same_each_time(app: WebApp) -> None:
    """So a seed that failed once can be examined."""
    for seed in range(3):
        for thief in (False, True):
            story = draw(seed, thief=thief)
            assert live(app, story).log == live(app, story).log


@pytest.mark.parametrize(
    ("lines", "header"),
    [
        (["a=1; Path=/", "b=2"], "a=1; b=2"),
        (["a=1", "a=2"], "a=2"),
        (["a=1", "a=; Max-Age=0"], ""),
        (["a=1", "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], ""),
        (["a=1; Max-Age=11; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "a=1"),
        (["a=1; Max-Age=10"], ""),
        (["a=1; Path=/other"], ""),
        (["a=1", "a=; Path=/other; Max-Age=0"], "a=1"),
        (["__Host-a=1; Secure; Path=/"], "__Host-a=1"),
        (["__Host-a=1; Path=/"], ""),
        (["__Host-a=1; Secure; Path=/; Domain=example"], ""),
        (["__Host-a=1; Secure; Path=/other"], ""),
    ],
)
def test_jar(lines: list[str], header: str) -> None:
    """The jar follows RFC 6265bis as far as the adapters depend on it.

    It is checked ten seconds later.
    """
    jar = Jar()
    jar.take(lines, 100.0, None)

    assert "; ".join(f"{name}={value}" for name, value in jar.header(110.0)) == header
