"""The commands as real processes, whose streams are closed, full, or of an old encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack import ROOT
from serverless_sessions import Client, Sessions
from tests.support.service import Service
from tests.support.trail import writing_events

ID = "A" * 12
NOT_ASCII = "…é日本\u202e"

# Runs each of the commands in a process of its own. They are forked from one that has imported all
# they need, because that takes most of the time. What they would read of AWS is made up.
_DRIVER = """
import json, os, sys
from types import SimpleNamespace
from serverless_sessions.cli import commands as cli
from serverless_sessions.operate.account import Account
from serverless_sessions.operate.report import say

cli.Service.deployment = lambda self: SimpleNamespace(sessions=self.sessions)
cli.smoke = lambda *_, **options: say("smoke \\N{HORIZONTAL ELLIPSIS}")
cli.buckets = lambda deployment: [SimpleNamespace(bucket="\\u65e5", objects=dict)]
Account.arn = lambda self: "arn:aws:iam::111122223333:user/\\u65e5"

commands, results = json.loads(sys.argv[1]), sys.argv[2]
for number, arguments in enumerate(commands):
    if os.fork() == 0:
        if sys.stderr:
            errors = os.open(f"{results}/{number}.err", os.O_WRONLY | os.O_CREAT)
            os.dup2(errors, 2)
            os.close(errors)
        cli.main(arguments, prog_name="sessions")
    code = os.waitstatus_to_exitcode(os.wait()[1])
    with open(f"{results}/{number}.code", "w") as file:
        file.write(str(code))
"""


class Outcome:
    """The exit codes and errors of commands, and the output of all of them."""

    def __init__(self, folder: Path, commands: list[list[str]], output: str) -> None:
        self.output = output
        self.codes = {
            " ".join(command): int((folder / f"{number}.code").read_text())
            for number, command in enumerate(commands)
        }
        self.errors = {
            " ".join(command): path.read_text(errors="replace")
            for number, command in enumerate(commands)
            if (path := folder / f"{number}.err").exists()
        }

    def assert_no_traceback(self) -> None:
        for command, errors in self.errors.items():
            assert "Traceback" not in errors, f"{command}:\n{errors}"
            assert "Exception ignored" not in errors, f"{command}:\n{errors}"


class Shell:
    """Runs commands on the service, with redirections as in a shell."""

    def __init__(self, service: Service, commands: list[list[str]], folder: Path) -> None:
        self._service = service
        self._commands = commands
        self._folder = folder
        self._runs = 0

    def run(self, redirection: str = "", **environment: str) -> Outcome:
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        driver = [sys.executable, "-c", _DRIVER, json.dumps(self._commands)]
        done = subprocess.run(
            ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *driver, str(folder)],  # noqa: S607
            env=os.environ
            | {"PYTHONPATH": str(ROOT / "client"), "SESSIONS_URL": self._service.url}
            | {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": ""}
            | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        )
        return Outcome(folder, self._commands, done.stdout.decode(errors="replace"))


@pytest.fixture
def shell(service: Service, tmp_path: Path) -> Shell:
    """All commands that end by themselves. What they print is not ASCII wherever it can be."""
    known = {"region": service.region, "credentials": service.credentials}
    with Sessions(service.url, **known) as sessions:  # type: ignore[arg-type]
        client = Client("203.0.113.7", NOT_ASCII)
        issued = sessions.create(NOT_ASCII, data={NOT_ASCII: NOT_ASCII}, client=client)
    id = issued.session.session_id
    with writing_events(service.audit_table) as write_event:
        write_event("updated", id, NOT_ASCII, changed=[NOT_ASCII])
    commands = [
        *(["--version"], ["list", "--help"], [NOT_ASCII], ["show", ID]),
        *(["list", NOT_ASCII], ["--json", "list", NOT_ASCII]),
        *(["show", id, "--data"], ["trail", NOT_ASCII], ["revoke", ID, "--reason", "x"]),
        *(["sign-out", NOT_ASCII, "--reason", "x"], ["whoami"], ["smoke"], ["redrive"]),
    ]
    return Shell(service, commands, tmp_path)


def test_no_stream_makes_a_command_fail(shell: Shell) -> None:
    """One test for all streams, since the usual run is what all others are compared with."""
    usual = shell.run()
    usual.assert_no_traceback()
    assert set(usual.codes.values()) == {0, 1, 2}
    assert NOT_ASCII[:-1] in usual.output

    encoded = shell.run(PYTHONIOENCODING="cp1252")
    encoded.assert_no_traceback()
    assert encoded.codes == usual.codes
    assert encoded.output.count("\\u65e5") > 4

    closed = shell.run("<&- >&-")
    closed.assert_no_traceback()
    assert closed.codes == usual.codes

    for redirection in ("| true", ">/dev/full"):
        lost = shell.run(redirection)
        lost.assert_no_traceback()
        changed = {name: code for name, code in lost.codes.items() if code != usual.codes[name]}
        assert set(changed.values()) == {1}, redirection
        assert "--version" in changed
    assert "No space left on device" in lost.errors["--version"]
