"""The horizontal positions of times in a picture of timelines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from serverless_sessions import Event
from serverless_sessions.console.timeline import Timeline

# The keys occur in URLs.
WINDOWS = {"5m": 300, "1h": 3600, "1d": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
_STEPS = (
    *(1, 5, 10, 30, 60, 2 * 60, 5 * 60, 10 * 60, 30 * 60),
    *(3600, 2 * 3600, 6 * 3600, 12 * 3600),
    *(86_400, 2 * 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400, 365 * 86_400),
)
_MAX_TICKS = 6
_MIN_SECONDS = 20


@dataclass(frozen=True)
class Window:
    """The period that a picture shows, in epoch seconds."""

    begin: float
    end: float

    @classmethod
    def around(cls, timelines: Iterable[Timeline], now: int) -> Window:
        """Return a window from the beginning of the first timeline up to now."""
        begins = [timeline.begin for timeline in timelines if timeline.begin is not None]
        begin = min([*begins, now - _MIN_SECONDS])
        margin = (now - begin) * 0.03
        return cls(begin - margin, now + margin)

    def shows(self, timeline: Timeline) -> bool:
        end = timeline.removed if timeline.removed is not None else self.end
        return (timeline.begin or 0) <= self.end and end >= self.begin

    def position(self, seconds: float | None, *, unknown: float = 0) -> float:
        """Return the position of a time as a percentage of the picture's width, from 0 to 100."""
        if seconds is None:
            return unknown
        share = 100 * (seconds - self.begin) / (self.end - self.begin)
        return round(min(max(share, 0), 100), 2)

    def dots(self, marks: Iterable[Event], most: int) -> list[tuple[float, Event]]:
        """Return marks with their positions. Marks that would cover each other become one.

        A session can have thousands of marks. To keep the page small, only the newest `most` are
        returned.
        """
        dots: dict[tuple[int, str], tuple[float, Event]] = {}
        for mark in marks:
            if self.contains(mark.at):
                position = self.position(mark.at)
                dots[round(position), mark.type] = position, mark
        return list(dots.values())[-most:]

    def contains(self, seconds: int) -> bool:
        return self.begin <= seconds <= self.end

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Return a few round times as pairs of a position and a label in UTC."""
        length = self.end - self.begin
        step = next((size for size in _STEPS if length / size <= _MAX_TICKS), _STEPS[-1])
        first = int(-(-self.begin // step) * step)
        label_format = "%-d %b" if step >= 86_400 else "%H:%M" if step >= 60 else "%H:%M:%S"
        if 3600 <= step < 86_400 or (step < 3600 and length > 86_400):
            label_format = "%-d %b %H:%M"
        return [
            (self.position(moment), f"{datetime.fromtimestamp(moment, UTC):{label_format}}")
            for moment in range(first, int(self.end) + 1, step)
            # A label too close to the edge would be cut off.
            if 4 < self.position(moment) < 96
        ]
