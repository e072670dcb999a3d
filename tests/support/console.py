"""Starts the console in a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

from local.stack import ROOT

OPERATOR = "arn:aws:iam::111122223333:user/olga"


class Console:
    """A running console.

    `key_url` is the last URL that it printed. Such a URL opens the console once.
    """

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self.key_url = self._next_url()
        self.origin = self.key_url.partition("/?")[0]

    def entered(self) -> None:
        """Read the next URL. Call this after somebody has opened the console."""
        self.key_url = self._next_url()

    def close_output(self) -> None:
        """Stop reading what the console prints."""
        self._output.close()

    def _next_url(self) -> str:
        for line in self._output:
            if "?key=" in line:
                return line.split()[-1]
        raise AssertionError("the console ended")


@contextmanager
def running_console(
    code: str, environment: Mapping[str, str], presses: int = 6
) -> Iterator[Console]:
    """Start the console with `code`. At the end, stop it with Ctrl-C and check its exit status."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "client"), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        yield Console(process.stdout)
    finally:
        status = _interrupt(process, presses)
        process.stdout.close()
    assert status == 0


def _interrupt(process: subprocess.Popen[str], presses: int) -> int:
    """Press Ctrl-C until the process ends: Python may lose the first one while it imports."""
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=60 / presses)
    process.kill()
    return process.wait()


def serving(url: str, *, service: str, operator: str, browse: bool = False) -> str:
    """Return code that serves the console for the service at `url` without calling AWS."""
    return (
        "from serverless_sessions import AsyncSessions\n"
        "from serverless_sessions.console.server import listen, serve\n"
        f"sessions = AsyncSessions({url!r})\n"
        f"about = {{'service': {service!r}, 'operator': {operator!r}}}\n"
        f"serve(listen(), sessions, **about, browse={browse})"
    )
