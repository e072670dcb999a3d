"""The start of `sessions console`."""

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
    """Another address in 127.0.0.0/8 represents another network interface of this machine."""
    code = serving("http://127.0.0.1:9", service="test", operator=OPERATOR)
    with running_console(code, {}) as console:
        port = urlsplit(console.origin).port
        assert port
        with socket.socket() as own_address, socket.socket() as other_address:
            other_address.settimeout(1)
            assert own_address.connect_ex((HOST, port)) == 0
            assert other_address.connect_ex(("127.0.0.2", port)) != 0


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
