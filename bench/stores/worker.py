"""A session store in a process of its own, which carries out requests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from local.stack import ROOT


class Result(NamedTuple):
    """The answer of a store, and the seconds of CPU that its process spent."""

    answer: Any
    cpu: float


class StoreError(Exception):
    """The store failed. The message is its error."""


class Worker:
    """A running process. `do` sends it an operation."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, name: str, argument: Any = "", *, times: int = 1) -> Result:
        """Carry out an operation once, or several `times`. Raises `StoreError`."""
        assert self._process.stdin  # noqa: S101
        assert self._process.stdout  # noqa: S101
        request = {"name": name, "argument": argument, "times": times}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise StoreError(f"{self._process.args!r} ended at {name}; its output is above")
        response = json.loads(line)
        if response["error"]:
            raise StoreError(response["error"])
        return Result(response["answer"], response["cpu"])


@contextmanager
def running_worker(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Worker]:
    """Start the script of a store, and end it after the block."""
    process = subprocess.Popen(  # noqa: S603
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Worker(process)
        finally:
            process.kill()
