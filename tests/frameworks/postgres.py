"""A PostgreSQL of our own in a temporary folder, reached by a Unix socket alone.

SQLite takes a text of any length. PostgreSQL refuses one that is longer than its column.
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

# For the server to start and to stop, on a busy machine.
LONGEST_SECONDS = 120


def missing() -> str | None:
    """Why there can be no PostgreSQL here, None if there can."""
    absent = [name for name in ("initdb", "postgres") if not shutil.which(name)]
    if absent:
        return f"no {' and no '.join(absent)} on PATH"
    if os.geteuid() == 0 and "postgres" not in [entry.pw_name for entry in pwd.getpwall()]:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run an empty server until the end of the block; its socket is in this folder."""
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
    """The last line of the server's lock file says how far it is."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not (status.exists() and status.read_text().rstrip().endswith("ready")):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("PostgreSQL did not start")
        time.sleep(0.05)
