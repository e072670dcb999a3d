"""The values that a web framework keeps in a session are returned unchanged."""

from __future__ import annotations

import json
import math
import pickle
from decimal import Decimal
from typing import Any

import pytest

from serverless_sessions._web.packing import changes, pack, parts, unpack
from sessions.document import from_attributes, read_number, to_attributes

DEEP: Any = [1]
for _ in range(60):
    DEEP = [DEEP]

AWKWARD = [
    *(
        None,
        True,
        False,
        "",
        "text",
        "é\u0000",
        "\ud800",
        {},
        [],
        {"": 1},
        {"a": None},
        {"x" * 256: 1},
    ),
    *(0, -1, 2**53 + 1, 10**37, 10**38, -(10**40), 10**400),
    *(0.0, -0.0, 1.0, 1.5, 0.1, 1e22, 1e-7, 1.5e-130, 1e-131, 5e-324, 1.7e308, 123456789.123),
    *(math.inf, -math.inf),
    *({"json": "1"}, {"base64": "eA=="}, {"json": 1, "b": 2}, [{"json": None}], DEEP),
    [1, 2.0, {"a": [3.5, "\ud800"]}],
]


def through_the_service(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data as the API stores and returns it, and as the client reads it."""
    sent = json.loads(json.dumps(data), parse_float=read_number)
    stored = to_attributes(sent, "/data")
    answer = json.dumps(from_attributes(stored), default=float)
    received: dict[str, Any] = json.loads(answer)
    return received


@pytest.mark.parametrize("value", AWKWARD, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("name", ["name", "", "~", "n" * 256, "\ud800", "json"])
def test_value_comes_back_as_it_was(name: str, value: Any) -> None:
    data = through_the_service(pack({name: value}, json.dumps))

    # `==` would not distinguish 1, 1.0 and True, nor 0.0 and -0.0.
    assert repr(unpack(data, json.loads)) == repr({name: value})


def test_nan_comes_back() -> None:
    data = through_the_service(pack({"x": math.nan}, json.dumps))

    assert math.isnan(unpack(data, json.loads)["x"])


def test_values_of_another_serializer_come_back() -> None:
    """A Django site can use pickle."""
    values = {"a": {1, 2}, "": (3, b"4")}

    data = through_the_service(pack(values, pickle.dumps))

    assert unpack(data, pickle.loads) == values  # type: ignore[arg-type]


def test_plain_values_are_stored_as_they_are() -> None:
    """Other programs and operators can read them."""
    values = {"theme": "dark", "cart": [{"id": 7, "price": 2.5, "gift": None}], "admin": False}

    assert pack(values, json.dumps) == values


def test_only_what_changed_is_sent() -> None:
    before = pack({"same": [1, {"a": 2}], "removed": None, "number": 1, "": 1}, json.dumps)
    after = pack({"same": [1, {"a": 2}], "number": 1.0, "new": None, "": 2}, json.dumps)

    changed = changes(before, after)

    assert changed.keys() == {"removed", "number", "new", "~"}
    assert changed["removed"] is None
    assert changed["new"] is not None
    merged = {k: v for k, v in (before | changed).items() if v is not None}
    assert unpack(merged, json.loads) == {"same": [1, {"a": 2}], "number": 1.0, "new": None, "": 2}


def test_number_that_no_float_can_represent_becomes_the_nearest_float() -> None:
    """Another program may have written it.

    `Sessions` then returns a Decimal, which `unpack` passes to the serializer as JSON. The json
    module reads it as the nearest float.
    """
    assert unpack({"a": [Decimal("0.1000000000000000000001")]}, json.loads) == {"a": [0.1]}


def test_changes_are_split_into_as_few_requests_as_possible() -> None:
    many: dict[str, Any] = {f"key{i}": i for i in range(250)}
    large = {name: "ü" * 10_000 for name in "abc"}

    assert parts({}) == []
    assert [len(part) for part in parts(many)] == [100, 100, 50]
    assert [list(part) for part in parts(large | {"d": None, "e": "x" * 70_000})] == [
        ["a"],
        ["b"],
        ["c", "d"],
        ["e"],
    ]
