"""Reads images of items of the `Sessions` table, which anyone may have written.

What is not as the service writes it reads as None.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any

import msgspec

from sessions.dynamodb import Attribute, Item, fits_key
from sessions.limits import MAX_KEY_CHARACTERS, MAX_LEVELS

MAX_NAMES = 100
# What stands in for the member of a client that is not there.
_ABSENT = {"ip": "::", "user_agent": ""}
# The characters of an IPv4 or IPv6 address.
_ADDRESS = re.compile("[0-9A-Fa-f.:]{2,45}")
# An event must fit into an item, whatever the stream brings, and as JSON into the 64 KB that
# EventBridge charges as one event. So many bytes of names leave room for the longest of all else.
_MAX_CHARACTERS = 512
_MAX_BYTES_OF_NAMES = 30_000


def number(image: Item, name: str) -> int | None:
    """A whole number of at least 0: a string or a fraction is not what the service writes."""
    try:
        value = image[name]["N"]
    except KeyError:
        return None
    return int(value) if value.isdecimal() else None


def digest(image: Item, name: str) -> bytes | None:
    """The 32 bytes of a hash. Lambda delivers binary values as base64."""
    value = image.get(name, {}).get("B")
    try:
        decoded = value if isinstance(value, bytes) else a2b_base64(value, strict_mode=True)
    except (TypeError, ValueError):
        return None
    return decoded if len(decoded) == 32 else None


def is_client(attribute: Attribute, max_user_agent: int) -> bool:
    """Whether this is the map of a client as the service stores one."""
    members = attribute.get("M")
    if not isinstance(members, dict) or not members or members.keys() - {"ip", "user_agent"}:
        return False
    ip, agent = (members.get(name, {"S": absent}).get("S") for name, absent in _ABSENT.items())
    return (
        isinstance(ip, str)
        and bool(_ADDRESS.fullmatch(ip))
        and isinstance(agent, str)
        and len(agent) <= max_user_agent
    )


def is_json(attribute: Attribute, level: int = 1) -> bool:
    """Whether a value of a session's data is of the types that JSON has, at every level.

    `level` is the one that it takes if it nests.
    """
    [(kind, value)] = attribute.items()
    match kind:
        case "S" | "N" | "BOOL" | "NULL":
            return True
        case "M" if level <= MAX_LEVELS:
            names_fit = all(0 < len(name) <= MAX_KEY_CHARACTERS for name in value)
            return names_fit and all(is_json(member, level + 1) for member in value.values())
        case "L" if level <= MAX_LEVELS:
            return all(is_json(member, level + 1) for member in value)
    return False


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
    if found.isascii() and len(found) <= _MAX_CHARACTERS:
        return found
    return found[:_MAX_CHARACTERS].encode(errors="replace").decode()
