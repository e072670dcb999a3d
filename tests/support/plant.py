"""Plants faults into the product's code, to check that tests find them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

Plant = Callable[[pytest.MonkeyPatch], None]


def in_source(function: Any, old: str, new: str) -> Plant:
    """Replace `old` by `new` in a function's source, in every place that refers to the function."""
    return rewritten(function, (old, new))


def rewritten(function: Any, *replacements: tuple[str, str]) -> Plant:
    """Replace parts of a function's source, in every place that refers to the function."""
    bare = inspect.unwrap(function)

    def plant(patch: pytest.MonkeyPatch) -> None:
        source = textwrap.dedent(inspect.getsource(bare))
        for old, new in replacements:
            assert source.count(old) == 1, f"{old!r} is not in {bare.__qualname__} once"
            source = source.replace(old, new)
        scope: dict[str, Any] = {}
        exec(source, bare.__globals__, scope)  # noqa: S102
        defined = scope[bare.__name__]
        changed: Any = defined.fget if isinstance(defined, property) else inspect.unwrap(defined)
        patch.setattr(bare, "__code__", changed.__code__)

    return plant
