"""The part of DynamoDB's expression language that this project uses.

Any other expression raises `Unknown`. Items and values have DynamoDB's JSON format: {"N": "7"},
{"B": "<base64>"}.
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
# The item, the expression attribute names (#name) and the expression attribute values (:value).
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
    """The request uses a feature of DynamoDB that is not implemented here."""


class Invalid(Exception):
    """DynamoDB would answer with a ValidationException."""


@dataclass(frozen=True)
class Path:
    """A document path: an attribute, or a member of a map."""

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
    """Return whether the item satisfies a condition. An item that does not exist is {}."""
    return _condition(expression)(scope)


def check_update(expression: str, names: Mapping[str, str]) -> None:
    """Raise `Invalid` for an update that is invalid for every item."""
    sets, removals = _update(expression)
    paths = [path.resolve(names) for path in [*(path for path, _ in sets), *removals]]
    if any(a == b[: len(a)] for a, b in permutations(paths, 2)):
        raise Invalid("paths overlap")


def updated(expression: str, scope: Scope) -> Item:
    """Return the item after an update. Raises `Invalid` if the update does not fit the item."""
    sets, removals = _update(expression)
    item, names, _ = scope
    # DynamoDB evaluates all operands before it changes the item.
    values = [(path.resolve(names), operand(scope)) for path, operand in sets]
    new = dict(item)
    for target, value in values:
        _parent(new, target)[target[-1]] = value
    for path in removals:
        target = path.resolve(names)
        _parent(new, target).pop(target[-1], None)
    return new


def projected(expression: str, item: Item) -> Item:
    """Return only the attributes that a projection expression names."""
    names = expression.replace(" ", "").split(",")
    if not all(re.fullmatch("[A-Za-z]+", name) for name in names):
        raise Unknown(expression)
    return {name: item[name] for name in names if name in item}


def order(value: Any) -> Any:
    """Return the sort key of a String or Number."""
    [(kind, content)] = value.items()
    if kind == "N":
        return Decimal(content)
    if kind == "S":
        return content.encode()
    raise Unknown(f"an order of {kind}")


def _parent(item: Item, path: tuple[str, ...]) -> Item:
    """Return the map that contains the last name of `path`. The maps on the path are copied."""
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
    test = parser.disjunction()
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
            parser.expect("=")
            sets.append((path, parser.sum()))
    if parser.take("REMOVE"):
        while not removals or parser.take(","):
            removals.append(parser.path())
    parser.end()
    return sets, removals


class _Parser:
    """A recursive descent parser: OR first, because it binds the weakest."""

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

    def expect(self, *words: str) -> str:
        word = self.take(*words)
        if word is None:
            raise Unknown(self.expression)
        return word

    def end(self) -> None:
        if self.words:
            raise Unknown(self.expression)

    def disjunction(self) -> Test:
        tests = [self.conjunction()]
        while self.take("OR"):
            tests.append(self.conjunction())
        return tests[0] if len(tests) == 1 else lambda scope: any(t(scope) for t in tests)

    def conjunction(self) -> Test:
        tests = [self.test()]
        while self.take("AND"):
            tests.append(self.test())
        return tests[0] if len(tests) == 1 else lambda scope: all(t(scope) for t in tests)

    def test(self) -> Test:
        if self.take("("):
            inner = self.disjunction()
            self.expect(")")
            return inner
        function = self.take("attribute_exists", "attribute_not_exists", "attribute_type")
        return self.call(function) if function else self.comparison()

    def call(self, function: str) -> Test:
        self.expect("(")
        path = self.path()
        if function == "attribute_type":
            self.expect(",")
            kind = self.operand()
            self.expect(")")
            return lambda scope: kind(scope)["S"] in (path(scope) or ())
        self.expect(")")
        must_exist = function == "attribute_exists"
        return lambda scope: (path(scope) is not None) is must_exist

    def comparison(self) -> Test:
        left = self.operand()
        if self.take("BETWEEN"):
            low = self.operand()
            self.expect("AND")
            high = self.operand()
            return lambda scope: (
                _compares(">=", left(scope), low(scope))
                and _compares("<=", left(scope), high(scope))
            )
        if self.take("IN"):
            self.expect("(")
            options = [self.operand()]
            while self.take(","):
                options.append(self.operand())
            self.expect(")")
            return lambda scope: any(_equal(left(scope), option(scope)) for option in options)
        sign = self.expect("=", "<>", *_ORDERED)
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
                raise Invalid("an operand is not a number")
            return {"N": f"{Decimal(a['N']) + factor * Decimal(b['N']):f}"}

        return add

    def addend(self) -> Operand:
        if not self.take("if_not_exists"):
            return self.operand()
        self.expect("(")
        path = self.path()
        self.expect(",")
        default = self.operand()
        self.expect(")")
        if default == path:  # DynamoDB rejects this
            raise Unknown(self.expression)

        def stored_or_default(scope: Scope) -> Any:
            value = path(scope)
            # DynamoDB Local requires the default to exist even if it is not used.
            default_value = _present(default(scope))
            return default_value if value is None else value

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
        is_name = self.words and re.match("[#A-Za-z]", self.words[0])
        # A word in lower case is a function that is not implemented here.
        if not is_name or self.words[0] in _KEYWORDS or self.words[0][0].islower():
            raise Unknown(self.expression)
        return self.words.pop(0)


def _present(value: Any) -> Any:
    if value is None:
        raise Invalid("an attribute that the item does not have")
    return value


def _compares(sign: str, left: Any, right: Any) -> bool:
    """Compare two values. The result is False if their types differ or one is missing."""
    if left is None or right is None or left.keys() != right.keys():
        return False
    return bool(_ORDERED[sign](order(left), order(right)))


def _equal(left: Any, right: Any) -> bool:
    """Return whether two values are equal. Numbers are compared by value, at any depth."""
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
