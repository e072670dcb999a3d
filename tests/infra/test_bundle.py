"""The bundle that a deployment uploads for the functions."""

from __future__ import annotations

import filecmp
import shutil
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from zipfile import ZipFile

import pytest

from deploy import bundle, interpreter
from deploy.bundle import LAMBDA, THIS_MACHINE, Target
from deploy.interpreter import find_interpreter
from serverless_sessions_cdk._python_function import RUNTIME
from tests.support.template import ROOT

MEGABYTE = 10**6


@pytest.fixture
def without_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulate a machine without any Python of the runtime's version."""
    monkeypatch.setattr(interpreter, "_candidates", lambda _: iter([]))
    find_interpreter.cache_clear()
    yield
    find_interpreter.cache_clear()


@pytest.fixture(scope="module", params=[LAMBDA, THIS_MACHINE], ids=["lambda", "this_machine"])
def target(request: pytest.FixtureRequest) -> Target:
    target: Target = request.param
    return target


@pytest.fixture(scope="module")
def built(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle for `target`, with wheels for its platform, built without Docker."""
    folder = tmp_path_factory.mktemp("bundle")
    bundle.build(folder, target)
    return folder


def test_bundle_is_small(built: Path) -> None:
    """Lambda downloads it at each cold start. The runtime already has boto3."""
    files = [path for path in built.rglob("*") if path.is_file()]
    archive = Path(shutil.make_archive(str(built.parent / "bundle"), "zip", built))

    assert sum(path.stat().st_size for path in files) < 8 * MEGABYTE
    assert archive.stat().st_size < 2.7 * MEGABYTE
    assert not {"boto3", "botocore"} & {path.name for path in built.iterdir()}


def test_extensions_are_for_the_machine_that_runs_them(built: Path, target: Target) -> None:
    extensions = [path.name for path in built.rglob("*.so")]
    abi = f".cpython-{target.python.replace('.', '')}-"

    assert extensions
    for name in extensions:
        assert abi in name
        assert target != LAMBDA or name.endswith("aarch64-linux-gnu.so")


def test_bundle_contains_the_functions_but_no_lock_file_and_no_commands(built: Path) -> None:
    for package in ("session_api", "session_audit", "session_authorizer"):
        assert (built / package / "handler.py").is_file()
    assert not {".lock", "bin"} & {path.name for path in built.iterdir()}


def test_each_source_has_byte_code_that_is_never_checked(built: Path, target: Target) -> None:
    """With the flags 1, Python neither reads the source nor its modification time (PEP 552)."""
    if not target.compiler:
        pytest.skip(f"no Python {target.python} here")
    tag = f"cpython-{target.python.replace('.', '')}"
    for source in built.rglob("*.py"):
        header = (source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc").read_bytes()[:8]
        assert header[4:] == b"\1\0\0\0"
        assert target != THIS_MACHINE or header[:4] == MAGIC_NUMBER


def test_no_file_contains_a_path_of_this_machine(built: Path) -> None:
    for path in built.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(built).encode() not in content
            assert str(Path(sys.prefix)).encode() not in content


def test_records_of_packages_name_no_command(built: Path) -> None:
    """They would have a hash of it, and it contains this machine's paths."""
    records = [record.read_text() for record in built.glob("*.dist-info/RECORD")]

    assert len(records) == 4
    assert not [line for record in records for line in record.splitlines() if "bin/" in line]


def test_two_builds_are_the_same(built: Path, target: Target, tmp_path: Path) -> None:
    bundle.build(tmp_path, target)

    files = {path.relative_to(built) for path in built.rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    _, *different = filecmp.cmpfiles(built, tmp_path, map(str, files), shallow=False)
    assert different == [[], []]


@pytest.mark.usefixtures("without_interpreter")
def test_without_an_interpreter_a_bundle_has_no_byte_code(tmp_path: Path) -> None:
    bundle.build(tmp_path, LAMBDA)

    assert (tmp_path / "session_api" / "handler.py").is_file()
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.usefixtures("without_interpreter", "own_archives")
def test_without_an_interpreter_the_deployment_warns_of_slower_cold_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle.archive(LAMBDA)

    warning = capsys.readouterr().err
    assert warning.startswith("Found no Python 3.13 to compile the functions with, so a cold start")
    assert "name one with PYTHON_3_13.\n" in warning


@pytest.fixture
def own_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "archives"
    monkeypatch.setattr(bundle, "_ARCHIVES", folder)
    return folder


def test_archive_is_built_once_and_replaces_an_outdated_one(
    own_archives: Path, built: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same bytes as any other archive of the same sources."""
    builds = []

    def build(folder: Path, target: Target) -> None:
        builds.append(target)
        shutil.copytree(built, folder, dirs_exist_ok=True)

    monkeypatch.setattr(bundle, "build", build)
    first = bundle.archive(target)
    content = first.read_bytes()
    assert bundle.archive(target) == first
    outdated = first.rename(first.with_name(first.name.replace(bundle.digest(target), "0" * 64)))

    assert bundle.archive(target).read_bytes() == content
    assert builds == [target, target]
    assert not outdated.exists()
    assert list(own_archives.iterdir()) == [first]
    with ZipFile(first) as packed:
        assert packed.comment.decode() == bundle.digest(target)
        assert packed.testzip() is None
        assert set(packed.namelist()) == {
            path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()
        }


def test_distributions_of_a_release_have_the_same_version() -> None:
    versions = {
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in ("", "infra")
    }

    assert len(versions) == 1


def test_bundle_is_built_for_the_runtime_of_the_functions() -> None:
    assert RUNTIME.name == f"python{LAMBDA.python}"


def fake_python(folder: Path, version: str) -> str:
    """Create a command that claims to be a CPython of `version`."""
    command = folder / version
    command.write_text(f"#!/bin/sh\necho CPython {version}\n")
    command.chmod(0o755)
    return str(command)


def test_digest_depends_on_byte_code_but_not_on_the_patch_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All patches read the same byte code, so a different one does not update the functions."""
    digests = []
    for pythons in ([], [fake_python(tmp_path, "3.13.1")], [fake_python(tmp_path, "3.13.12")]):
        monkeypatch.setattr(interpreter, "_candidates", lambda _, pythons=pythons: iter(pythons))
        find_interpreter.cache_clear()
        digests.append(bundle.digest(LAMBDA))
    find_interpreter.cache_clear()

    without, old, new = digests
    assert without != old == new


def test_interpreter_without_the_required_version_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A configured interpreter is also ignored if it is missing or fails."""
    for named in ("/nowhere/python3.1", sys.executable, "/bin/false"):
        find_interpreter.cache_clear()
        monkeypatch.setenv("PYTHON_3_1", named)
        assert find_interpreter("3.1") is None
