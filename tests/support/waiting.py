"""Waiting for what another process does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def eventually(happened: Callable[[], Any], seconds: float = 120) -> Any:
    """Return what `happened` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return answer
