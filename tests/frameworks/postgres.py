"""A PostgreSQL server in a temporary folder. It only listens on a Unix socket.

PostgreSQL rejects a text that is longer than its column. SQLite accepts it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The server has this long to start and to stop. It needs longer on a busy machine.
LONGEST_SECONDS = 120


def missing() -> str | None:
    """Return the reason why PostgreSQL cannot run on this machine, or None if it can."""
    absent = [name for name in ("initdb", "postgres") if not shutil.which(name)]
    if absent:
        return f"no {' and no '.join(absent)} on PATH"
    if os.geteuid() == 0 and "postgres" not in [entry.pw_name for entry in pwd.getpwall()]:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run an empty server during the block. The result is the folder of its socket."""
    # PostgreSQL refuses to run as root.
    user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
    # The path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp") as folder:  # noqa: S108
        if user:
            shutil.chown(folder, "postgres")
        data = Path(folder, "data")
        subprocess.run(
            [_path("initdb"), "--username=postgres", "--auth=trust", "--no-sync", str(data)],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            **user,
        )
        with Path(folder, "log").open("w") as log:
            server = subprocess.Popen(
                [_path("postgres"), "-D", str(data), "-k", folder, "-h", "", "-F"],
                cwd=folder,
                stdout=log,
                stderr=log,
                **user,
            )
            try:
                _wait_until_ready(server, Path(folder, "data/postmaster.pid"))
                yield folder
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(LONGEST_SECONDS)


def _path(program: str) -> str:
    path = shutil.which(program)
    assert path, program
    return path


def _wait_until_ready(server: subprocess.Popen[bytes], status: Path) -> None:
    """Wait until the last line of the server's lock file is "ready"."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not (status.exists() and status.read_text().rstrip().endswith("ready")):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("PostgreSQL did not start")
        time.sleep(0.05)
