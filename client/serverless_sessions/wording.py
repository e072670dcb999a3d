"""Words for people: times, browsers, what comes next, and text without control characters.

The command line, the console and the page of a user's devices use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from serverless_sessions._core import clock

# Units of time in seconds, the largest first.
UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


@dataclass(frozen=True)
class Moment:
    """A time, in epoch seconds."""

    seconds: int

    def __str__(self) -> str:
        return f"{datetime.fromtimestamp(self.seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"

    def date_and_time(self) -> str:
        return f"{datetime.fromtimestamp(self.seconds, UTC):%Y-%m-%d %H:%M:%S}"

    def in_words(self) -> str:
        return f"{self.date_and_time()} UTC ({self.distance()})"

    def distance(self) -> str:
        """Return the distance from now in its largest unit: "in 5 minutes", "2 days ago"."""
        away = self.seconds - clock.now()
        if not away:
            return "now"
        return f"in {duration(away)}" if away > 0 else f"{duration(-away)} ago"

    def short_distance(self) -> str:
        """Return the distance with a letter for the unit: "in 5m", "2d ago"."""
        away = self.seconds - clock.now()
        if not away:
            return "now"
        unit, length = _unit(abs(away))
        count = f"{abs(away) // length}{unit[0]}"
        return f"in {count}" if away > 0 else f"{count} ago"


def duration(seconds: int) -> str:
    """Return a length of time in its largest unit: "19 hours"."""
    unit, length = _unit(seconds)
    count = seconds // length
    return f"{count} {unit}{'s' if count > 1 and unit != 's' else ''}"


def _unit(seconds: int) -> tuple[str, int]:
    return next(((unit, length) for unit, length in UNITS if seconds >= length), ("s", 1))


def outlook(cause: str, expected_by: int | None) -> str:
    """Say when the trail gets the event of an expiry with this cause.

    `expected_by` is in epoch seconds, or None if the service promises nothing.
    """
    if expected_by is not None:
        when = Moment(expected_by).in_words()
        if expected_by >= clock.now():
            return f"The event is expected by {when}."
        return (
            f"The event is late: it was expected by {when}. Look at the alarm sweeper-late. TTL"
            " deletes sessions that were created before prompt expiry was switched on."
        )
    if cause == "not_before":
        return (
            "The trail gets the event when the session is deleted, after the time at which it"
            " would have expired otherwise."
        )
    return (
        "The trail gets the event when DynamoDB's TTL deletes the session, usually within a few"
        " days."
    )


def text(value: object) -> str:
    """Replace control characters: text from users and browsers must not control a terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in str(value)
    )


def browser_name(user_agent: str) -> str | None:
    """Return a short name of a browser, such as "Firefox on Linux". None if it is not known."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), None)
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), None)
    return f"{browser} on {system}" if browser and system else browser


# The first match wins, because a user agent also contains the names of similar browsers. That of an
# iPhone has no "Safari/" after a renewal, because the service stores the first 128 characters.
_BROWSERS = (
    *(("Edg/", "Edge"), ("EdgA/", "Edge"), ("EdgiOS/", "Edge"), ("OPR/", "Opera")),
    *(("SamsungBrowser/", "Samsung Internet"), ("Firefox/", "Firefox"), ("FxiOS/", "Firefox")),
    *(("Chrome/", "Chrome"), ("CriOS/", "Chrome"), ("Safari/", "Safari")),
    *(("like Mac OS X) AppleWebKit/", "Safari"), ("curl/", "curl")),
)
_SYSTEMS = (
    *(("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows")),
    *(("Mac OS X", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux")),
)
