"""Where times lie in a picture of some hours or days."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from serverless_sessions import Event
from serverless_sessions.console.lives import Life

# Names as they stand in URLs.
WINDOWS = {"5m": 300, "1h": 3600, "1d": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
_STEPS = (
    *(1, 5, 10, 30, 60, 2 * 60, 5 * 60, 10 * 60, 30 * 60),
    *(3600, 2 * 3600, 6 * 3600, 12 * 3600),
    *(86_400, 2 * 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400, 365 * 86_400),
)
_MOST_TICKS = 6
_LEAST_SECONDS = 20


@dataclass(frozen=True)
class Window:
    """From `begin` up to `end`, in epoch seconds."""

    begin: float
    end: float

    @classmethod
    def around(cls, lives: Iterable[Life], now: int) -> Window:
        """A window that shows all of `lives` from their beginnings, up to now."""
        begins = [life.begin for life in lives if life.begin is not None]
        begin = min([*begins, now - _LEAST_SECONDS])
        margin = (now - begin) * 0.03
        return cls(begin - margin, now + margin)

    def shows(self, life: Life) -> bool:
        ended = life.removed if life.removed is not None else self.end
        return (life.begin or 0) <= self.end and ended >= self.begin

    def place(self, seconds: float | None, *, unknown: float = 0) -> float:
        """A time as a percentage of the picture's width, cut at its edges."""
        if seconds is None:
            return unknown
        share = 100 * (seconds - self.begin) / (self.end - self.begin)
        return round(min(max(share, 0), 100), 2)

    def dots(self, marks: Iterable[Event], most: int) -> list[tuple[float, Event]]:
        """Each mark with its place, but one alone of those that would cover each other.

        The newest `most`: a session can have thousands, and a page stays small.
        """
        found: dict[tuple[int, str], tuple[float, Event]] = {}
        for mark in marks:
            if self.holds(mark.at):
                place = self.place(mark.at)
                found[round(place), mark.type] = place, mark
        return list(found.values())[-most:]

    def holds(self, seconds: int) -> bool:
        return self.begin <= seconds <= self.end

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """A few round times, each with its place and its name in UTC."""
        length = self.end - self.begin
        step = next((each for each in _STEPS if length / each <= _MOST_TICKS), _STEPS[-1])
        first = int(-(-self.begin // step) * step)
        form = "%-d %b" if step >= 86_400 else "%H:%M" if step >= 60 else "%H:%M:%S"
        if 3600 <= step < 86_400 or (step < 3600 and length > 86_400):
            form = "%-d %b %H:%M"
        return [
            (self.place(each), f"{datetime.fromtimestamp(each, UTC):{form}}")
            for each in range(first, int(self.end) + 1, step)
            # A name at the very edge would be cut.
            if 4 < self.place(each) < 96
        ]
