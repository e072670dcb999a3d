"""Requests that do not count as use: they read a session without renewing it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serverless_sessions import DirectReader
from serverless_sessions._web.session import is_passive
from tests.client.moving_clock import MovingClock
from tests.client.sites import DJANGO_ASYNC, FRAMEWORKS
from tests.support.service import Service

SITES = FRAMEWORKS | {"Django, async": DJANGO_ASYNC}


@pytest.fixture
def service(service_in_memory: Service) -> Service:
    return service_in_memory


def renewals(service: Service) -> list[bool]:
    """Return the member `renew` of every call of `verify`."""
    calls = zip(service.calls, service.bodies, strict=True)
    return [json.loads(body)["renew"] for call, body in calls if call == "POST /sessions/verify"]


def times(service: Service) -> tuple[int, int]:
    [item] = service.items()
    return int(item["RenewedAt"]["N"]), int(item["ExpirationTime"]["N"])


def third_of_idle_timeout(framework: str) -> int:
    """Return a time in seconds after which reading a session renews it."""
    return 600 if framework == "Flask" else 14 * 86_400 // 3


@pytest.mark.parametrize("framework", SITES)
def test_tab_that_polls_does_not_keep_a_session_alive(
    service: Service, clock: MovingClock, framework: str
) -> None:
    with SITES[framework](service, passive=["/*do/state"]) as browser:
        browser.do("log-in 1")
        service.plan()
        users = []
        for _ in range(3):
            clock.ahead += third_of_idle_timeout(framework)
            browser.do("state")
            users.append(browser.text.partition(",")[0])

        assert users == ["1", "1", "None"]
        assert set(renewals(service)) == {False}


@pytest.mark.parametrize("framework", SITES)
def test_view_can_say_that_its_request_is_no_use(
    service: Service, clock: MovingClock, framework: str
) -> None:
    with SITES[framework](service) as browser:
        browser.do("log-in 1")
        before = times(service)
        clock.ahead += third_of_idle_timeout(framework)
        service.plan()

        browser.do("passive read")
        assert renewals(service) == [False]
        assert times(service) == before

        browser.do("read")
        assert renewals(service) == [False, True]
        assert times(service) > before


@pytest.mark.parametrize("framework", SITES)
def test_change_of_a_passive_request_is_stored_without_renewing(
    service: Service, clock: MovingClock, framework: str
) -> None:
    with SITES[framework](service, passive=["/*do/write"]) as browser:
        browser.do("log-in 1")
        before = times(service)
        clock.ahead += third_of_idle_timeout(framework)

        browser.do("write")

        assert times(service) == before, "the session is not renewed"
        browser.do("state")
        assert "a=1" in browser.text


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_impersonators_session_is_not_renewed_either(service: Service, framework: str) -> None:
    with FRAMEWORKS[framework](service, passive=["/do/read"]) as browser:
        browser.do("log-in 7")
        browser.do("impersonate 1 7")
        service.plan()

        browser.do("read")

        assert renewals(service) == [False, False]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_session_that_has_been_read_can_not_become_passive(
    service: Service, framework: str
) -> None:
    """It may have been renewed already, so the call would have no effect."""
    with FRAMEWORKS[framework](service) as browser:
        browser.do("log-in 1")
        with pytest.raises(RuntimeError, match="has already been read"):
            browser.do("read passive")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], False),
        (["/poll"], True),
        (["/poll*"], True),
        (["/p?ll"], True),
        (["*"], True),
        (["/other", "/poll"], True),
        ("/poll", True),
        ("/other*", False),
        (["/POLL"], False),
        (["poll"], False),
        (["/pol"], False),
        (["/poll/*"], False),
    ],
)
def test_pattern_matches_the_whole_path(patterns: Any, expected: bool) -> None:
    """A string is one pattern. Its characters would match nearly everything."""
    assert is_passive("/poll", patterns) is expected


def test_star_matches_slashes() -> None:
    assert is_passive("/api/poll/1", ["/api/*"])


@pytest.mark.parametrize("framework", ["Django", "Flask"])
def test_direct_reader_reads_a_passive_request(
    service: Service, clock: MovingClock, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `passive` it leaves a session to the API once its renewal is due."""
    seen: list[bool] = []

    def read(self: DirectReader, *arguments: Any, renew: bool) -> Any:
        seen.append(renew)
        yield from ()

    monkeypatch.setattr(DirectReader, "read", read)
    reader = DirectReader("sessions", endpoint="http://127.0.0.1:9")
    with FRAMEWORKS[framework](service, reader=reader, passive=["/do/read"]) as browser:
        browser.do("log-in 1")
        seen.clear()
        browser.do("read")
        browser.do("state")

    assert seen == [False, True]
