"""`sessions tail`: nothing that comes to the trail is missed or told twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from click.testing import CliRunner

from serverless_sessions import Event, NotAllowed, Sessions, Unavailable
from serverless_sessions._core import clock
from serverless_sessions.cli.commands import main
from serverless_sessions.cli.tail import Tail
from tests.support.service import Service, unavailable
from tests.support.trail import WriteEvent, writing_events

NOW = 1_795_435_200
DAY = 86_400


@dataclass
class Trail:
    """A service with the trail of one user, in pages of two, and what becomes of it over time.

    `steps` happen one after the other, each while the tail waits for its next look. Then the tail
    is interrupted.
    """

    steps: list[Callable[[], Any]] = field(default_factory=list)
    recorded: dict[str, int] = field(default_factory=dict)
    error: Exception | None = None
    pages_before_error: int = 0
    read: int = 0
    outages: list[str] = field(default_factory=list)

    def add(self, name: str, recorded_at: int) -> None:
        self.recorded[f"{recorded_at:010d}#{name}"] = recorded_at

    def wait(self, seconds: float) -> None:
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()

    def events(self, *, user_id: str, since: int = 0, newest_first: bool = True) -> Iterator[Event]:
        pages = self.pages_before_error
        ids = sorted(id for id, at in self.recorded.items() if at >= since)
        for number, id in enumerate(reversed(ids) if newest_first else ids):
            if number % 2 == 0 and self.error:
                if pages == 0:
                    raise self.error
                pages -= 1
            self.read += 1
            at = self.recorded[id]
            yield Event(id, "updated", "A" * 12, user_id, at, at, None, None)
        if not ids and self.error:
            raise self.error

    def fail(self, error: Exception | None, pages_before: int = 0) -> None:
        self.error, self.pages_before_error = error, pages_before

    def told(self) -> list[str]:
        """The names of the events that a tail yields until it is interrupted."""
        service: Any = self
        names = []
        with suppress(KeyboardInterrupt):
            for event in Tail(service, "ada", lambda error: self.outages.append(str(error))):
                names.append(event.event_id.partition("#")[2])
        return names


@pytest.fixture
def trail(monkeypatch: pytest.MonkeyPatch) -> Trail:
    trail = Trail()
    monkeypatch.setattr(clock, "sleep", trail.wait)
    monkeypatch.setattr(clock, "time", lambda: NOW)
    return trail


def test_only_what_comes_is_told_and_only_once(trail: Trail) -> None:
    trail.add("old", NOW - 5)
    trail.steps = [lambda: trail.add("first", NOW), lambda: None, lambda: trail.add("second", NOW)]

    assert trail.told() == ["first", "second"]


def test_event_that_an_index_shows_late_is_told(trail: Trail) -> None:
    trail.add("old", NOW - 5)
    trail.steps = [
        lambda: trail.add("young", NOW + 100),
        lambda: trail.add("late", NOW - 10),
        lambda: trail.add("before the start", NOW - 20),
    ]

    assert trail.told() == ["young", "late", "before the start"]


def test_event_of_a_batch_that_lambda_repeated_for_hours_is_told_within_a_minute(
    trail: Trail,
) -> None:
    trail.add("old", NOW)
    trail.steps = [lambda: trail.add("late", NOW - 20 * 3600)] + [lambda: None] * 30

    assert trail.told() == ["late"]


def test_outage_is_survived_and_what_happened_in_it_is_told(trail: Trail) -> None:
    """However long it lasts, and whatever came late to the trail in the meantime."""
    trail.add("old", NOW)

    def go_on() -> None:
        trail.fail(None)
        trail.add("late", NOW - 3600)
        for number in range(5):
            trail.add(f"hour {number}", NOW + number * 3600)

    trail.steps = [lambda: trail.fail(Unavailable("no answer")), *[lambda: None] * 3, go_on]

    assert sorted(trail.told()) == [*(f"hour {number}" for number in range(5)), "late"]
    assert trail.outages == ["no answer", "None"]


def test_outage_between_two_pages_loses_nothing(trail: Trail) -> None:
    trail.add("old", NOW)

    def add_some_and_fail() -> None:
        for number in range(6):
            trail.add(str(number), NOW + number * 1000)
        trail.fail(Unavailable("no answer"), pages_before=1)

    trail.steps = [add_some_and_fail, lambda: trail.fail(None)]

    assert trail.told() == ["0", "1", "2", "3", "4", "5"]


def test_outage_in_a_long_read_does_not_put_it_off(trail: Trail) -> None:
    trail.add("old", NOW)
    trail.steps = [
        *[lambda: None] * 28,
        lambda: trail.add("late", NOW - 3600),
        lambda: trail.fail(Unavailable("no answer")),
        lambda: trail.fail(None),
    ]

    assert trail.told() == ["late"]


@pytest.mark.parametrize("skew", [-3600, 3600], ids=["slow", "fast"])
def test_clock_of_this_machine_does_not_matter(
    trail: Trail, monkeypatch: pytest.MonkeyPatch, skew: int
) -> None:
    monkeypatch.setattr(clock, "time", lambda: NOW + skew)
    trail.add("old", NOW)
    trail.steps = [lambda: trail.add("new", NOW + 2), lambda: trail.add("newer", NOW + 4)]

    assert trail.told() == ["new", "newer"]


def test_event_from_the_future_hides_no_other(trail: Trail) -> None:
    """Somebody may have invoked the function of the trail with a record of their own."""
    trail.add("forged", NOW + 10 * DAY)
    trail.steps = [lambda: trail.add("new", NOW), lambda: trail.add("newer", NOW + 1)]

    assert trail.told() == ["new", "newer"]


def test_long_trail_is_read_once(trail: Trail) -> None:
    """And after that only its end."""
    for number in range(1000):
        trail.add(str(number), NOW - number * 600)
    trail.steps = [lambda: None] * 20

    assert trail.told() == []
    assert trail.read < 200


def test_error_other_than_an_outage_ends_it(trail: Trail) -> None:
    trail.steps = [lambda: trail.fail(NotAllowed("expired"))]
    tail = Tail(trail, "ada", lambda _: None)  # type: ignore[arg-type]

    with pytest.raises(NotAllowed):
        next(iter(tail))


@pytest.fixture
def write_event(service: Service) -> Iterator[WriteEvent]:
    with writing_events(service.audit_table) as write_event:
        yield write_event


def test_command_goes_on_after_an_outage_and_ends_well_at_ctrl_c(
    service: Service, write_event: WriteEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the real service, which answers 503 for longer than the client goes on trying."""

    def go_on() -> None:
        service.plan()
        write_event("revoked", "A" * 12, reason="stolen")

    def stop() -> None:
        raise KeyboardInterrupt

    steps = iter(
        [
            lambda: write_event("updated", "A" * 12, changed=["a"]),
            lambda: service.plan(always=unavailable),
            go_on,
            stop,
        ]
    )
    pauses = []

    def sleep(seconds: float) -> None:
        if seconds == 2:
            next(steps)()
        else:
            pauses.append(seconds)  # of the client, before it repeats a call

    # Each of them brings the end of the call's time nearer, so that the test need not wait.
    monkeypatch.setattr(clock, "monotonic", lambda: time.monotonic() + 4 * len(pauses))
    monkeypatch.setattr(clock, "sleep", sleep)
    write_event("created", "A" * 12)

    done = CliRunner().invoke(main, ["--url", service.url, "tail", "ada"])

    assert done.exit_code == 0
    lines = [line.split("\t")[1:] for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["updated", "revoked"]
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "The service does not answer, and is tried again",
        "The service answers again.",
    ]


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_terminal_gets_titles_once_and_rows_that_fit(
    trail: Trail, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("serverless_sessions.cli.output.on_terminal", lambda: True)
    monkeypatch.setattr(Sessions, "events", lambda _, **query: trail.events(**query))
    trail.steps = [lambda: trail.add("first", NOW), lambda: trail.add("second", NOW + 1)]

    done = CliRunner().invoke(main, ["--url", "http://127.0.0.1:9", "tail", "ada"])

    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert done.stdout.count("2026-11-23 12:00:0") == 2
    assert done.stdout.count("AT (UTC)") == (2 if columns == 60 else 1)
