"""A clock that a test can move, for the service and the client."""

from __future__ import annotations

import time


class MovingClock:
    """The current time, plus `ahead` in seconds."""

    def __init__(self) -> None:
        self.ahead = 0
        self._time = time.time

    def __call__(self) -> float:
        return self._time() + self.ahead
