"""Stands where the functions call DynamoDB, with any client behind it, and sees every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Seam:
    """The client that the functions hold, for as long as the tests run.

    `calls` are the operations that were asked for, with their requests. A test interferes by what
    happens `before` each request or `after` it: another caller's write, a clock that goes on, or an
    outage, by raising.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.reset(None)

    def reset(self, client: Any) -> None:
        """From now on `client` does the work, and nothing interferes."""
        self.client = client
        self.before = self.after = _nothing
        self.calls.clear()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = "".join(word.capitalize() for word in name.split("_"))

        def call(**request: Any) -> Any:
            self.calls.append((operation, request))
            self.before()
            answer = getattr(self.client, name)(**request)
            self.after()
            return answer

        return call


def _nothing() -> None:
    """Most tests let every request pass."""


# What every function holds for its client.
seam = Seam()
