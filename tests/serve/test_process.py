"""The process: how it starts and ends, and where it listens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.stack import HOST, ROOT
from serverless_sessions.serve.gateway import ROUTES
from serverless_sessions.serve.settings import Settings
from tests.support.embedded import Embedded, started
from tests.support.gateway import routes
from tests.support.template import resources
from tests.support.waiting import eventually

PARENT = """
import os, signal, subprocess, sys
command = [sys.executable, "-m", "serverless_sessions.serve"]
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(child.stdout.readline().decode(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def accepts(url: str, host: str = HOST) -> bool:
    port = urlsplit(url).port
    assert port
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


def test_it_says_where_it_is_and_ends_with_its_standard_input() -> None:
    with started() as process:
        assert process.stdin
        assert process.stdout
        line = json.loads(process.stdout.readline())
        assert line.keys() == {"url", "region", "table"}
        assert accepts(line["url"])

        process.stdin.close()

        assert process.wait(60) == 0
        assert process.stdout.read() == ""


def test_it_ends_if_its_parent_is_killed() -> None:
    """Otherwise every test run that is killed would leave a process behind."""
    parent = subprocess.run(
        [sys.executable, "-c", PARENT], cwd=ROOT / "client", stdout=subprocess.PIPE, text=True
    )

    assert parent.returncode == -signal.SIGKILL
    url = json.loads(parent.stdout)["url"]
    eventually(lambda: not accepts(url))


def test_it_listens_on_127_0_0_1_only(embedded: Embedded) -> None:
    assert accepts(embedded.url)
    assert not accepts(embedded.url, "127.0.0.2")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"not_before": 99_999_999_999}, "not_before must be a time in the past"),
        ({"default_ttl_seconds": 90_000}, "must not be in a falling order"),
        ({"rotation_grace_seconds": 0}, "rotation_grace_seconds must be positive"),
        ({"max_sessions_per_user": 101}, "max_sessions_per_user must be between 1 and 100"),
        ({"rotation_grace_seconds": 3601}, "rotation_grace_seconds must be at most 3600"),
        ({"max_absolute_ttl_seconds": 34_560_001}, "max_absolute_ttl_seconds must be at most"),
        ({"renewal_fraction": 1.5}, "renewal_fraction must be between 0 and 1"),
        ({"unrecorded_events": "created"}, "unrecorded_events may name"),
    ],
)
def test_a_setting_that_a_deployment_would_refuse_is_refused(
    setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**setting)


def test_a_wrong_option_gives_a_sentence() -> None:
    with started("--renewal-fraction", "1.5", stderr=subprocess.PIPE) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "renewal_fraction must be" in error


def test_a_taken_port_gives_a_sentence(embedded: Embedded) -> None:
    port = str(urlsplit(embedded.url).port)
    with started("--port", port, stderr=subprocess.PIPE) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.startswith(f"Port {port} can't be used: ")


def test_the_defaults_are_those_of_a_deployment() -> None:
    """The variables of the functions are those of the template, apart from names of resources."""
    ours = Settings().environment
    for function in resources("AWS::Lambda::Function").values():
        if function["Handler"].startswith(("session_api.", "session_audit.")):
            for name, value in function["Environment"]["Variables"].items():
                if isinstance(value, str) and not name.startswith(("POWERTOOLS_", "DYNAMODB_")):
                    assert ours[name] == value, name


def test_the_routes_are_those_of_the_template() -> None:
    assert set(ROUTES) == routes()


def test_the_command_prints_what_a_shell_needs(tmp_path: Path) -> None:
    """An app on the path may have modules with the names of the functions'."""
    (tmp_path / "sessions.py").write_text("raise AssertionError")
    command = Path(sys.executable).parent / "sessions"
    path = os.pathsep.join((str(tmp_path), str(ROOT / "client")))
    environment = os.environ | {"PYTHONPATH": path, "AWS_PROFILE": "other"}
    with subprocess.Popen(
        [str(command), "serve", "--port", "0"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        lines: list[str] = []
        while not lines or "until Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1]
        assert "never for production" in lines[0]
        exports = [line for line in lines if line.startswith(("export ", "unset "))]
        shell = subprocess.run(
            ["bash", "-ec", f"{''.join(exports)}{command} whoami; {command} --json list ada"],  # noqa: S607
            env=environment,
            capture_output=True,
            text=True,
        )
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert shell.stdout.startswith("arn:aws:iam::000000000000:user/local\nhttp://127.0.0.1:")
    assert json.loads(shell.stderr)["code"] == "session_not_found"
    assert (process.returncode, rest, errors) == (0, "", "")
