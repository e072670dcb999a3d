"""The embedded service as a process, and its control."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

from botocore.credentials import Credentials

from local.stack import ROOT

_COMMAND = (sys.executable, "-m", "serverless_sessions.serve")


class Embedded(NamedTuple):
    """A running service. The trail names the access key of `credentials` as the actor."""

    url: str
    region: str
    table: str
    credentials: Credentials = Credentials("tests", "any")

    def control(self, name: str, **body: Any) -> Any:
        """Call one of the functions in `control.py`, and return its result."""
        return self.send(name, json.dumps(body).encode())

    def send(self, name: str, data: bytes) -> Any:
        url = f"{self.url}/_control/{name}"
        with urlopen(Request(url, data, {"X-Sessions-Control": "1"})) as answer:  # noqa: S310
            return json.load(answer)


@contextmanager
def started(*options: str, **pipes: Any) -> Iterator[subprocess.Popen[str]]:
    """Start the process with these options, without AWS's settings. End it after the block."""
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("AWS_")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True} | pipes
    with subprocess.Popen(
        [*_COMMAND, *options], cwd=ROOT / "client", env=environment, **pipes
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def embedded_service(*options: str) -> Iterator[Embedded]:
    """Run the embedded service during the block."""
    with started(*options) as process:
        assert process.stdout
        yield Embedded(**json.loads(process.stdout.readline()))
