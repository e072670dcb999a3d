"""The CPU time of an invocation, relative to the bare boto3 calls that it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.runtime import Runtime
from local.stack import ROOT


def measure(runtime: Runtime, *, rounds: int) -> dict[str, dict[str, Any]]:
    """Return the `requests` of every operation, and medians: `over_boto3`, `over_floor`, `cpu_us`.

    The functions and boto3 send their requests to a local stub of DynamoDB.
    """
    with running_stub() as port:
        return _run_worker(runtime, port, rounds)


@contextmanager
def running_stub(*, milliseconds: int = 0) -> Iterator[int]:
    """Start the stub, which takes this time for an answer. Yields its port."""
    stub = subprocess.Popen(
        [sys.executable, "-m", "bench.stub", str(milliseconds)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert stub.stdout
        yield int(stub.stdout.readline())
    finally:
        stub.terminate()
        stub.communicate()


def _run_worker(runtime: Runtime, port: int, rounds: int) -> dict[str, dict[str, Any]]:
    command = runtime.command("-m", "bench.warm_worker", str(port), str(rounds))
    worker = subprocess.Popen(
        command,
        cwd=runtime.folder,
        env=runtime.environment(ROOT) | {"AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{port}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    results = {}
    with worker:
        assert worker.stdout
        for line in worker.stdout:
            result = json.loads(line)
            results[name := result.pop("name")] = result
            print(f"warm {name}: {result['over_boto3']:.2f} ×", file=sys.stderr)
    if worker.returncode:
        raise subprocess.CalledProcessError(worker.returncode, command)
    return results
