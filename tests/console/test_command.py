"""`sessions console`, from its start to Ctrl-C."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from local.stack import HOST
from serverless_sessions.cli.commands import main
from serverless_sessions.operate.account import Account
from tests.support.console import OPERATOR, running_console, serving


def test_only_this_machine_is_listened_on() -> None:
    """On Linux, all of 127.0.0.0/8 leads to this machine: one of its addresses stands for another
    interface.
    """
    code = serving("http://127.0.0.1:9", service="test", operator=OPERATOR)
    with running_console(code, {}) as console:
        port = urlsplit(console.origin).port
        assert port
        with socket.socket() as here, socket.socket() as elsewhere:
            elsewhere.settimeout(1)
            assert here.connect_ex((HOST, port)) == 0
            assert elsewhere.connect_ex(("127.0.0.2", port)) != 0


def test_port_in_use_gives_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "arn", lambda _: OPERATOR)
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = CliRunner().invoke(
            main, ["--url", f"http://{HOST}:9", "console", "--no-browser", "--port", str(port)]
        )

    assert done.exit_code == 1
    assert done.stderr == f"Error: Port {port} is taken; choose another one with --port.\n"
