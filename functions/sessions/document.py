"""A session's data: JSON on one side, DynamoDB's native types on the other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal, DecimalException, Inexact, Overflow, Subnormal
from typing import Any

from sessions.dynamodb import Attribute
from sessions.errors import InvalidField, member
from sessions.limits import MAX_KEY_CHARACTERS, MAX_LEVELS

# What a Number holds without rounding it:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_NUMBERS = Context(prec=38, Emin=-130, Emax=125, traps=[Inexact, Overflow, Subnormal])
_NUMBER = re.compile(r"-?[0-9]{1,126}(\.[0-9]{1,200})?(E[+-]?[0-9]{1,3})?")
_NUMBER_RULE = "a number has at most 38 digits and a magnitude of 1E-130 to 9.9E125"


def read_number(text: str) -> int | Decimal:
    """A JSON number without rounding it, as answers will spell it.

    One that DynamoDB would refuse or round stays as it is. Raises `ValueError` for an exponent that
    not even a Decimal takes.
    """
    try:
        number = Decimal(text)
    except DecimalException:
        raise ValueError(_NUMBER_RULE) from None
    try:
        return _exact(number)
    except DecimalException:
        return number


def check_number(text: str, pointer: str) -> None:
    """Raise `InvalidField` unless `text` is a number as DynamoDB spells one."""
    if not _NUMBER.fullmatch(text):
        raise InvalidField(pointer, _NUMBER_RULE)
    _to_number(Decimal(text), pointer)


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
        return str(_exact(Decimal(value)))
    except DecimalException:
        raise InvalidField(pointer, _NUMBER_RULE) from None


def from_attributes(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """The JSON object behind DynamoDB attribute values; numbers are unrounded, whole ones `int`.

    Binary values and sets, which JSON has no place for and no API call stores, become None.
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
    return None


def _from_number(text: str) -> int | Decimal:
    """Whatever spelling DynamoDB chooses for it: 100, 1E+2 and 100.0 are the same number."""
    if text.isdecimal() and len(text) <= _NUMBERS.prec:
        return int(text)
    return _exact(Decimal(text))


def _exact(number: Decimal) -> int | Decimal:
    """The one spelling of a number: 100 for 1E+2 and for 100.0.

    A whole number is an `int`, since most programs read 1E+2 as a float. One of more than 38 digits
    ends in zeros, and keeps an exponent where that is shorter: an item holds a number like 1E+125
    in three bytes, and an answer could not carry so many zeros. Raises `DecimalException` for a
    number that DynamoDB would refuse or round.
    """
    exact = _NUMBERS.normalize(number)
    if exact != exact.to_integral_value():
        return exact
    is_short = exact.adjusted() < _NUMBERS.prec
    return int(exact) if is_short or len(f"{exact:f}") <= len(str(exact)) else exact
