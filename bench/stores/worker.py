"""A store in a process of its own, which does as it is asked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from local.stack import ROOT


class Done(NamedTuple):
    """What came of it, and the seconds of CPU that the process spent."""

    answer: Any
    cpu: float


class StoreError(Exception):
    """What the store failed with."""


class Worker:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, name: str, argument: Any = "", *, times: int = 1) -> Done:
        """Have an operation done so many times; raises `StoreError`."""
        assert self._process.stdin  # noqa: S101
        assert self._process.stdout  # noqa: S101
        asked = {"name": name, "argument": argument, "times": times}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise StoreError(f"{self._process.args!r} ended at {name}; its output is above")
        said = json.loads(line)
        if said["error"]:
            raise StoreError(said["error"])
        return Done(said["answer"], said["cpu"])


@contextmanager
def working(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Worker]:
    """Start a store's script and end it on the way out."""
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
