"""Reads images of items of the `Sessions` table, which anyone may have written.

What is not as the service writes it reads as None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessions.dynamodb import Item, fits_key

MAX_NAMES = 100
# An event must fit into an item, whatever the stream brings.
_MAX_CHARACTERS = 512


def number(image: Item, name: str) -> int | None:
    """A whole number: a string or a fraction is not what the service writes."""
    found = image.get(name, {}).get("N", "")
    return int(found) if found.removeprefix("-").isdigit() else None


def text(image: Item, name: str) -> str | None:
    """The beginning of a text, without lone surrogates."""
    found = image.get(name, {}).get("S")
    return _fit(found) if found and isinstance(found, str) else None


def key(image: Item, name: str) -> str | None:
    """A text that can be a key, whole."""
    found = image.get(name, {}).get("S")
    return found if fits_key(found) else None


def members(image: Item, name: str) -> dict[str, Any]:
    """The members of a map; none if it is not one."""
    found = image.get(name, {}).get("M")
    return found if isinstance(found, dict) else {}


def names_of_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The names whose values differ, in order, never the values; an event's `changed`."""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    changes: dict[str, Any] = {"changed": [_fit(name) for name in names[:MAX_NAMES]]}
    if len(names) > MAX_NAMES:
        changes["changed_count"] = len(names)
    return changes


def _fit(found: str) -> str:
    return found[:_MAX_CHARACTERS].encode(errors="replace").decode()
