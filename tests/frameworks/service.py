"""The service for a whole suite: the real handler on a socket, over tables in memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import tests.conftest  # noqa: F401  (it replaces the AWS settings of whoever runs this)
from dynamodb import client as lean
from dynamodb.connection import Answer
from serverless_sessions.serve.tables import Tables
from tests.client.service import Service
from tests.functional.conftest import function, seam


class _InMemory:
    """Carries the requests of the functions' client to tables in this process."""

    host = "dynamodb.us-east-1.amazonaws.com"

    def __init__(self) -> None:
        self._tables = Tables(time.time, lambda: 0.0, lambda old, new: None)
        self._lock = threading.Lock()

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        operation = headers["x-amz-target"].partition(".")[2]
        seam.calls.clear()
        with self._lock:
            status, answer = self._tables.answer(operation, body)
        return Answer(status, None, answer)

    def close(self) -> None:
        """There are no connections."""


@contextmanager
def running_service() -> Iterator[Service]:
    """Run the service until the end of the block. Callers sign with the tests' credentials."""
    handler = function("session_api")
    seam.reset(lean.Client(_InMemory(), region=Service.region))
    logging.disable()
    tables = SimpleNamespace(sessions="sessions", audit="audit", client=None)
    service = Service(handler, tables, dynamodb="")
    try:
        yield service
    finally:
        service.stop()
        logging.disable(logging.NOTSET)
        seam.reset(None)
