"""The console on the real service, in a browser that does not run scripts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from serverless_sessions import Sessions
from tests.console.entry import ORIGIN, Entry
from tests.support.service import Service
from tests.support.trail import WriteEvent, writing_events


@pytest.fixture
def entry(service: Service) -> Entry:
    return Entry(service)


@pytest.fixture
def stranger(entry: Entry) -> Iterator[TestClient]:
    """A browser that has not opened the console with its URL."""
    with TestClient(entry.guard, base_url=ORIGIN, follow_redirects=False) as browser:
        yield browser


@pytest.fixture
def browser(entry: Entry, stranger: TestClient) -> TestClient:
    """A browser that has opened the console, and sends the console's own origin."""
    answer = stranger.get(entry.guard.url)
    assert answer.status_code == 303
    stranger.headers["Origin"] = ORIGIN
    return stranger


@pytest.fixture
def sessions(service: Service) -> Iterator[Sessions]:
    with Sessions(service.url, region=service.region, credentials=service.credentials) as sessions:
        yield sessions


@pytest.fixture
def write_event(service: Service) -> Iterator[WriteEvent]:
    """A function that writes an event into the trail."""
    with writing_events(service.audit_table) as write_event:
        yield write_event
