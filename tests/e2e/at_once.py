"""Many copies of a host handle calls at the same time. This code runs in the host's process."""

from __future__ import annotations

import importlib
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any

import clock
from tests.e2e import host

_TRIES = 10
# All copies wait for each other.
_started: Barrier


def call_api(
    sequences: list[list[dict[str, Any]]], clock_errors: list[float], is_limited: bool
) -> list[list[Any]]:
    """Handle every sequence of calls in a process of its own, and return the answers.

    `clock_errors` are those of the processes, in seconds. Unless `is_limited`, they have no limit
    for the sessions of a user. The processes are copies of this one, which has loaded the function.
    """
    importlib.import_module("session_api.handler")
    module: Any = importlib.import_module("sessions.user_sessions")
    # On a busy machine two seconds may be too short, and so many threads are slower than one.
    module._LIMIT_SECONDS, module._PARALLEL_WRITES = 60, 1
    context = get_context("fork")
    started = context.Barrier(len(sequences))
    with ProcessPoolExecutor(len(sequences), context, _share, (started,)) as processes:
        return list(processes.map(_call_api, sequences, clock_errors, repeat(is_limited)))


def _share(started: Barrier) -> None:
    global _started
    _started = started


def _call_api(events: list[dict[str, Any]], clock_error: float, is_limited: bool) -> list[Any]:
    if not is_limited:
        handler: Any = importlib.import_module("session_api.handler")
        handler.max_sessions_per_user = 0
    clock.time = lambda: time.time() + clock_error
    _started.wait(60)
    return [_repeated(event) for event in events]


def _repeated(event: dict[str, Any]) -> Any:
    """Handle a call, and repeat it while the answer is 503, as the contract allows."""
    for _ in range(_TRIES):
        answer = host.invoke("session_api", event)
        if answer["statusCode"] != 503:
            break
    return answer
