"""Measures the embedded service from a wheel, in an environment with nothing else.

The limits of a start and of a page are for the CPU time of the service, which the load of the
machine hardly affects. Of the reads, the best of several rounds counts.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from local.stack import ROOT

_SESSIONS = 10_000
_PAGES = 50
# A signature is required, but not checked.
_SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential=bench/20261126/us-east-1/execute-api/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
)
_LIMITS = {"ready, CPU s": 1.0, "page of 100, CPU ms": 20.0}
_LEAST_READS = 1_000


def measure(*, long: bool) -> dict[str, Any]:
    """Measure starts, reads on connections, and a page and the memory with many sessions."""
    rounds = 10 if long else 5
    with TemporaryDirectory() as folder:
        python = _install(Path(folder))
        starts = []
        for _ in range(rounds):
            began = time.perf_counter()
            with _running(python) as (process, _):
                starts.append((time.perf_counter() - began, _cpu_seconds(process)))
        with _running(python) as (process, connect):
            empty = _megabytes(process)
            connection = connect()
            session_id = connection.call("POST", "/sessions", {"user_id": "ada"})["session_id"]
            reads = {
                count: max(_reads(connect, session_id, count) for _ in range(rounds))
                for count in (1, 4)
            }
            print(f"  {_SESSIONS:,} sessions …", file=sys.stderr, flush=True)
            for number in range(_SESSIONS):
                # Half of them are one user's.
                user_id = "grace" if number % 2 else f"user-{number}"
                body = {"user_id": user_id, "data": {"theme": "dark", "cart": [1, 2, 3]}}
                connection.call("POST", "/sessions", body)
            # The trail is complete after this, so nothing is left that runs beside the pages.
            connection.call("POST", "/_control/clock", {"advance": 0})
            began, used = time.perf_counter(), _cpu_seconds(process)
            _read_pages(connection)
            page = (time.perf_counter() - began) / _PAGES
            page_cpu = (_cpu_seconds(process) - used) / _PAGES
            full = _megabytes(process)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": sys.version.split()[0],
        "values": {
            "ready, s": min(seconds for seconds, _ in starts),
            "ready, CPU s": median(cpu for _, cpu in starts),
            **{f"reads a second, {count} connections": reads[count] for count in reads},
            "page of 100, ms": 1000 * page,
            "page of 100, CPU ms": 1000 * page_cpu,
            "memory, empty, MB": empty,
            f"memory, {_SESSIONS:,} sessions, MB": full,
        },
    }


def table(result: Mapping[str, Any]) -> str:
    """Return a table in Markdown."""
    rows = [
        f"| {name} | {value:,.3g} |" if value < 100 else f"| {name} | {value:,.0f} |"
        for name, value in result["values"].items()
    ]
    return "\n".join(("| embedded service | measured |", "| --- | --- |", *rows))


def failures(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each value that is out of bounds."""
    values = result["values"]
    reads = values["reads a second, 4 connections"]
    sentences = [
        f"embedded: {name} is {values[name]:.2f}, at most {limit}"
        for name, limit in _LIMITS.items()
        if values[name] > limit
    ]
    if reads < _LEAST_READS:
        sentences.append(f"embedded: {reads:.0f} reads a second, at least {_LEAST_READS}")
    return sentences


def _install(folder: Path) -> Path:
    """Install the wheel with the extra `serve`, and return the interpreter."""
    uv, python = ROOT / ".venv/bin/uv", folder / "environment/bin/python"
    build = ("--quiet", "--offline", "--no-build-isolation", "--python", sys.executable)
    for command in (
        ("build", *build, "--wheel", "--out-dir", folder, ROOT),
        ("venv", "--quiet", "--python", sys.executable, folder / "environment"),
    ):
        subprocess.run([uv, *command], check=True)
    [wheel] = folder.glob("*.whl")
    install = ("pip", "install", "--quiet", "--compile-bytecode", "--python", python)
    subprocess.run([uv, *install, f"{wheel}[serve]"], check=True)
    return python


class _Connection:
    """A connection that is kept. It costs less CPU than the client, which is not measured."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of an answer, which must be a success."""
        content = json.dumps(body).encode() if body else b""
        lines = (
            f"{method} {path} HTTP/1.1",
            f"Host: {self._host}",
            f"Authorization: {_SIGNATURE}",
            "X-Sessions-Control: 1",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
        )
        self._socket.sendall("\r\n".join((*lines, "\r\n")).encode() + content)
        status = self._stream.readline()
        assert b" 20" in status, status
        length = 0
        while (line := self._stream.readline()) != b"\r\n":
            name, _, value = line.partition(b": ")
            if name == b"Content-Length":
                length = int(value)
        return json.loads(self._stream.read(length))

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@contextmanager
def _running(python: Path) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Run the service, and provide its process and a function that connects to it."""
    with subprocess.Popen(
        [python, "-m", "serverless_sessions.serve"],
        cwd=python.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        url = json.loads(process.stdout.readline())["url"]
        yield process, lambda: _Connection(url)
        process.stdin.close()


def _reads(connect: Any, session_id: str, count: int) -> float:
    """Return the reads a second on this number of connections."""
    reads = 4_000 // count

    def read(connection: _Connection) -> None:
        for _ in range(reads):
            connection.call("GET", f"/sessions/{session_id}")

    connections = [connect() for _ in range(count)]
    with ThreadPoolExecutor(count) as threads:
        began = time.perf_counter()
        list(threads.map(read, connections))
        seconds = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return reads * count / seconds


def _read_pages(connection: _Connection) -> None:
    cursor = ""
    for _ in range(_PAGES):
        page = connection.call("GET", f"/sessions?limit=100&user_id=grace{cursor}")
        assert len(page["items"]) == 100
        cursor = f"&cursor={page['next_cursor']}"


def _cpu_seconds(process: subprocess.Popen[str]) -> float:
    """Return the CPU time that the process has used. This and the memory are read as on Linux."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _megabytes(process: subprocess.Popen[str]) -> float:
    """Return the memory of the process, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1000
