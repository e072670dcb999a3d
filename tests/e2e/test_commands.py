"""The error messages of the local commands."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local.stack import HOST, LocalError, require_free
from tests.support.ports import free_port
from tests.support.template import ROOT


def local(*arguments: str, port: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "local", *arguments],
        cwd=ROOT,
        env={**os.environ, "PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def listening() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_port_in_use_gives_a_message() -> None:
    with listening() as port:
        done = local("demo", port=port)

    assert done.returncode == 1
    assert done.stderr == f"Port {port} is taken; choose another one with PORT=….\n"


def test_taken_port_of_an_example_is_reported_before_the_deployment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening() as port:
        monkeypatch.setenv("WEB_PORT", str(port))
        done = local("example", "flask", port=free_port())

    assert done.returncode == 1
    assert done.stderr == f"Port {port} is taken; choose another one with WEB_PORT=….\n"


def test_port_that_needs_more_rights_is_reported_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(socket.socket, "bind", refuse)

    with pytest.raises(LocalError, match="^You may not listen on port 82; choose one above 1023"):
        require_free(82, "PORT")


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1"])
def test_invalid_port_gives_a_message(port: str) -> None:
    done = local("demo", port=port)

    assert done.returncode == 1
    assert done.stderr == f"PORT must be a port number, not '{port}'.\n"


def test_invoke_without_a_running_stack_gives_a_message() -> None:
    port = free_port()
    done = local("invoke", "events/api_get_session.json", port=port)

    assert done.returncode == 1
    assert done.stderr == f"No local stack runs at port {port}; start one with 'make run'.\n"


@pytest.mark.parametrize("app", ["", "rails"])
def test_unknown_example_gives_a_message(app: str) -> None:
    done = local("example", app, port=free_port())

    assert done.returncode == 1
    names = "django, flask, fastapi, protected_api or live_sockets"
    assert done.stderr == f"APP must be {names}, not '{app}'.\n"


@pytest.mark.parametrize(
    "event", ["", "README.md", "events/none.json", "events/api_none.json", "events"]
)
def test_unknown_event_gives_a_message(event: str) -> None:
    done = local("invoke", event, port=free_port())

    assert done.returncode == 1
    assert done.stderr == f"EVENT must be one of events/*.json, not '{event}'.\n"
