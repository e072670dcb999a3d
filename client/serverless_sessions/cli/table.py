"""Tables that fit a terminal.

Columns that are too wide are wrapped, so nothing is cut off. If a terminal is too narrow for that,
every cell gets a line of its own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

_GAP = "  "
# No column is made narrower than a session id, which has to stay in one piece to be copied.
_MIN_WIDTH = 12


def fitted_widths(
    lines: Iterable[Sequence[str]], columns: int, *, wrap: bool = True
) -> list[int] | None:
    """Return the width of each column so that all of them fit, or None if they can't.

    The first column, a time or an id, is never narrower than its widest cell. Without `wrap`, no
    column is.
    """
    widths = [max(map(display_width, column)) for column in zip(*lines, strict=True)]
    room = columns - len(_GAP) * (len(widths) - 1)
    while sum(widths) > room:
        widest = max(range(1, len(widths)), key=widths.__getitem__)
        if not wrap or widths[widest] <= _MIN_WIDTH:
            return None
        widths[widest] -= 1
    return widths


def row_lines(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Yield the lines of one row of a table."""
    wrapped = [_wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for parts in zip_longest(*wrapped, fillvalue=""):
        padded = (
            part + " " * (width - display_width(part))
            for part, width in zip(parts, widths, strict=True)
        )
        yield _GAP.join(padded).rstrip()


def record_lines(titles: Sequence[str], cells: Sequence[str], columns: int) -> Iterator[str]:
    """Yield the lines of one record: a line for each cell, after its title."""
    label = max(map(len, titles))
    widths = label, max(columns - label - len(_GAP), _MIN_WIDTH)
    for title, cell in zip(titles, cells, strict=True):
        yield from row_lines((title, cell), widths)


def display_width(text: str) -> int:
    """Return the number of columns that a terminal needs for `text`."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me")
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def _wrap(text: str, width: int) -> list[str]:
    """Break `text` at its spaces, and after commas and slashes of words that are too long."""
    lines, line = list[str](), ""
    for word in text.split(" "):
        if line and display_width(f"{line} {word}") <= width:
            line = f"{line} {word}"
            continue
        if line:
            lines.append(line)
        while display_width(word) > width:
            most = next(size for size in range(width, 0, -1) if display_width(word[:size]) <= width)
            end = max(word.rfind(mark, 0, most) + 1 for mark in ",/") or most
            lines.append(word[:end])
            word = word[end:]
        line = word
    return [*lines, line]
