"""What the tests import of one another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.template import ROOT


def imported(path: Path) -> Iterator[str]:
    """The full names of the modules, or of what is in them, that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


def test_nothing_imports_a_conftest() -> None:
    """They hold fixtures and hooks, which pytest hands out; what is imported has a noun's name."""
    files = list((ROOT / "tests").rglob("*.py"))
    importing = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path)
        if "conftest" in name.split(".")
    }

    assert len(files) > 150
    assert importing == set()
