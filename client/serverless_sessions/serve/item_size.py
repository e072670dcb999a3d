"""The size of an item, which DynamoDB limits.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from serverless_sessions.serve.expressions import Item

MAX_ITEM_BYTES = 400 * 1024


def size_of(item: Item) -> int:
    """Return the size of an item in bytes, with the names of its attributes."""
    return sum(_text(name) + _value(value) for name, value in item.items())


def _value(value: Any) -> int:
    kind: str
    content: Any
    [(kind, content)] = value.items()
    if kind == "S":
        return _text(content)
    if kind == "N":
        return _number(content)
    if kind == "B":
        return int(len(content) // 4 * 3 - content[-2:].count("="))
    # Each member of a map or a list takes a byte more.
    if kind == "M":
        return 3 + sum(1 + _text(name) + _value(member) for name, member in content.items())
    if kind == "L":
        return 3 + sum(1 + _value(element) for element in content)
    return 1


def _number(text: str) -> int:
    """Two digits take a byte, counted from the decimal point, without zeros at either end."""
    is_negative, digits, exponent = False, text, 0
    if not text.isdecimal():
        number = Decimal(text)
        is_negative, exponent = number.is_signed(), int(number.as_tuple().exponent)
        digits = "".join(map(str, number.as_tuple().digits))
    significant = digits.rstrip("0")
    if not significant:
        return 1
    exponent += len(digits) - len(significant)
    pairs = (len(significant.lstrip("0")) + exponent % 2 + 1) // 2
    return 1 + pairs + is_negative


def _text(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
