"""Waits for the effects of another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def eventually(happened: Callable[[], Any], seconds: float = 120) -> Any:
    """Call `happened` until it returns a true value, and return this value."""
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return answer
