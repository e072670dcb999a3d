"""JSON encoding and decoding of session data that preserves the exact value of every number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from secrets import token_hex
from typing import Any


def encode(document: object) -> bytes:
    """Return compact JSON. A `Decimal` is written as a number, with all of its digits.

    Raises `TypeError` and `ValueError` as `json.dumps` does, and `ValueError` for NaN and infinity.
    """
    # The json module cannot write a Decimal. It is written as a string between two random marks,
    # and the quotes are removed together with the marks.
    mark = token_hex(16)
    has_decimal = False

    def encode_decimal(value: object) -> str:
        nonlocal has_decimal
        if not isinstance(value, Decimal):
            raise TypeError(f"{type(value).__name__} is no JSON type")
        if not value.is_finite():
            raise ValueError("JSON has no NaN and no infinity")
        has_decimal = True
        return f"{mark}{value}{mark}"

    text = json.dumps(document, default=encode_decimal, allow_nan=False, separators=(",", ":"))
    if has_decimal:
        text = text.replace(f'"{mark}', "").replace(f'{mark}"', "")
    return text.encode()


# The exponent of a number that Python would need minutes to write out. It is far beyond the
# service's limit.
_MAX_EXPONENT = 4000


def decode(text: bytes | str) -> Any:
    """Parse JSON, with `parse_number` for its numbers. Raises `ValueError` for anything else."""
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("the document has too many levels") from None


def parse_number(text: str) -> int | float | Decimal:
    """Return an int for an integer, else a float, or a `Decimal` if a float would be inexact.

    A float is exact if Python writes it with the same value: `0.1` becomes a float, and
    `0.1000000000000000000001` becomes a `Decimal`. Raises `ValueError` if the exponent is too
    large.
    """
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise ValueError("the exponent is too large") from None
    if exact.adjusted() > _MAX_EXPONENT:
        raise ValueError("the exponent is too large")
    if exact == exact.to_integral_value():
        return int(exact)
    nearest = float(text)
    return nearest if Decimal(repr(nearest)) == exact else exact


def same(one: object, other: object) -> bool:
    """Return whether both values are equal as JSON, where True and 1 differ."""
    return _canonical(one) == _canonical(other)


def _canonical(value: object) -> str:
    return json.dumps(decode(encode(value)), sort_keys=True, default=str)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the changes that `change` must send to turn `before` into `after`.

    Return None if `change` cannot express them: it cannot set a key to None, use an empty key, or
    change more than 100 keys.
    """
    result = {
        key: value
        for key, value in after.items()
        if key not in before or not same(before[key], value)
    }
    if None in result.values() or "" in result:
        return None
    result |= {key: None for key in before if key not in after}
    return result if len(result) <= 100 else None


# `json.loads` would make a new decoder for every document.
_DECODER = json.JSONDecoder(parse_float=parse_number)
