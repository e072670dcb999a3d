"""Writes events that no session has caused into the trail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from typing import Any

from audit.event import AuditEvent, event_id
from audit.trail import AuditTrail
from dynamodb import client as lean
from tests.support.console import OPERATOR

WriteEvent = Callable[..., str]


@contextmanager
def writing_events(audit_table: str) -> Iterator[WriteEvent]:
    """Yield a function that adds an event to the trail, as the audit function does."""
    numbers = count()
    with closing(lean.connect()) as client:
        trail = AuditTrail(client, audit_table)

        def write_event(
            type: str, session_id: str, user_id: str | None = "ada", **facts: Any
        ) -> str:
            recorded_at = facts.pop("recorded_at", int(time.time()))
            event = AuditEvent(
                event_id=event_id(recorded_at, str(next(numbers))),
                type=type,
                session_id=session_id,
                user_id=user_id,
                recorded_at=recorded_at,
                **{"at": recorded_at, "actor": OPERATOR} | facts,
            )
            failures = trail.append(
                [event], retention_seconds=86_400, deadline=time.monotonic() + 60
            )
            assert not failures.temporary + failures.permanent
            return event.event_id

        yield write_event
