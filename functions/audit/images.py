"""Reads the images of items in stream records of the `Sessions` table.

Anybody with access to the table may have written an item. A value that the service would not write
is read as None.
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
# Valid values in place of optional members that are missing.
_DEFAULTS = {"ip": "::", "user_agent": ""}
# The characters of an IPv4 or IPv6 address.
_ADDRESS = re.compile("[0-9A-Fa-f.:]{2,45}")
# Every event must fit into an item. Its JSON must fit into the 64 KB that EventBridge charges as
# one event. These limits leave enough room for the longest values of all other members.
_MAX_CHARACTERS = 512
_MAX_BYTES_OF_NAMES = 30_000


def number(image: Item, name: str) -> int | None:
    """Return a whole number of at least 0. The service never writes a string or a fraction."""
    try:
        value = image[name]["N"]
    except KeyError:
        return None
    return int(value) if value.isdecimal() else None


def digest(image: Item, name: str) -> bytes | None:
    """Return the 32 bytes of a hash. Lambda delivers binary values as base64."""
    value = image.get(name, {}).get("B")
    try:
        decoded = value if isinstance(value, bytes) else a2b_base64(value, strict_mode=True)
    except (TypeError, ValueError):
        return None
    return decoded if len(decoded) == 32 else None


def is_client(attribute: Attribute, max_user_agent: int) -> bool:
    """Whether this is a map that the service would store for a client."""
    members = attribute.get("M")
    if not isinstance(members, dict) or not members or members.keys() - {"ip", "user_agent"}:
        return False
    ip, agent = (members.get(name, {"S": value}).get("S") for name, value in _DEFAULTS.items())
    return (
        isinstance(ip, str)
        and bool(_ADDRESS.fullmatch(ip))
        and isinstance(agent, str)
        and len(agent) <= max_user_agent
    )


def is_json(attribute: Attribute, level: int = 1) -> bool:
    """Whether a value of a session's data has only types that exist in JSON, at every level.

    `level` is the depth of the value if it is a map or a list.
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
    """Return a text without lone surrogates, cut to a maximum length."""
    value = image.get(name, {}).get("S")
    return _shorten(value) if value and isinstance(value, str) else None


def key(image: Item, name: str) -> str | None:
    """Return a text if it can be a key of a table or of an index. It is never cut."""
    value = image.get(name, {}).get("S")
    return value if fits_key(value) else None


def members(image: Item, name: str) -> dict[str, Any]:
    """Return the members of a map. If the attribute is not a map, there are none."""
    value = image.get(name, {}).get("M")
    return value if isinstance(value, dict) else {}


def impersonator(image: Item) -> dict[str, str]:
    """Return the `id` of who acts as the user, and the `reason`, or {} if the item names nobody."""
    named = members(image, "Impersonator")
    agent, reason = text(named, "id"), text(named, "reason")
    return {"id": agent} | ({"reason": reason} if reason else {}) if agent else {}


def changed_names(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sorted names whose values differ, as the field `changed` of an event.

    Values are never part of an event. If there are too many names, the list is cut, and the field
    `changed_count` is the number of names before the cut.
    """
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    listed, room = list[str](), _MAX_BYTES_OF_NAMES
    for name in map(_shorten, names[:MAX_NAMES]):
        room -= len(msgspec.json.encode(name)) + len(",")
        if room < 0:
            break
        listed.append(name)
    changes: dict[str, Any] = {"changed": listed}
    if len(listed) < len(names):
        changes["changed_count"] = len(names)
    return changes


def _shorten(text: str) -> str:
    if text.isascii() and len(text) <= _MAX_CHARACTERS:
        return text
    return text[:_MAX_CHARACTERS].encode(errors="replace").decode()
