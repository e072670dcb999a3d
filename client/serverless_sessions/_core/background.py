"""Work that may block for longer than a call may take. It runs in daemon threads, beside the calls.

The pools of the app (those of `asyncio.to_thread` and of its executors) are not used: a name server
or a credential provider that hangs would occupy all of their threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from serverless_sessions._core import clock

Value = TypeVar("Value")


@dataclass(frozen=True)
class Pending:
    """A result that a call waits for, for at most `seconds`."""

    future: Future[Any]
    seconds: float


class Lookup(Generic[Value]):
    """Runs `load` in a thread of its own. All calls that need the result wait for the same run.

    A run that fails is its own result for `pause` seconds, so that calls which are retried do not
    run `load` each time.
    """

    def __init__(self, load: Callable[[], Value], *, pause: float = 0.0) -> None:
        self._load = load
        self._pause = pause
        self._failed_at = float("-inf")
        self._lock = threading.Lock()
        self._future: Future[Value] | None = None

    def start(self) -> Future[Value]:
        """Return the result of the current run. If there is none, start one. This never blocks."""
        with self._lock:
            is_paused = clock.monotonic() - self._failed_at < self._pause
            if self._future is None or (self._future.done() and not is_paused):
                self._future = Future()
                # A caller that is cancelled must not cancel the run for the others.
                self._future.set_running_or_notify_cancel()
                work = threading.Thread(
                    target=self._run, args=(self._future,), name="serverless-sessions", daemon=True
                )
                try:
                    work.start()
                except RuntimeError as error:  # the process cannot have more threads
                    self._future.set_exception(error)
            return self._future

    def _run(self, future: Future[Value]) -> None:
        try:
            value = self._load()
        except BaseException as error:
            self._failed_at = clock.monotonic()
            future.set_exception(error)
        else:
            future.set_result(value)


async def wait_async(future: Future[Any], seconds: float) -> None:
    """Wait until `future` is done, for at most `seconds`, as `concurrent.futures.wait` does."""
    with suppress(Exception):
        async with asyncio.timeout(seconds):
            await asyncio.wrap_future(future)


class PerProcess(Generic[Value]):
    """A value that every process makes for itself.

    After a fork, the child's value is a new one: a thread that the child does not have may hold a
    lock of the parent's value, and parent and child must not share connections. The process id is
    compared because not every server that forks calls Python's hooks for it (uWSGI does not).
    """

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._values: dict[int, Value] = {}

    def get(self) -> Value:
        process = os.getpid()
        value = self._values.get(process)
        if value is None:
            # This is atomic, so all threads get the same value. A lock could be held in a fork.
            value = self._values.setdefault(process, self._make())
            for other in set(self._values) - {process}:
                self._values.pop(other, None)
        return value

    def pop(self) -> Value | None:
        """Remove and return the value, if there is one."""
        return self._values.pop(os.getpid(), None)
