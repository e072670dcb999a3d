"""What `pip install` brings."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from pkgutil import resolve_name
from zipfile import ZipFile

from serverless_sessions.cli.commands import main
from tests.support.template import ROOT


def test_wheel_contains_only_the_package(tmp_path: Path) -> None:
    """It is built without a network, and brings its types and its licence."""
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
        [metadata] = [each for each in names if each.endswith("/METADATA")]
        about = archive.read(metadata).decode()
        [scripts] = [each for each in names if each.endswith("/entry_points.txt")]
        commands = ConfigParser()
        commands.read_string(archive.read(scripts).decode())
    assert {each.partition("/")[0].partition("-")[0] for each in names} == {"serverless_sessions"}
    assert "serverless_sessions/py.typed" in names
    assert any(each.endswith("/licenses/LICENSE") for each in names)
    assert not any("test" in each or each.endswith(".pyc") for each in names)
    extras = [line.split(": ")[1] for line in about.splitlines() if line.startswith("Provides-Ex")]
    assert sorted(extras) == ["cli", "console", "django", "flask", "starlette"]
    assert resolve_name(commands["console_scripts"]["sessions"]) is main
