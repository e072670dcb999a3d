"""The size of an item, which DynamoDB limits.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
"""

from __future__ import annotations

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
        digits: str = content.strip("-0.").replace(".", "")
        return len(digits) // 2 + 2
    if kind == "B":
        return int(len(content) // 4 * 3 - content[-2:].count("="))
    # Each member of a map or a list takes a byte more.
    if kind == "M":
        return 3 + sum(1 + _text(name) + _value(member) for name, member in content.items())
    if kind == "L":
        return 3 + sum(1 + _value(element) for element in content)
    return 1


def _text(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
