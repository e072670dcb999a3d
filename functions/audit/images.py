"""Reads images of items of the `Sessions` table, which anyone may have written.

What is not as the service writes it reads as None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sessions.dynamodb import Item, fits_key

MAX_NAMES = 100
# An event must fit into an item, whatever the stream brings, and as JSON into the 64 KB that
# EventBridge charges as one event. So many bytes of names leave room for the longest of all else.
_MAX_CHARACTERS = 512
_MAX_BYTES_OF_NAMES = 30_000


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
    told, room = list[str](), _MAX_BYTES_OF_NAMES
    for name in map(_fit, names[:MAX_NAMES]):
        room -= len(msgspec.json.encode(name)) + len(",")
        if room < 0:
            break
        told.append(name)
    changes: dict[str, Any] = {"changed": told}
    if len(told) < len(names):
        changes["changed_count"] = len(names)
    return changes


def _fit(found: str) -> str:
    return found[:_MAX_CHARACTERS].encode(errors="replace").decode()
