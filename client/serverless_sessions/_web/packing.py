"""A web framework's session values as the data of a session, and back.

A framework's own stores give back exactly what its serializer took: any float, any size of a
number, empty names. The service holds JSON within DynamoDB's bounds, where 1.0 is 1. So a value
stands in the data as it is, readable to all, where it comes back the same; else as text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from serverless_sessions._core.exact_json import encode

# What a framework's serializer makes of one value, and the other way round.
Dumps = Callable[[Any], str | bytes]
Loads = Callable[[str | bytes], Any]

# The member for all names that the service does not take.
_OTHERS = "~"
# {"json": text} and {"base64": bytes} stand for what can't stand as it is.
_TEXT, _BYTES = "json", "base64"
# The service takes 30 levels, the document itself among them.
_MAX_LEVELS = 28
_TOO_LARGE = 10**38  # has 39 digits
_MAX_NAME = 255
_MAX_MEMBERS = 100
_MAX_BYTES = 64 * 1024
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
_LEAST, _MOST = 1e-130, 9.9e125


def pack(values: Mapping[str, Any], dumps: Dumps) -> dict[str, Any]:
    """The data for these values. Raises what `dumps` raises."""
    data = {name: _packed(dumps(value)) for name, value in values.items() if _is_name(name)}
    others = {name: value for name, value in values.items() if not _is_name(name)}
    if others:
        texts = {name: _packed(dumps(value)) for name, value in others.items()}
        data[_OTHERS] = {_TEXT: json.dumps(texts)}
    return data


def unpack(data: Mapping[str, Any], loads: Loads) -> dict[str, Any]:
    """The values in data that `pack` made, or that some other program wrote as plain JSON."""
    values = {name: loads(_unpacked(value)) for name, value in data.items() if name != _OTHERS}
    match data.get(_OTHERS):
        case {"json": str(texts)}:
            values |= {name: loads(_unpacked(each)) for name, each in json.loads(texts).items()}
    return values


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What makes data `after` of `before`: its new and changed members, and None for the removed.

    A packed value is never None.
    """
    removed = dict.fromkeys(before.keys() - after.keys())
    changed = {
        name: value
        for name, value in after.items()
        if name not in before or _spelled(before[name]) != _spelled(value)
    }
    return removed | changed


def parts(changed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same changes in as few requests as hold them; none for no changes.

    A request takes 100 members and 64 KiB of JSON. A larger value has one to itself, and is for the
    service to refuse.
    """
    found: list[dict[str, Any]] = []
    size = 0
    for name, value in changed.items():
        # At least what the service counts: it does not escape, as this does.
        length = len(json.dumps({name: value}))
        if not found or len(found[-1]) == _MAX_MEMBERS or size + length > _MAX_BYTES:
            found.append({})
            size = 0
        found[-1][name] = value
        size += length
    return found


def _spelled(value: Any) -> str:
    """To Python 1, 1.0 and True are equal; as JSON they are not."""
    return json.dumps(value, sort_keys=True, default=repr)


def _packed(dumped: str | bytes) -> Any:
    try:
        text = dumped if isinstance(dumped, str) else dumped.decode()
        value = json.loads(text)
    except ValueError:
        raw = dumped.encode() if isinstance(dumped, str) else dumped
        return {_BYTES: base64.b64encode(raw).decode()}
    if value is None or not _comes_back(value, _MAX_LEVELS):
        return {_TEXT: text if _is_text(text) else json.dumps(value)}
    return value


def _unpacked(value: Any) -> str | bytes:
    match value:
        case {"json": str(text)} if len(value) == 1:
            return text
        case {"base64": str(text)} if len(value) == 1:
            return base64.b64decode(text)
    return encode(value).decode()


def _comes_back(value: Any, levels: int) -> bool:
    """Whether the service gives `value` back with the same type."""
    match value:
        case bool() | None:
            return True
        case int():
            return abs(value) < _TOO_LARGE
        case float():
            return _LEAST <= abs(value) <= _MOST and not value.is_integer()
        case str():
            return _is_text(value)
        case list():
            return levels > 0 and all(_comes_back(each, levels - 1) for each in value)
        case dict():
            return (
                levels > 0
                and set(value) not in ({_TEXT}, {_BYTES})
                and all(_is_name(name, reserved="") for name in value)
                and all(_comes_back(each, levels - 1) for each in value.values())
            )
    return False


def _is_name(name: str, *, reserved: str = _OTHERS) -> bool:
    return 0 < len(name) <= _MAX_NAME and name != reserved and _is_text(name)


def _is_text(text: str) -> bool:
    """A lone surrogate has no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
