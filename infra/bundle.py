"""What a deployment uploads for the functions: our sources, the locked packages, byte code."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from uv import find_uv_bin

from infra.interpreter import Interpreter, find_interpreter

SOURCE = Path(__file__).parent.parent / "functions"
_REQUIREMENTS = SOURCE.parent / "requirements" / "functions.txt"


class Target(NamedTuple):
    """What runs a bundle: a version of Python, "3.13", on a platform as uv names them.

    Without one it is this machine's.
    """

    python: str
    platform: str | None = None

    @property
    def compiler(self) -> Interpreter | None:
        """What makes byte code for this version, if there is any on this machine."""
        return find_interpreter(self.python)


LAMBDA = Target("3.13", "aarch64-manylinux2014")
# The local stack runs functions with its own interpreter.
THIS_MACHINE = Target(f"{sys.version_info.major}.{sys.version_info.minor}")


def digest(target: Target) -> str:
    """Differs wherever bundles do."""
    compiler = target.compiler
    found = hashlib.sha256(repr((*target, compiler and compiler.version)).encode())
    for file in (Path(__file__), _REQUIREMENTS, *sorted(SOURCE.rglob("*.py"))):
        found.update(f"{file.relative_to(SOURCE.parent)}\n".encode() + file.read_bytes())
    return found.hexdigest()


def build(folder: Path, target: Target) -> None:
    """Fill `folder`, with the same bytes each time. boto3 comes from the runtime."""
    install(folder, target, "--no-deps", "--requirement", str(_REQUIREMENTS))
    # A sixth of the bundle: the pages that Powertools shows an API's documentation with.
    for asset in folder.rglob("swagger_ui/*.min.*"):
        asset.unlink()
    shutil.copytree(
        SOURCE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    if target.compiler:
        compile_sources(folder, target.compiler)


def install(folder: Path, target: Target, *requirements: str) -> None:
    """Install wheels for `target`, each with one of the hashes that `requirements` give."""
    subprocess.run(  # noqa: S603
        [
            *(find_uv_bin(), "pip", "install", "--quiet", "--no-config"),
            *("--require-hashes", "--only-binary", ":all:", "--target", str(folder)),
            *("--python-version", target.python),
            *(("--python-platform", target.platform) if target.platform else ()),
            *requirements,
        ],
        check=True,
    )
    # uv's lock, and commands, which begin with the path of this machine's Python.
    (folder / ".lock").unlink(missing_ok=True)
    shutil.rmtree(folder / "bin", ignore_errors=True)


def compile_sources(folder: Path, compiler: Interpreter) -> None:
    """Put byte code beside all sources in `folder`.

    It says that they are in Lambda's folder, and is used whatever their times of change are.
    """
    subprocess.run(  # noqa: S603
        [
            *(compiler.path, "-I", "-m", "compileall", "-q", "-s", str(folder), "-p", "/var/task"),
            *("--invalidation-mode", "unchecked-hash", str(folder)),
        ],
        check=True,
    )
