"""Session data as JSON text, with no number changed on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from secrets import token_hex
from typing import Any


def encode(document: object) -> bytes:
    """Compact JSON. A `Decimal` is written as the number that it is.

    Raises `TypeError` and `ValueError` as `json.dumps` does, also for NaN and infinity.
    """
    # json writes no Decimal: it writes strings that nobody else can have made, and these lose
    # their quotes.
    mark = token_hex(16)
    marked = False

    def spell(value: object) -> str:
        nonlocal marked
        if not isinstance(value, Decimal):
            raise TypeError(f"{type(value).__name__} is no JSON type")
        if not value.is_finite():
            raise ValueError("JSON has no NaN and no infinity")
        marked = True
        return f"{mark}{value}{mark}"

    text = json.dumps(document, default=spell, allow_nan=False, separators=(",", ":"))
    if marked:
        text = text.replace(f'"{mark}', "").replace(f'{mark}"', "")
    return text.encode()


def decode(text: bytes | str) -> Any:
    """JSON with numbers as `number` reads them."""
    return json.loads(text, parse_float=number)


def number(text: str) -> int | float | Decimal:
    """An int if it is one; else a float, or a `Decimal` where the float would be another number.

    `0.1` is the float that Python writes as 0.1. `0.1000000000000000000001` is a `Decimal`.
    """
    exact = Decimal(text)
    if exact == exact.to_integral_value():
        return int(exact)
    nearest = float(text)
    return nearest if Decimal(repr(nearest)) == exact else exact


def same(one: object, other: object) -> bool:
    """Whether both are the same JSON. Python alone takes True for 1."""
    return _canonical(one) == _canonical(other)


def _canonical(value: object) -> str:
    return json.dumps(decode(encode(value)), sort_keys=True, default=str)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `change` has to send to turn one into the other: None where it can't.

    It can't set a key to None, name an empty key, or change more than 100 keys.
    """
    found = {
        key: value
        for key, value in after.items()
        if key not in before or not same(before[key], value)
    }
    if None in found.values() or "" in found:
        return None
    found |= {key: None for key in before if key not in after}
    return found if len(found) <= 100 else None
