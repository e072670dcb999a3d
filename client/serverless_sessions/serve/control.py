"""Control of the embedded service by a test: its clock, its contents and its faults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple

from serverless_sessions.serve.gateway import Reply, message
from serverless_sessions.serve.service import Service

PREFIX = "/_control/"
# A page in a browser can't send this header to another site without that site's permission.
HEADER = "x-sessions-control"


class Fault(NamedTuple):
    """What happens to a call of the API.

    unavailable: it is not performed, and the answer is 503.
    slow: it is performed, and the answer comes `seconds` later.
    lost: it is performed, and the connection is closed without an answer.
    refused: it is not performed, and the connection is closed without an answer.
    """

    kind: str
    seconds: float = 0.0


class Control:
    """`POST /_control/…` with a JSON object. The answer is a JSON object."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = Lock()
        self._fault: Fault | None = None
        # How many calls the fault is still for. None is for all of them.
        self._calls: int | None = 0

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if HEADER not in headers:
            return message(403, f"The header {HEADER} is missing.")
        operation = getattr(self, f"_{path.removeprefix(PREFIX)}", None)
        if method != "POST" or path not in _PATHS or operation is None:
            return message(404, f"There is POST {', '.join(_PATHS)}.")
        try:
            result = operation(**json.loads(body or b"{}"))
        except (TypeError, ValueError, OverflowError) as error:
            return message(422, str(error))
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(result).encode())

    def next_fault(self) -> Fault | None:
        """Return the fault of a call of the API, and count the call."""
        if self._fault is None:
            return None
        with self._lock:
            fault = self._fault
            if self._calls is not None:
                self._calls -= 1
                if self._calls <= 0:
                    self._fault = None
            return fault

    def _clock(self, advance: float = 0) -> dict[str, Any]:
        """Move the service's time. The trail is complete when this is answered."""
        if not 0 <= float(advance) < 10**9:
            raise ValueError("advance is a number of seconds from 0 to 10**9")
        advanced = self._service.advance(advance)
        return {"advanced": advanced, "time": self._service.time()}

    def _reset(self) -> dict[str, Any]:
        """Delete everything, end all faults, and return to the time of this host."""
        with self._lock:
            self._fault = None
        self._service.reset()
        return {}

    def _faults(
        self, fault: str | None = None, calls: int | None = None, seconds: float = 0
    ) -> dict[str, Any]:
        """Set the fault of the next `calls` calls, or of all if it is null. Without one, end it."""
        if fault not in (None, "unavailable", "slow", "lost", "refused"):
            raise ValueError("fault is null, unavailable, slow, lost or refused")
        if calls is not None and not (isinstance(calls, int) and calls > 0):
            raise ValueError("calls is null or a positive integer")
        if not 0 <= float(seconds) < 1000:
            raise ValueError("seconds is a number from 0 to 1000")
        with self._lock:
            self._fault = Fault(fault, seconds) if fault else None
            self._calls = calls
        return {}


_PATHS = tuple(f"{PREFIX}{name}" for name in ("clock", "faults", "reset"))
