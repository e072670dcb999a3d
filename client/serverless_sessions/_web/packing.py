"""Conversion of a web framework's session values to the data of a session, and back.

A framework's own stores return exactly what its serializer accepts: any float, any integer, empty
names. The service stores JSON within DynamoDB's limits, where 1.0 and 1 are the same number. A
value that the service returns unchanged is stored as it is, so that other programs can read it. Any
other value is stored as text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from serverless_sessions._core.exact_json import encode

# A framework's serializer: from one value to text or bytes, and back.
Dumps = Callable[[Any], str | bytes]
Loads = Callable[[str | bytes], Any]

# The member that holds all values whose names the service does not accept.
_OTHER_NAMES = "~"
# A value that cannot be stored as it is becomes {"json": text} or {"base64": bytes}.
_TEXT, _BYTES = "json", "base64"
# The service accepts 30 levels, including the document itself.
_MAX_LEVELS = 28
_TOO_LARGE = 10**38  # has 39 digits
_MAX_NAME = 255
_MAX_MEMBERS = 100
_MAX_BYTES = 64 * 1024
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
_MIN_NUMBER, _MAX_NUMBER = 1e-130, 9.9e125


def pack(values: Mapping[str, Any], dumps: Dumps) -> dict[str, Any]:
    """Return the data for `values`. Raises whatever `dumps` raises."""
    data = {name: _pack_value(dumps(value)) for name, value in values.items() if _is_name(name)}
    others = {name: value for name, value in values.items() if not _is_name(name)}
    if others:
        texts = {name: _pack_value(dumps(value)) for name, value in others.items()}
        data[_OTHER_NAMES] = {_TEXT: json.dumps(texts)}
    return data


def unpack(data: Mapping[str, Any], loads: Loads) -> dict[str, Any]:
    """Return the values in data that `pack` or another program has written."""
    values = {
        name: loads(_unpack_value(value)) for name, value in data.items() if name != _OTHER_NAMES
    }
    match data.get(_OTHER_NAMES):
        case {"json": str(texts)}:
            values |= {
                name: loads(_unpack_value(value)) for name, value in json.loads(texts).items()
            }
    return values


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new and changed members of `after`, and None for every removed member.

    None is unambiguous, because a packed value is never None.
    """
    removed = dict.fromkeys(before.keys() - after.keys())
    changed = {
        name: value
        for name, value in after.items()
        if name not in before or _canonical(before[name]) != _canonical(value)
    }
    return removed | changed


def parts(members: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Split changes into as few requests as possible. Without changes the list is empty.

    The service accepts 100 members and 64 KiB of JSON in a request. A value that is larger gets a
    request of its own, which the service rejects.
    """
    requests: list[dict[str, Any]] = []
    size = 0
    for name, value in members.items():
        # json.dumps escapes characters that the service does not, so this is never too small.
        length = len(json.dumps({name: value}))
        if not requests or len(requests[-1]) == _MAX_MEMBERS or size + length > _MAX_BYTES:
            requests.append({})
            size = 0
        requests[-1][name] = value
        size += length
    return requests


def _canonical(value: Any) -> str:
    """Return a form in which 1, 1.0 and True differ. In Python they are equal."""
    return json.dumps(value, sort_keys=True, default=repr)


def _pack_value(content: str | bytes) -> Any:
    try:
        text = content if isinstance(content, str) else content.decode()
        value = json.loads(text)
    except ValueError:
        raw = content.encode() if isinstance(content, str) else content
        return {_BYTES: base64.b64encode(raw).decode()}
    if value is None or not _round_trips(value, _MAX_LEVELS):
        return {_TEXT: text if _is_text(text) else json.dumps(value)}
    return value


def _unpack_value(value: Any) -> str | bytes:
    match value:
        case {"json": str(text)} if len(value) == 1:
            return text
        case {"base64": str(text)} if len(value) == 1:
            return base64.b64decode(text)
    return encode(value).decode()


def _round_trips(value: Any, levels: int) -> bool:
    """Return whether the service returns `value` with the same type."""
    match value:
        case bool() | None:
            return True
        case int():
            return abs(value) < _TOO_LARGE
        case float():
            return _MIN_NUMBER <= abs(value) <= _MAX_NUMBER and not value.is_integer()
        case str():
            return _is_text(value)
        case list():
            return levels > 0 and all(_round_trips(element, levels - 1) for element in value)
        case dict():
            return (
                levels > 0
                and set(value) not in ({_TEXT}, {_BYTES})
                and all(_is_name(name, reserved="") for name in value)
                and all(_round_trips(member, levels - 1) for member in value.values())
            )
    return False


def _is_name(name: str, *, reserved: str = _OTHER_NAMES) -> bool:
    return 0 < len(name) <= _MAX_NAME and name != reserved and _is_text(name)


def _is_text(text: str) -> bool:
    """Return whether `text` has a UTF-8 form. A lone surrogate has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
