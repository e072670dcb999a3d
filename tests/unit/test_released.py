"""What a released version promised to callers of the HTTP API still holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.template import ROOT

RELEASED = sorted((ROOT / "tests/unit/released").glob("openapi-*.yaml"))
CURRENT = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
# What was taken back on purpose, by the release. The changelog has it below "To upgrade".
TAKEN_BACK = {
    # `session_limit` is reserved, as `token_reuse` is.
    "openapi-0.1.0": [
        f"//sessions{path}/delete/parameters/reason/schema/not/const is gone"
        for path in ("", "/{session_id}")
    ]
}


def breaches(
    old: Any,
    new: Any,
    documents: tuple[Any, Any],
    place: str = "",
    followed: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[str]:
    """Yield a sentence for each thing that `new` has lost or newly requires.

    Both are parts of their documents at the same place. Lists are compared by what identifies their
    members: the name of a parameter, a type, a value of an enumeration. A schema that contains
    itself is `followed` once.
    """
    if (id(old), id(new)) in followed:
        return
    if isinstance(old, dict) and "$ref" in old:
        followed |= {(id(old), id(new))}
    old, new = (_resolved(part, root) for part, root in zip((old, new), documents, strict=True))
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() - new.keys() - {"description", "example", "examples", "summary"}:
            if name not in ("required", "maxLength", "maximum", "minimum", "minLength", "pattern"):
                yield f"{place}/{name} is gone"
        required = set(_names(new.get("required"))) - set(_names(old.get("required")))
        if required and "/responses/" not in place:
            yield f"{place} newly requires {', '.join(sorted(required))}"
        for name in old.keys() & new.keys() - {"required"}:
            yield from breaches(old[name], new[name], documents, f"{place}/{name}", followed)
    elif isinstance(old, list) and isinstance(new, list):
        parts = {_name(part, documents[1]): part for part in new}
        for part in old:
            name = _name(part, documents[0])
            if name not in parts:
                yield f"{place}/{name} is gone"
            else:
                yield from breaches(part, parts[name], documents, f"{place}/{name}", followed)
        if place.endswith("/parameters"):
            for name in parts.keys() - {_name(part, documents[0]) for part in old}:
                if _resolved(parts[name], documents[1]).get("required"):
                    yield f"{place}/{name} is newly required"


def _resolved(part: Any, document: Any) -> Any:
    while isinstance(part, dict) and "$ref" in part:
        target = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        part = target
    return part


def _name(part: Any, document: Any) -> str:
    part = _resolved(part, document)
    if not isinstance(part, dict):
        return str(part)
    return str(part.get("name") or part.get("title") or part.get("type") or sorted(part))


def _names(required: Any) -> list[str]:
    """`required` is a list in a schema, and a boolean in a parameter or a body."""
    return required if isinstance(required, list) else ["it"] if required else []


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_released_contract_still_holds(path: Any) -> None:
    released = yaml.safe_load(path.read_text())

    taken_back = sorted(breaches(released["paths"], CURRENT["paths"], (released, CURRENT)))
    assert taken_back == TAKEN_BACK.get(path.stem, [])


def test_there_is_a_released_contract() -> None:
    assert RELEASED


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"/a": {"get": {}}}, {"/a": {}}, ["//a/get is gone"]),
        ({"required": ["a"]}, {"required": ["a", "b"]}, [" newly requires b"]),
        ({"required": ["a", "b"]}, {"required": ["a"]}, []),
        ({"responses": {"200": {}}}, {"responses": {"200": {"required": ["a"]}}}, []),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, ["/enum/b is gone"]),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, []),
        ({"parameters": [{"name": "a"}]}, {"parameters": []}, ["/parameters/a is gone"]),
        (
            {"parameters": []},
            {"parameters": [{"name": "a", "required": True}]},
            ["/parameters/a is newly required"],
        ),
        ({"a": {"$ref": "#/b"}}, {"a": {}}, ["/a/c is gone"]),
    ],
)
def test_a_breach_is_recognized(old: Any, new: Any, expected: list[str]) -> None:
    assert [*breaches(old, new, ({"b": {"c": 1}}, {}))] == expected
