"""The output of the command line: tables for people, lines for programs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from serverless_sessions import Client, Event, Session
from serverless_sessions._core import exact_json
from serverless_sessions.cli.streams import encodable
from serverless_sessions.cli.table import fitted_widths, record_lines, row_lines
from serverless_sessions.operate.report import as_json
from serverless_sessions.wording import Moment, browser_name, text


@dataclass(frozen=True)
class Cell:
    """One value: in a pipe, in a table, and in a table on a narrow terminal."""

    piped: str
    wide: str
    narrow: str


def _plain(value: object) -> Cell:
    return Cell(text(value), text(value), text(value))


@dataclass(frozen=True)
class Row:
    """One line of output: `facts` for `--json`, and `cells` for everything else."""

    facts: dict[str, Any]
    cells: tuple[Cell, ...]


def show(titles: Sequence[str], rows: Iterable[Row]) -> int:
    """Print `rows` and return their number.

    A terminal gets a table with titles. A pipe gets one line of tab-separated cells for every row,
    as soon as the row is available. With `--json`, every line is a JSON object.
    """
    if not as_json.get() and on_terminal():
        rows = list(rows)
        _table(titles, rows)
        return len(rows)
    count = 0
    for row in rows:
        count += 1
        if as_json.get():
            show_json(row.facts)
        else:
            click.echo("\t".join(cell.piped for cell in row.cells))
    return count


def show_live(titles: Sequence[str], widths: Sequence[int], rows: Iterable[Row]) -> None:
    """Print each of `rows` as soon as it is available, on a terminal too.

    The rows to come are not known, so `widths` are the usual ones of all columns but the last.
    """
    if as_json.get() or not on_terminal():
        show(titles, rows)
        return
    usual = [*("." * width for width in widths), "." * _columns()]
    fitted = fitted_widths([usual], _columns())
    headings = [title.upper() for title in titles]
    if fitted:
        _print(row_lines(headings, fitted))
    for row in rows:
        cells = [encodable(cell.narrow) for cell in row.cells]
        _print(row_lines(cells, fitted) if fitted else _record(headings, cells))


def show_facts(facts: Mapping[str, Any]) -> None:
    """Print one object: a line for each member, or JSON."""
    if as_json.get():
        show_json(facts)
    elif on_terminal():
        cells = [encodable(_fact(name, fact).wide) for name, fact in facts.items()]
        _print(record_lines(list(facts), cells, _columns()))
    else:
        for name, fact in facts.items():
            click.echo(f"{name}\t{_fact(name, fact).piped}")


def show_json(facts: Mapping[str, Any], *, err: bool = False) -> None:
    click.echo(exact_json.encode(facts).decode(), err=err)


def result(sentence: str, **facts: Any) -> None:
    """Say what a command did: a sentence on standard error, or JSON on standard output."""
    if as_json.get():
        show_json(facts)
    else:
        click.echo(sentence, err=True)


def notice(sentence: str, **facts: Any) -> None:
    """Say something that is no result, on standard error."""
    if as_json.get():
        show_json({"message": sentence} | facts, err=True)
    else:
        click.echo(sentence, err=True)


def on_terminal() -> bool:
    return sys.stdout.isatty()


def _table(titles: Sequence[str], rows: Sequence[Row]) -> None:
    """Print the widest form that fits: with whole times, with short ones, or a line per cell."""
    if not rows:
        return
    headings = [title.upper() for title in titles]
    wide = [[encodable(cell.wide) for cell in row.cells] for row in rows]
    narrow = [[encodable(cell.narrow) for cell in row.cells] for row in rows]
    for lines in (wide, narrow):
        widths = fitted_widths([headings, *lines], _columns(), wrap=lines is narrow)
        if widths:
            for cells in (headings, *lines):
                _print(row_lines(cells, widths))
            return
    for cells in wide:
        _print(_record(headings, cells))


def _record(headings: Sequence[str], cells: Sequence[str]) -> Iterator[str]:
    yield from record_lines(headings, cells, _columns())
    yield ""


def _columns() -> int:
    return shutil.get_terminal_size().columns


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


SESSION_TITLES = ("session", "created", "renewed", "expires", "from", "browser")


def session_row(session: Session) -> Row:
    """Return the table row of a session. It does not contain the data."""
    client = session.client if session.last_client == Client() else session.last_client
    agent = text(client.user_agent or "")
    browser = browser_name(agent) or agent
    if session.impersonator:
        browser = f"{browser} (impersonated by {text(session.impersonator.id)})".lstrip()
    times = session.created_at, session.renewed_at, session.expires_at
    return Row(
        session_facts(session),
        (
            _plain(session.session_id),
            *(_age(Moment(time)) for time in times),
            _plain(client.ip or ""),
            Cell(agent, browser, browser),
        ),
    )


def _age(moment: Moment) -> Cell:
    return Cell(str(moment), moment.in_words(), moment.short_distance())


def session_facts(session: Session, *, with_data: bool = False) -> dict[str, Any]:
    """Return the members of a session's JSON, with its data if `with_data` is true."""
    facts = asdict(session)
    if not with_data:
        del facts["data"]
    return facts


def _fact(name: str, fact: Any) -> Cell:
    if name.endswith("_at") and fact is not None:
        return _age(Moment(fact))
    return _plain(fact if isinstance(fact, str | int) else exact_json.encode(fact).decode())


EVENT_TITLES = ("at (utc)", "event", "session", "by", "details")
# The usual widths of these columns, but for the details.
EVENT_WIDTHS = (19, 13, 12, 24)
# All other fields of an event are shown in the column "details". The exception is `removed_by`,
# which is shown only for `purged`: with prompt expiry, it is "unknown" for every expired session.
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


def _detail(fact: Any) -> str:
    if isinstance(fact, dict):
        fact = fact.values()
    return str(fact) if isinstance(fact, str | int) else ",".join(fact)


def event_row(event: Event) -> Row:
    facts = {name: fact for name, fact in asdict(event).items() if fact is not None}
    if event.impersonator:
        named = asdict(event.impersonator)
        facts["impersonator"] = {name: value for name, value in named.items() if value is not None}
    details = (
        f"{name}={_detail(fact)}"
        for name, fact in facts.items()
        if name not in _COMMON_FIELDS and (name != "removed_by" or event.type == "purged")
    )
    at = Moment(event.at)
    # An actor is an ARN such as "arn:aws:iam::111122223333:user/backend".
    actor = (event.actor or "").rpartition(":")[2]
    return Row(
        facts,
        (
            Cell(str(at), f"{at.date_and_time()} ({at.distance()})", at.date_and_time()),
            *map(_plain, (event.type, event.session_id, actor, " ".join(details))),
        ),
    )
