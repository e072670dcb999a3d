"""The output of the command line: tables for people, lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import click

from serverless_sessions import Client, Event, Session
from serverless_sessions._core import clock

_LAST_WIDTH = 60
# Units of time in seconds, the largest first.
UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


@dataclass(frozen=True)
class Moment:
    """A time, in epoch seconds."""

    seconds: int

    def __str__(self) -> str:
        return f"{datetime.fromtimestamp(self.seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"

    def in_words(self) -> str:
        return f"{datetime.fromtimestamp(self.seconds, UTC):%Y-%m-%d %H:%M:%S} ({self.distance()})"

    def distance(self) -> str:
        """Return the distance from now in its largest unit: "in 5 minutes", "2 days ago"."""
        away = self.seconds - clock.now()
        if not away:
            return "now"
        return f"in {duration(away)}" if away > 0 else f"{duration(-away)} ago"


def duration(seconds: int) -> str:
    """Return a length of time in its largest unit: "19 hours"."""
    for unit, length in UNITS:
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} s"


Cell = str | int | Moment


@dataclass(frozen=True)
class Row:
    """One line of output: `facts` for `--json`, and `cells` for a table."""

    facts: dict[str, Any]
    cells: tuple[Cell, ...]


def show(titles: tuple[str, ...], rows: Iterable[Row], *, as_json: bool) -> int:
    """Print `rows` and return their number.

    A terminal gets a table with titles. A pipe gets one line of tab-separated cells for every row,
    as soon as the row is available. With `as_json`, every line is a JSON object.
    """
    if not as_json and on_terminal():
        return _table(titles, rows)
    count = 0
    for row in rows:
        count += 1
        line = json.dumps(row.facts) if as_json else "\t".join(text(cell) for cell in row.cells)
        click.echo(line)
        sys.stdout.flush()
    return count


def on_terminal() -> bool:
    return sys.stdout.isatty()


def _table(titles: tuple[str, ...], rows: Iterable[Row]) -> int:
    lines = [
        [cell.in_words() if isinstance(cell, Moment) else text(cell) for cell in row.cells]
        for row in rows
    ]
    if lines:
        # The last column can be long: it may contain a browser's user agent.
        lines = [[*line[:-1], line[-1][:_LAST_WIDTH]] for line in lines]
        widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
        for line in ([title.upper() for title in titles], *lines):
            padded = (cell.ljust(size) for cell, size in zip(line, widths, strict=True))
            click.echo("  ".join(padded).rstrip())
    return len(lines)


def text(cell: object) -> str:
    """Replace control characters: text from users and browsers must not control a terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in str(cell)
    )


SESSION_TITLES = ("session", "created", "renewed", "expires", "from", "browser")


def session_row(session: Session) -> Row:
    """Return the table row of a session. It does not contain the data."""
    client = session.client if session.last_client == Client() else session.last_client
    return Row(
        session_facts(session),
        (
            session.session_id,
            Moment(session.created_at),
            Moment(session.renewed_at),
            Moment(session.expires_at),
            client.ip or "",
            client.user_agent or "",
        ),
    )


def session_facts(session: Session, *, with_data: bool = False) -> dict[str, Any]:
    """Return the members of a session's JSON, with its data if `with_data` is true."""
    facts = asdict(session)
    if not with_data:
        del facts["data"]
    return facts


EVENT_TITLES = ("at", "event", "session", "by", "details")
# All other fields of an event are shown in the column "details".
_COMMON_FIELDS = {
    "event_id",
    "type",
    "session_id",
    "user_id",
    "at",
    "recorded_at",
    "actor",
    "request_id",
}


def event_row(event: Event) -> Row:
    facts = {name: fact for name, fact in asdict(event).items() if fact is not None}
    details = (
        f"{name}={','.join(fact) if isinstance(fact, list | tuple) else fact}"
        for name, fact in facts.items()
        if name not in _COMMON_FIELDS
    )
    # An actor is an ARN such as "arn:aws:iam::111122223333:user/backend".
    actor = (event.actor or "").rpartition(":")[2]
    return Row(facts, (Moment(event.at), event.type, event.session_id, actor, " ".join(details)))
