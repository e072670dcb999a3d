"""The one place where the functions read the time, so that tests can replace it for all of them.

`time`, `monotonic` and `sleep` are those of the standard library.
"""

from __future__ import annotations

from time import monotonic, sleep, time

__all__ = ["monotonic", "now", "sleep", "time"]


def now() -> int:
    """Return the whole seconds since the epoch: the unit of `ExpirationTime`."""
    return int(time())
