"""The one place where the client reads the time, so that a test can replace it for all of it.

`time`, `monotonic` and `sleep` are those of the standard library.
"""

from __future__ import annotations

from time import monotonic, sleep, time

__all__ = ["monotonic", "now", "sleep", "time"]


def now() -> int:
    """Return the whole seconds since the epoch, the unit of all times of a session."""
    return int(time())
