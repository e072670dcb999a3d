"""The expressions of DynamoDB that this project uses; any other is refused with `Unknown`.

Items and values are as they come over the wire: {"N": "7"}, {"B": "<base64>"}. Each function takes
an expression with what its names and values stand for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import permutations
from typing import Any

Item = dict[str, Any]
# What an expression is about: the item, and what stands for #names and :values.
Scope = tuple[Item, Mapping[str, str], Item]
Test = Callable[[Scope], bool]
Operand = Callable[[Scope], Any]

_WORD = re.compile(r"\s*([#:]?[A-Za-z_][A-Za-z0-9_]*|<>|<=|>=|[=<>(),.+-])")
_KEYWORDS = {"AND", "OR", "NOT", "IN", "BETWEEN", "SET", "REMOVE", "ADD", "DELETE"}
_ORDERED = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class Unknown(Exception):
    """Not of the part of DynamoDB's language that is known here."""


class Invalid(Exception):
    """DynamoDB answers a ValidationException."""


@dataclass(frozen=True)
class Path:
    """An attribute, or a member of a map that is one."""

    names: tuple[str, ...]

    def resolve(self, names: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(names[name] if name[0] == "#" else name for name in self.names)

    def __call__(self, scope: Scope) -> Any:
        item, names, _ = scope
        first, *rest = self.resolve(names)
        value = item.get(first)
        for name in rest:
            value = value["M"].get(name) if value and "M" in value else None
        return value


def holds(expression: str, scope: Scope) -> bool:
    """Whether a condition is true of the item, {} if there is none."""
    return _condition(expression)(scope)


def check_update(expression: str, names: Mapping[str, str]) -> None:
    """Raise `Invalid` for an update that no item could have, whatever its condition says."""
    sets, removals = _update(expression)
    paths = [path.resolve(names) for path in [*(path for path, _ in sets), *removals]]
    if any(a == b[: len(a)] for a, b in permutations(paths, 2)):
        raise Invalid("paths overlap")


def updated(expression: str, scope: Scope) -> Item:
    """The item after an update; raises `Invalid` where it does not fit the item."""
    sets, removals = _update(expression)
    item, names, _ = scope
    # All operands are those of the item as it was.
    values = [(path.resolve(names), operand(scope)) for path, operand in sets]
    new = dict(item)
    for target, value in values:
        _parent(new, target)[target[-1]] = value
    for path in removals:
        gone = path.resolve(names)
        _parent(new, gone).pop(gone[-1], None)
    return new


def projected(expression: str, item: Item) -> Item:
    """Only these attributes."""
    names = expression.replace(" ", "").split(",")
    if not all(re.fullmatch("[A-Za-z]+", name) for name in names):
        raise Unknown(expression)
    return {name: item[name] for name in names if name in item}


def order(value: Any) -> Any:
    """What a String or a Number is sorted by."""
    [(kind, content)] = value.items()
    if kind == "N":
        return Decimal(content)
    if kind == "S":
        return content.encode()
    raise Unknown(f"an order of {kind}")


def _parent(item: Item, path: tuple[str, ...]) -> Item:
    """Where the last name of `path` stands; the maps on the way are copied, not shared."""
    for name in path[:-1]:
        value = item.get(name)
        if not value or "M" not in value:
            raise Invalid("a document path that the item does not have")
        item[name] = {"M": dict(value["M"])}
        item = item[name]["M"]
    return item


@cache
def _condition(expression: str) -> Test:
    parser = _Parser(expression)
    test = parser.either()
    parser.end()
    return test


@cache
def _update(expression: str) -> tuple[list[tuple[Path, Operand]], list[Path]]:
    parser = _Parser(expression)
    sets: list[tuple[Path, Operand]] = []
    removals: list[Path] = []
    if parser.take("SET"):
        while not sets or parser.take(","):
            path = parser.path()
            parser.need("=")
            sets.append((path, parser.sum()))
    if parser.take("REMOVE"):
        while not removals or parser.take(","):
            removals.append(parser.path())
    parser.end()
    return sets, removals


class _Parser:
    """Recursive descent, from the weakest binding to the strongest."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.words = []
        at = 0
        while at < len(expression.rstrip()):
            word = _WORD.match(expression, at)
            if not word:
                raise Unknown(expression)
            self.words.append(word[1])
            at = word.end()

    def take(self, *words: str) -> str | None:
        return self.words.pop(0) if self.words and self.words[0] in words else None

    def need(self, *words: str) -> str:
        word = self.take(*words)
        if word is None:
            raise Unknown(self.expression)
        return word

    def end(self) -> None:
        if self.words:
            raise Unknown(self.expression)

    def either(self) -> Test:
        tests = [self.both()]
        while self.take("OR"):
            tests.append(self.both())
        return tests[0] if len(tests) == 1 else lambda scope: any(t(scope) for t in tests)

    def both(self) -> Test:
        tests = [self.test()]
        while self.take("AND"):
            tests.append(self.test())
        return tests[0] if len(tests) == 1 else lambda scope: all(t(scope) for t in tests)

    def test(self) -> Test:
        if self.take("("):
            inner = self.either()
            self.need(")")
            return inner
        function = self.take("attribute_exists", "attribute_not_exists", "attribute_type")
        return self.call(function) if function else self.comparison()

    def call(self, function: str) -> Test:
        self.need("(")
        path = self.path()
        if function == "attribute_type":
            self.need(",")
            kind = self.operand()
            self.need(")")
            return lambda scope: kind(scope)["S"] in (path(scope) or ())
        self.need(")")
        wanted = function == "attribute_exists"
        return lambda scope: (path(scope) is not None) is wanted

    def comparison(self) -> Test:
        left = self.operand()
        if self.take("BETWEEN"):
            low = self.operand()
            self.need("AND")
            high = self.operand()
            return lambda scope: (
                _compares(">=", left(scope), low(scope))
                and _compares("<=", left(scope), high(scope))
            )
        if self.take("IN"):
            self.need("(")
            options = [self.operand()]
            while self.take(","):
                options.append(self.operand())
            self.need(")")
            return lambda scope: any(_equal(left(scope), option(scope)) for option in options)
        sign = self.need("=", "<>", *_ORDERED)
        right = self.operand()
        if sign == "=":
            return lambda scope: _equal(left(scope), right(scope))
        if sign == "<>":
            return lambda scope: not _equal(left(scope), right(scope))
        return lambda scope: _compares(sign, left(scope), right(scope))

    def sum(self) -> Operand:
        left = self.addend()
        sign = self.take("+", "-")
        if not sign:
            return lambda scope: _present(left(scope))
        right = self.addend()
        factor = 1 if sign == "+" else -1

        def add(scope: Scope) -> Any:
            a, b = _present(left(scope)), _present(right(scope))
            if "N" not in a or "N" not in b:
                raise Invalid("an operand is no number")
            return {"N": f"{Decimal(a['N']) + factor * Decimal(b['N']):f}"}

        return add

    def addend(self) -> Operand:
        if not self.take("if_not_exists"):
            return self.operand()
        self.need("(")
        path = self.path()
        self.need(",")
        default = self.operand()
        self.need(")")
        if default == path:  # DynamoDB refuses it
            raise Unknown(self.expression)

        def stored_or_default(scope: Scope) -> Any:
            value = path(scope)
            # DynamoDB Local wants the default to be there even if it is not needed.
            other = _present(default(scope))
            return other if value is None else value

        return stored_or_default

    def operand(self) -> Operand:
        if self.words and self.words[0][0] == ":":
            name = self.words.pop(0)
            return lambda scope: scope[2][name]
        return self.path()

    def path(self) -> Path:
        names = [self.name()]
        while self.take("."):
            names.append(self.name())
        return Path(tuple(names))

    def name(self) -> str:
        known = self.words and re.match("[#A-Za-z]", self.words[0])
        # A lower-case word is a function that is not known here.
        if not known or self.words[0] in _KEYWORDS or self.words[0][0].islower():
            raise Unknown(self.expression)
        return self.words.pop(0)


def _present(value: Any) -> Any:
    if value is None:
        raise Invalid("an attribute that the item does not have")
    return value


def _compares(sign: str, left: Any, right: Any) -> bool:
    """False between values of different types, and where one is missing."""
    if left is None or right is None or left.keys() != right.keys():
        return False
    return bool(_ORDERED[sign](order(left), order(right)))


def _equal(left: Any, right: Any) -> bool:
    """Numbers are equal by value, at any depth."""
    if left is None or right is None or left.keys() != right.keys():
        return False
    [(kind, a)], [b] = left.items(), right.values()
    if kind == "N":
        return Decimal(a) == Decimal(b)
    if kind == "M":
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if kind == "L":
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)
