"""A second send for a request whose answer takes long.

A slow service and a lost connection look alike. So the first send goes on, and after a while the
same request is sent once more, over another connection. The first good answer counts. Only for
requests that the service may execute twice at the same time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

from serverless_sessions._core.calls import Answer, Deadline, NoAnswer, Request

# How often a thread that waits for the first answer looks for the second one.
_POLL_SECONDS = 0.02

Sent = Answer | NoAnswer


class Hedge:
    """The second send, for threads.

    The thread that waits for the first answer calls `poll` now and then, and `settle` at the end.
    """

    def __init__(self, request: Request, send: Callable[[Request], Sent]) -> None:
        self._request = request
        self._send = send
        self._deadline = Deadline(request.seconds)
        self._patience = Deadline(request.patience_seconds)
        self._thread: threading.Thread | None = None
        self._outcome: Sent | None = None

    def poll(self) -> float | None:
        """Start the second send when it is due. Return the seconds until the next poll.

        Return None if there is a good answer, so that there is nothing left to wait for.
        """
        if self._thread is None:
            if (left := self._patience.left) > 0:
                return left
            self._start()
        return None if _is_good(self._outcome) else _POLL_SECONDS

    def settle(self, first: Sent) -> Sent:
        """Return the outcome of the request, when `first` is the outcome of the first send."""
        if self._thread is None or _is_good(first):
            return first
        self._thread.join(max(self._deadline.left, 0))
        return self._outcome if self._outcome and _is_good(self._outcome) else first

    def _start(self) -> None:
        request = _second(self._request, self._deadline.left)

        def send() -> None:
            self._outcome = self._send(request)

        self._thread = threading.Thread(target=send, name="serverless-sessions", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the process cannot have more threads
            self._outcome = NoAnswer("no thread", sent=False)


async def send_hedged(request: Request, send: Callable[[Request], Awaitable[Sent]]) -> Sent:
    """Send a request with asyncio, and a second time if its answer takes long."""
    loop = asyncio.get_running_loop()
    deadline = Deadline(request.seconds)
    waiting = asyncio.timeout(None)
    second: asyncio.Task[Sent] | None = None
    first: Sent | None = None

    async def send_second() -> Sent:
        outcome = await send(_second(request, deadline.left))
        if first is None and _is_good(outcome):
            waiting.reschedule(loop.time())  # ends the wait for the first answer
        return outcome

    def start() -> None:
        nonlocal second
        second = loop.create_task(send_second())

    timer = loop.call_later(request.patience_seconds, start)
    try:
        async with waiting:
            first = await send(request)
    except TimeoutError:
        assert second  # noqa: S101  # nothing else sets a time
        return await second
    finally:
        timer.cancel()
        if second and (first is None or _is_good(first)):
            second.cancel()
    if second and not _is_good(first):
        outcome = await second
        return outcome if _is_good(outcome) else first
    return first


def _second(request: Request, seconds: float) -> Request:
    return replace(request, seconds=seconds, patience_seconds=seconds, is_hedged=False)


def _is_good(outcome: Sent | None) -> bool:
    """Return whether this is an answer that a third send would not change."""
    return isinstance(outcome, Answer) and outcome.status < 500 and outcome.status != 429
