"""Calls the asynchronous client like the synchronous one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from serverless_sessions import AsyncSessions


class Blocking:
    """An `AsyncSessions` as a `Sessions`: its calls run on one event loop, from any thread."""

    def __init__(self, sessions: AsyncSessions, loop: asyncio.AbstractEventLoop) -> None:
        self._sessions = sessions
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = getattr(self._sessions, name)(*arguments, **options)
            work = result if inspect.iscoroutine(result) else _all(result)
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()

        return call


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]
