"""The contents of the wheel."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from pkgutil import resolve_name
from zipfile import ZipFile

from serverless_sessions.cli.commands import main
from tests.support.template import ROOT

PACKAGE = ROOT / "client/serverless_sessions"


def test_wheel_contains_only_the_package_and_the_functions(tmp_path: Path) -> None:
    """The wheel is built without a network, and contains the types and the licence.

    The embedded service runs the functions, which are not importable under their own names.
    """
    uv = Path(sys.executable).parent / "uv"
    subprocess.run(
        [str(uv), "build", "--offline", "--no-build-isolation", "--wheel"]
        + ["--python", sys.executable, "--out-dir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata_file] = [name for name in names if name.endswith("/METADATA")]
        metadata = archive.read(metadata_file).decode()
        [scripts] = [name for name in names if name.endswith("/entry_points.txt")]
        commands = ConfigParser()
        commands.read_string(archive.read(scripts).decode())
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"serverless_sessions"}
    assert "serverless_sessions/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    templates = {
        f"serverless_sessions/{path.relative_to(PACKAGE)}" for path in PACKAGE.rglob("*.html")
    }
    assert len(templates) >= 2
    assert templates <= set(names)
    assert not any("/test_" in name or name.endswith(".pyc") for name in names)
    functions = {
        f"serverless_sessions/serve/_functions/{path.relative_to(ROOT / 'functions')}"
        for path in (ROOT / "functions").rglob("*.py")
    }
    assert {name for name in names if "/_functions/" in name} == functions
    lines = metadata.splitlines()
    extras = [line.split(": ")[1] for line in lines if line.startswith("Provides-Extra")]
    expected = ["cli", "console", "django", "flask", "serve", "starlette", "testing"]
    assert sorted(extras) == expected
    assert resolve_name(commands["console_scripts"]["sessions"]) is main
