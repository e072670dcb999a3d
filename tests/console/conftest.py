"""The console in a browser without scripts, on the real service."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from audit.event import AuditEvent, event_id
from audit.trail import AuditTrail
from dynamodb import client as lean
from serverless_sessions import AsyncSessions, Sessions
from serverless_sessions.console.app import Console
from serverless_sessions.console.guard import Guard
from tests.client.conftest import service as service
from tests.client.conftest import tables as tables
from tests.client.service import Service

PORT = 4600
ORIGIN = f"http://127.0.0.1:{PORT}"
OPERATOR = "arn:aws:iam::111122223333:user/olga"

Tell = Callable[..., str]


class Entry:
    """The console's guard, and the URLs that it told when somebody entered."""

    def __init__(self, service: Service) -> None:
        self.urls: list[str] = []
        sessions = AsyncSessions(
            service.url,
            region=service.region,
            credentials=service.credentials,
            deadline_seconds=3,
        )
        console = Console(sessions, service="test", operator=OPERATOR)
        self.guard = Guard(console.app, port=PORT, on_entry=self.urls.append)


@pytest.fixture
def entry(service: Service) -> Entry:
    return Entry(service)


@pytest.fixture
def stranger(entry: Entry) -> Iterator[TestClient]:
    """A browser that has not been let in."""
    with TestClient(entry.guard, base_url=ORIGIN, follow_redirects=False) as browser:
        yield browser


@pytest.fixture
def browser(entry: Entry, stranger: TestClient) -> TestClient:
    """A browser that has; its forms come from the console's pages."""
    answer = stranger.get(entry.guard.url)
    assert answer.status_code == 303
    stranger.headers["Origin"] = ORIGIN
    return stranger


@pytest.fixture
def sessions(service: Service) -> Iterator[Sessions]:
    with Sessions(service.url, region=service.region, credentials=service.credentials) as sessions:
        yield sessions


@pytest.fixture
def tell(service: Service) -> Iterator[Tell]:
    """Put an event into the trail, as the stream's consumer does."""
    numbers = count()
    with closing(lean.connect()) as client:
        trail = AuditTrail(client, service.audit_table)

        def tell(type: str, session_id: str, user_id: str | None = "ada", **facts: Any) -> str:
            recorded_at = facts.pop("recorded_at", int(time.time()))
            event = AuditEvent(
                event_id=event_id(recorded_at, str(next(numbers))),
                type=type,
                session_id=session_id,
                user_id=user_id,
                recorded_at=recorded_at,
                **{"at": recorded_at, "actor": OPERATOR} | facts,
            )
            deadline = time.monotonic() + 60
            failures = trail.append([event], retention_seconds=86_400, deadline=deadline)
            assert not failures.temporary + failures.permanent
            return event.event_id

        yield tell


def words(page: str) -> str:
    """What a page says, without its tags."""
    main = page[page.index("<main") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", main)).strip()


def location(answer: Any) -> str:
    """Where a redirect leads: a path of the console."""
    assert answer.status_code == 303, answer.text
    target = urlsplit(answer.headers["location"])
    assert target.netloc in ("", f"127.0.0.1:{PORT}")
    return f"{target.path}?{target.query}"
