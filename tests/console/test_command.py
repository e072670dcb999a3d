"""The start of `sessions console`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
from click.testing import CliRunner

from local.stack import HOST, ROOT
from serverless_sessions.cli.commands import main
from serverless_sessions.operate.account import Account
from tests.support.console import OPERATOR, running_console, serving
from tests.support.waiting import eventually


def test_only_this_machine_is_listened_on() -> None:
    """Another address in 127.0.0.0/8 represents another network interface of this machine."""
    code = serving("http://127.0.0.1:9", service="test", operator=OPERATOR)
    with running_console(code, {}) as console:
        port = urlsplit(console.origin).port
        assert port
        with socket.socket() as own_address, socket.socket() as other_address:
            other_address.settimeout(1)
            assert own_address.connect_ex((HOST, port)) == 0
            assert other_address.connect_ex(("127.0.0.2", port)) != 0


# A browser in a terminal: it has the terminal until its user leaves it.
_TEXT_BROWSER = """
import sys, time, urllib.request
from pathlib import Path

url, folder = sys.argv[1], Path(sys.argv[2])
page = urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(url, timeout=60)
(folder / "part").write_bytes(page.read())
(folder / "part").rename(folder / "page")
for _ in range(3000):
    if (folder / "quit").exists():
        break
    time.sleep(0.1)
"""


def test_browser_that_keeps_the_terminal_is_served(tmp_path: Path) -> None:
    """And the console ends at Ctrl-C, even if the browser is still open."""
    (tmp_path / "browser.py").write_text(_TEXT_BROWSER)
    browser = f"{sys.executable} {tmp_path / 'browser.py'} %s {tmp_path}"
    code = serving("http://127.0.0.1:9", service="test", operator=OPERATOR, browse=True)
    try:
        # By the time of the entry, Python no longer loses a Ctrl-C.
        with running_console(code, {"BROWSER": browser}, presses=1) as console:
            console.entered()
            eventually((tmp_path / "page").exists)
    finally:
        (tmp_path / "quit").touch()

    assert OPERATOR in (tmp_path / "page").read_text()


_COMMAND = f"""
from serverless_sessions.cli.commands import main
from serverless_sessions.operate.account import Account

Account.arn = lambda self: {OPERATOR!r}
arguments = "--url", "http://127.0.0.1:9", "--region", "us-east-1", "console", "--no-browser"
main(arguments, prog_name="sessions")
"""


def test_console_serves_when_nobody_reads_its_output() -> None:
    """It prints a URL at each entry, and `sessions console | head -1` has gone by then."""
    with running_console(_COMMAND, {"PYTHONUNBUFFERED": ""}) as console:
        console.close_output()
        browser = build_opener(HTTPCookieProcessor())
        with browser.open(console.key_url, timeout=60) as answer:
            assert OPERATOR in answer.read().decode()


def test_port_in_use_gives_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "arn", lambda _: OPERATOR)
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]

        done = CliRunner().invoke(
            main, ["--url", f"http://{HOST}:9", "console", "--no-browser", "--port", str(port)]
        )

    assert done.exit_code == 1
    assert done.stderr == f"Error: Port {port} is taken; choose another one with --port.\n"


def test_url_is_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "arn", lambda _: OPERATOR)
    monkeypatch.setattr("serverless_sessions.console.server._Server.run", lambda *_, **__: None)

    done = CliRunner().invoke(
        main, ["--url", f"http://{HOST}:9", "--json", "console", "--no-browser"]
    )

    assert done.exit_code == 0
    url, hint = map(json.loads, done.stdout.splitlines())
    assert url["url"].startswith(f"http://{HOST}:")
    assert hint == {"message": "It serves until Ctrl-C."}


def test_output_that_is_full_is_no_taken_port() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND],
            env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert done.returncode == 1
    assert done.stderr == "Error: [Errno 28] No space left on device\n"
