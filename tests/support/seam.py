"""A client between the functions and their real DynamoDB client, which records every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Seam:
    """The client that all functions use during the tests.

    `calls` contains the operations and their requests. A test can set `before` and `after`, which
    are called around each request. They can make another caller's write, change the clock, or raise
    an error to simulate an outage.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.reset(None)

    def reset(self, client: Any) -> None:
        """Use `client` from now on, without any interference."""
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
    """Let the request pass."""


# Every function uses this object as its client.
seam = Seam()
