"""The bundle that a deployment uploads: our sources, the locked packages, and byte code."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from uv import find_uv_bin

from deploy.interpreter import Interpreter, find_interpreter

# The construct takes the path of a bundle from this value of the CDK's context.
CONTEXT = "serverless-sessions:bundle"
SOURCE = Path(__file__).parent.parent / "functions"
_REQUIREMENTS = SOURCE.parent / "requirements" / "functions.txt"
_ARCHIVES = SOURCE.parent / ".local" / "bundles"


class Target(NamedTuple):
    """The environment that runs a bundle: a version of Python, such as "3.13", and a platform.

    `platform` is the name that uv uses for the platform. None means the platform of this machine.
    """

    python: str
    platform: str | None = None

    @property
    def compiler(self) -> Interpreter | None:
        """The interpreter that compiles byte code for this version, if this machine has one."""
        return find_interpreter(self.python)


LAMBDA = Target("3.13", "aarch64-manylinux2014")
# The local stack runs functions with its own interpreter.
THIS_MACHINE = Target(f"{sys.version_info.major}.{sys.version_info.minor}")


def digest(target: Target) -> str:
    """Return a hash of everything that a bundle is built from.

    It does not depend on the patch version of the compiler, because all patches of a version of
    Python read the same byte code. Otherwise two people who deploy in turn with different patches
    would update all functions each time.
    """
    sha256 = hashlib.sha256(repr((*target, bool(target.compiler))).encode())
    for file in (Path(__file__), _REQUIREMENTS, *sorted(SOURCE.rglob("*.py"))):
        sha256.update(f"{file.relative_to(SOURCE.parent)}\n".encode() + file.read_bytes())
    return sha256.hexdigest()


def archive(target: Target) -> Path:
    """Return a bundle as a zip file. It is built unless there is one of the same sources."""
    if not target.compiler:
        print(
            f"Found no Python {target.python} to compile the functions with, so a cold start of the"
            f" API takes twice as long; name one with PYTHON_{target.python.replace('.', '_')}.",
            file=sys.stderr,
        )
    prefix = f"{target.python}-{target.platform or 'this-machine'}"
    file = _ARCHIVES / f"{prefix}-{digest(target)}.zip"
    if not file.exists():
        _ARCHIVES.mkdir(parents=True, exist_ok=True)
        for outdated in _ARCHIVES.glob(f"{prefix}-*.zip"):
            outdated.unlink(missing_ok=True)
        # Another process may write the same file at the same time.
        written = file.with_suffix(f".{os.getpid()}")
        with TemporaryDirectory() as folder:
            build(Path(folder), target)
            pack(Path(folder), written, comment=digest(target))
        written.replace(file)
    return file


def pack(folder: Path, file: Path, *, comment: str) -> None:
    """Write the files of `folder` into a zip file, always with the same bytes."""
    with ZipFile(file, "w", ZIP_DEFLATED) as packed:
        packed.comment = comment.encode()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = ZipInfo(path.relative_to(folder).as_posix())  # of 1980-01-01
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, path.read_bytes())


def build(folder: Path, target: Target) -> None:
    """Build a bundle in `folder`, always with the same bytes. boto3 comes from the runtime."""
    install(folder, target, "--no-deps", "--requirement", str(_REQUIREMENTS))
    # Powertools' pages for API documentation are not used, and would be a sixth of the bundle.
    for asset in folder.rglob("swagger_ui/*.min.*"):
        asset.unlink()
    shutil.copytree(
        SOURCE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    if target.compiler:
        compile_sources(folder, target.compiler)


def install(folder: Path, target: Target, *arguments: str) -> None:
    """Install wheels for `target`.

    `arguments` are passed to `uv pip install`. They name the packages, and a file that contains the
    hashes of the wheels.
    """
    subprocess.run(  # noqa: S603
        [
            *(find_uv_bin(), "pip", "install", "--quiet", "--no-config"),
            *("--require-hashes", "--only-binary", ":all:", "--target", str(folder)),
            *("--python-version", target.python),
            *(("--python-platform", target.platform) if target.platform else ()),
            *arguments,
        ],
        check=True,
    )
    # A bundle does not need uv's lock file. It does not need the packages' commands either, and
    # they contain the path of this machine's Python, of which their record has a hash.
    (folder / ".lock").unlink(missing_ok=True)
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for record in folder.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith("bin/")))


def compile_sources(folder: Path, compiler: Interpreter) -> None:
    """Compile all sources in `folder` to byte code.

    The byte code names the paths that the sources have in Lambda. Python uses it without checking
    whether the source has changed.
    """
    subprocess.run(  # noqa: S603
        [
            *(compiler.path, "-I", "-m", "compileall", "-q", "-s", str(folder), "-p", "/var/task"),
            *("--invalidation-mode", "unchecked-hash", str(folder)),
        ],
        check=True,
    )
