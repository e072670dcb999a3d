"""A session's data: JSON on one side, DynamoDB's native types on the other."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal, DecimalException, Inexact, Overflow, Subnormal
from typing import Any

from sessions.dynamodb import Attribute
from sessions.errors import InvalidField, member

# DynamoDB refuses the 33rd level; the attribute itself and a scalar at the bottom count too.
MAX_LEVELS = 30
MAX_KEY_CHARACTERS = 255
# What a Number holds without rounding it:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_NUMBERS = Context(prec=38, Emin=-130, Emax=125, traps=[Inexact, Overflow, Subnormal])
_NUMBER_RULE = "a number has at most 38 digits and a magnitude of 1E-130 to 9.9E125"


def read_number(text: str) -> Decimal:
    """A JSON number as it is written, where a float would round.

    Raises `ValueError` for an exponent that not even a Decimal takes.
    """
    try:
        return Decimal(text)
    except DecimalException:
        raise ValueError(_NUMBER_RULE) from None


def to_attributes(document: Mapping[str, Any], pointer: str, level: int = 1) -> Attribute:
    """The members of a JSON object as DynamoDB attribute values.

    `pointer` (RFC 6901) says where the object stands in the request, `level` how deep.
    Raises `InvalidField` where DynamoDB would refuse or round a value.
    """
    attributes = {}
    for key, value in document.items():
        here = member(pointer, key)
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            raise InvalidField(here, f"a key has 1 to {MAX_KEY_CHARACTERS} characters")
        attributes[key] = _to_attribute(value, here, level + 1)
    return attributes


def _to_attribute(value: Any, pointer: str, level: int) -> Attribute:
    """One JSON value; `level` is the one that it takes if it nests."""
    if isinstance(value, str):
        return {"S": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | Decimal):
        return {"N": _to_number(value, pointer)}
    if level > MAX_LEVELS:
        raise InvalidField(pointer, f"data nests at most {MAX_LEVELS} levels deep")
    if isinstance(value, dict):
        return {"M": to_attributes(value, pointer, level)}
    return {"L": [_to_attribute(each, f"{pointer}/{i}", level + 1) for i, each in enumerate(value)]}


def _to_number(value: int | Decimal, pointer: str) -> str:
    try:
        exact = _NUMBERS.normalize(Decimal(value))
    except DecimalException:
        raise InvalidField(pointer, _NUMBER_RULE) from None
    return f"{exact:f}" if exact else "0"


def from_attributes(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """The JSON object behind DynamoDB attribute values; numbers are unrounded, whole ones `int`.

    Raises `ValueError` for a type that JSON has no place for, which no API call stores.
    """
    return {key: _from_attribute(value) for key, value in attributes.items()}


def _from_attribute(attribute: Attribute) -> Any:
    [(kind, value)] = attribute.items()
    match kind:
        case "S" | "BOOL":
            return value
        case "N":
            return _from_number(value)
        case "M":
            return from_attributes(value)
        case "L":
            return [_from_attribute(each) for each in value]
        case "NULL":
            return None
    raise ValueError(f"{kind} is not a JSON type")


def _from_number(text: str) -> int | Decimal:
    """Whatever spelling DynamoDB chooses for it: 100, 1E+2 and 100.0 are the same number."""
    try:
        return int(text)
    except ValueError:
        exact = _NUMBERS.normalize(Decimal(text))
        return int(exact) if exact == exact.to_integral_value() else exact
