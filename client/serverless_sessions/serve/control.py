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
_KINDS = ("none", "unavailable", "slow", "lost", "refused")


class Fault(NamedTuple):
    """What happens to a call of the API.

    none: it is performed and answered.
    unavailable: it is not performed, and the answer is 503.
    slow: it is performed, and the answer comes `seconds` later.
    lost: it is performed, and the connection is closed without an answer.
    refused: it is not performed, and the connection is closed without an answer.
    """

    kind: str = "none"
    seconds: float = 0.0


class Control:
    """`POST /_control/…` with a JSON object. The answer is a JSON object."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = Lock()
        self._fault = Fault()
        # For how many more calls. None is for all calls.
        self._calls: int | None = None

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if HEADER not in headers:
            return message(403, f"The header {HEADER} is missing.")
        if method != "POST" or path not in _PATHS:
            return message(404, f"There is POST {', '.join(_PATHS)}.")
        try:
            members = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            return message(422, "The body is not JSON.")
        if not isinstance(members, dict) or members.keys() - set(_PATHS[path]):
            names = ", ".join(_PATHS[path]) or "no members"
            return message(422, f"The body is a JSON object, which may have {names}.")
        try:
            result = getattr(self, f"_{path.removeprefix(PREFIX)}")(**members)
        except ValueError as error:
            return message(422, str(error))
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(result).encode())

    def next_fault(self) -> Fault:
        """Return what happens to a call of the API, and count the call."""
        with self._lock:
            fault = self._fault
            if self._calls is not None:
                self._calls -= 1
                if self._calls == 0:
                    self._fault, self._calls = Fault(), None
        return fault

    def _clock(self, advance: float = 0) -> dict[str, Any]:
        """Move the service's time by `advance` seconds, and settle everything.

        Then all sessions that have expired are deleted, and the trail is complete.
        """
        _check_number("advance", advance, most=10**9)
        advanced = self._service.advance(advance)
        return {"advanced": advanced, "time": self._service.time()}

    def _reset(self) -> dict[str, Any]:
        """Delete everything, end all faults, and return to the time of this host."""
        self._faults()
        self._service.reset()
        return {}

    def _faults(
        self, kind: str = "none", calls: int | None = None, seconds: float = 0
    ) -> dict[str, Any]:
        """Set what happens to the next `calls` calls, or to all calls until this is set again."""
        if kind not in _KINDS:
            raise ValueError(f"kind is one of {', '.join(_KINDS)}")
        if calls is not None and not (type(calls) is int and calls > 0):
            raise ValueError("calls is null or a positive integer")
        _check_number("seconds", seconds, most=1000)
        with self._lock:
            self._fault, self._calls = Fault(kind, seconds), calls
        return {}


def _check_number(name: str, value: object, *, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"{name} is a number of seconds from 0 to {most}")


# The members that a body may have.
_PATHS = {
    f"{PREFIX}clock": ("advance",),
    f"{PREFIX}faults": ("kind", "calls", "seconds"),
    f"{PREFIX}reset": (),
}
