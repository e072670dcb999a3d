"""The service for a whole suite: the real handler on a socket, with tables in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from dynamodb import client as lean
from dynamodb.connection import Answer
from serverless_sessions.serve.tables import Tables
from tests.support.environment import replace_aws_settings
from tests.support.functions import function
from tests.support.memory import InMemory
from tests.support.seam import seam
from tests.support.service import Service


class _Unrecorded(InMemory):
    """Does not record the requests, because a suite makes very many of them."""

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        seam.calls.clear()
        return super().exchange(headers, body, deadline)


@contextmanager
def running_service() -> Iterator[Service]:
    """Run the service during the block. Callers sign with the credentials of the tests."""
    replace_aws_settings()
    handler = function("session_api")
    tables = Tables(time.time, lambda: 0.0, lambda old, new: None)
    seam.reset(lean.Client(_Unrecorded(tables), region=Service.region))
    logging.disable()
    names = SimpleNamespace(sessions="sessions", audit="audit", client=None)
    service = Service(handler, names, dynamodb="")
    try:
        yield service
    finally:
        service.stop()
        logging.disable(logging.NOTSET)
        seam.reset(None)
