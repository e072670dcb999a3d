"""Finds a Python of a given version on this machine; it never downloads one."""

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

_TELL = "import platform as p; print(p.python_implementation(), p.python_version())"


class Interpreter(NamedTuple):
    """A CPython; `version` is all of it, "3.13.0"."""

    path: str
    version: str


@cache
def find_interpreter(version: str) -> Interpreter | None:
    """A CPython of `version`, "3.13", or None.

    Looks at PYTHON_3_13 in the environment, at this interpreter itself, at uv's and at pyenv's.
    """
    for path in _candidates(version):
        found = re.fullmatch(
            rf"CPython ({re.escape(version)}\.\d+)\n", _output(path, "-I", "-c", _TELL)
        )
        if found:
            return Interpreter(path, found[1])
    return None


def _candidates(version: str) -> Iterator[str]:
    if named := os.environ.get(f"PYTHON_{version.replace('.', '_')}"):
        yield named
    yield sys.executable
    if found := _output(find_uv_bin(), "python", "find", "--no-python-downloads", version).strip():
        yield found
    # pyenv's commands run only the versions that a project has chosen.
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, pyenv.glob(f"versions/{version}.*/bin/python"))


def _output(*command: str) -> str:
    """What `command` prints; nothing if it fails, for whatever reason."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)  # noqa: S603
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
