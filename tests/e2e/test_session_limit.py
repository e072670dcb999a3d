"""Fifty processes log one user in at the same moment, with a limit of three sessions.

Every process runs the real function on DynamoDB Local. Their clocks differ by up to 4 seconds.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from bench import service
from serverless_sessions._core.token import new_session_id
from tests.e2e import at_once as copies
from tests.e2e import host
from tests.support.gateway import api_event
from tests.support.tokens import own_secret

_PROCESSES = 50
_LIMIT = 3
# A repeated call may come after another process has ended its session.
_LOGGED_IN = {201, 409}
_CLOCKS = (0.0, -2.0, 2.0, -1.0, 1.0)

# Handles sequences of calls at the same time, some seconds from now, and returns their answers.
AtOnce = Callable[..., list[Any]]


@pytest.fixture
def at_once(tables: Any, dynamodb: str) -> Iterator[AtOnce]:
    environment = service.environment(dynamodb) | {"MAX_SESSIONS_PER_USER": str(_LIMIT)}
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, host.start, (environment, 0)) as process:

        def call(
            sequences: list[list[dict[str, Any]]], after: float, is_limited: bool = True
        ) -> list[Any]:
            errors = [after + _CLOCKS[number % len(_CLOCKS)] for number in range(len(sequences))]
            return process.submit(copies.call_api, sequences, errors, is_limited).result()

        yield call


def log_in(session_id: str) -> dict[str, Any]:
    body = {"user_id": "ada", "session_id": session_id, **own_secret(session_id).both}
    return _event("POST", "/sessions", json.dumps(body))


def log_out(session_id: str) -> dict[str, Any]:
    return _event("DELETE", f"/sessions/{session_id}")


def _event(method: str, path: str, body: str = "") -> dict[str, Any]:
    event = api_event(method, path)
    event["requestContext"]["requestId"] = str(uuid.uuid4())
    return event | {"body": body, "headers": {"content-type": "application/json"}}


def live(tables: Any) -> list[str]:
    """Return the ids of the live sessions, newest first."""
    pages = tables.client.get_paginator("scan").paginate(TableName=tables.sessions)
    items = [item for page in pages for item in page["Items"] if "RevokedAt" not in item]
    ranking = [(int(item["CreatedAt"]["N"]), item["SessionId"]["S"]) for item in items]
    return [session_id for _, session_id in sorted(ranking, reverse=True)]


def test_fifty_log_ins_at_once_leave_the_newest(at_once: AtOnce, tables: Any) -> None:
    """Two log-ins later, exactly three sessions are left.

    So they are if more sessions were left, and if there are 100 log-ins and log-outs in between.
    """

    def log_in_twice(after: float) -> list[str]:
        """Log in twice, seconds apart. Return the sessions that must be left, newest first."""
        before, new = live(tables), [new_session_id(), new_session_id()]
        for number, session_id in enumerate(new):
            [[answer]] = at_once([[log_in(session_id)]], after + 10 * number)
            assert answer["statusCode"] == 201
        return [*reversed(new), before[0]]

    answers = at_once([[log_in(new_session_id())] for _ in range(_PROCESSES)], 0)
    assert {answer["statusCode"] for [answer] in answers} <= _LOGGED_IN
    assert len(live(tables)) >= _LIMIT
    left = log_in_twice(after=10)
    assert live(tables) == left

    # Hosts that do not have the setting yet.
    stay = [[log_in(new_session_id()) for _ in range(3)] for _ in range(2)]
    ids = [[new_session_id() for _ in range(50)] for _ in range(2)]
    in_and_out = [[call(id) for id in own for call in (log_in, log_out)] for own in ids]
    for answers in at_once([a + b for a, b in zip(stay, in_and_out, strict=True)], 30, False):
        assert [answer["statusCode"] for answer in answers] == [201] * 3 + [201, 204] * 50
    assert len(live(tables)) == _LIMIT + 6
    left = log_in_twice(after=50)
    assert live(tables) == left
