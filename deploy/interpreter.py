"""Finds an interpreter of a certain Python version on this machine. It never downloads one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from uv import find_uv_bin

_PRINT_VERSION = "import platform as p; print(p.python_implementation(), p.python_version())"


class Interpreter(NamedTuple):
    """A CPython. `version` is its complete version, such as "3.13.0"."""

    path: str
    version: str


@cache
def find_interpreter(version: str) -> Interpreter | None:
    """Return a CPython of `version`, such as "3.13", or None.

    It is the first that exists of these: the interpreter that the environment variable PYTHON_3_13
    names, this interpreter itself, and those of uv and pyenv.
    """
    for path in _candidates(version):
        match = re.fullmatch(
            rf"CPython ({re.escape(version)}\.\d+)\n", _output(path, "-I", "-c", _PRINT_VERSION)
        )
        if match:
            return Interpreter(path, match[1])
    return None


def _candidates(version: str) -> Iterator[str]:
    if path := os.environ.get(f"PYTHON_{version.replace('.', '_')}"):
        yield path
    yield sys.executable
    if path := _output(find_uv_bin(), "python", "find", "--no-python-downloads", version).strip():
        yield path
    # pyenv's own commands would find only the versions that the current project has selected.
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, pyenv.glob(f"versions/{version}.*/bin/python"))


def _output(*command: str) -> str:
    """Return what `command` prints, or an empty text if it fails for any reason."""
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)  # noqa: S603
    except OSError:
        return ""
    return result.stdout if result.returncode == 0 else ""
