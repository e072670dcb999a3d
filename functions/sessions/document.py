"""A session's data, converted between JSON and DynamoDB's native types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal, DecimalException, Inexact, Overflow, Subnormal
from typing import Any

from sessions.dynamodb import Attribute
from sessions.errors import InvalidField, member
from sessions.limits import MAX_KEY_CHARACTERS, MAX_LEVELS

# The range of numbers that DynamoDB stores without rounding:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_NUMBERS = Context(prec=38, Emin=-130, Emax=125, traps=[Inexact, Overflow, Subnormal])
_NUMBER = re.compile(r"-?[0-9]{1,126}(\.[0-9]{1,200})?(E[+-]?[0-9]{1,3})?")
_NUMBER_RULE = "a number has at most 38 digits and a magnitude of 1E-130 to 9.9E125"


def read_number(text: str) -> int | Decimal:
    """Return a JSON number without rounding it, in the form that answers use.

    A number that DynamoDB would refuse or round is returned unchanged. Raises `ValueError` for an
    exponent that is too large even for a Decimal.
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
    """Raise `InvalidField` unless `text` is a number in DynamoDB's spelling."""
    if not _NUMBER.fullmatch(text):
        raise InvalidField(pointer, _NUMBER_RULE)
    _to_number(Decimal(text), pointer)


def to_attributes(document: Mapping[str, Any], pointer: str, level: int = 1) -> Attribute:
    """Convert the members of a JSON object to DynamoDB attribute values.

    `pointer` (RFC 6901) is the place of the object in the request, and `level` its depth. Raises
    `InvalidField` for a value that DynamoDB would refuse or round.
    """
    attributes = {}
    for key, value in document.items():
        key_pointer = member(pointer, key)
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            raise InvalidField(key_pointer, f"a key has 1 to {MAX_KEY_CHARACTERS} characters")
        attributes[key] = _to_attribute(value, key_pointer, level + 1)
    return attributes


def _to_attribute(value: Any, pointer: str, level: int) -> Attribute:
    """Convert one JSON value; `level` is its depth if it is an array or an object."""
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
    elements = enumerate(value)
    return {"L": [_to_attribute(element, f"{pointer}/{i}", level + 1) for i, element in elements]}


def _to_number(value: int | Decimal, pointer: str) -> str:
    try:
        return str(_exact(Decimal(value)))
    except DecimalException:
        raise InvalidField(pointer, _NUMBER_RULE) from None


def from_attributes(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """Convert DynamoDB attribute values to a JSON object.

    Numbers are not rounded, and whole numbers become `int`. Binary values and sets become None:
    JSON has no such types, and the API never stores them.
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
            return [_from_attribute(element) for element in value]
    return None


def _from_number(text: str) -> int | Decimal:
    """Accepts every spelling that DynamoDB may choose: 100, 1E+2 and 100.0 are the same number."""
    if text.isdecimal() and len(text) <= _NUMBERS.prec:
        return int(text)
    return _exact(Decimal(text))


def _exact(number: Decimal) -> int | Decimal:
    """Return the canonical form of a number, such as 100 for 1E+2 and for 100.0.

    A whole number becomes an `int`, because most programs read 1E+2 as a float. There is one
    exception: a number of more than 38 digits, which ends in zeros, keeps its exponent if that is
    shorter. An item stores a number like 1E+125 in three bytes, and an answer could not carry so
    many zeros. Raises `DecimalException` for a number that DynamoDB would refuse or round.
    """
    exact = _NUMBERS.normalize(number)
    if exact != exact.to_integral_value():
        return exact
    is_short = exact.adjusted() < _NUMBERS.prec
    return int(exact) if is_short or len(f"{exact:f}") <= len(str(exact)) else exact
