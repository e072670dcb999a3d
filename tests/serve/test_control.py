"""Control of the embedded service: its clock, its contents and its faults."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from urllib.error import HTTPError

import pytest

from serverless_sessions import SessionNotFound, Sessions, Unavailable
from tests.support.embedded import Embedded

IMMEDIATELY = 30  # seconds in which even a busy machine answers


def client(embedded: Embedded, seconds: float) -> AbstractContextManager[Sessions]:
    return Sessions(
        embedded.url,
        region=embedded.region,
        credentials=embedded.credentials,
        deadline_seconds=seconds,
        verify_deadline_seconds=seconds,
    )


@pytest.fixture
def sessions(embedded: Embedded) -> Iterator[Sessions]:
    with client(embedded, IMMEDIATELY) as sessions:
        yield sessions


def types(sessions: Sessions, session_id: str) -> list[str]:
    return [event.type for event in sessions.events(session_id=session_id, newest_first=False)]


def test_sessions_expire_without_sleeping(embedded: Embedded, sessions: Sessions) -> None:
    """The trail is complete as soon as the clock has been moved."""
    token = sessions.create("ada", ttl_seconds=3600).token
    session_id = token.partition(".")[0]
    before = embedded.control("clock")

    assert embedded.control("clock", advance=1800)["advanced"] == 1800
    assert sessions.verify(token)
    after = embedded.control("clock", advance=1801)
    assert sessions.verify(token)
    embedded.control("clock", advance=3600)

    assert after["time"] >= before["time"] + 3601
    assert sessions.verify(token) is None
    [created, expired] = sessions.events(session_id=session_id, newest_first=False)
    assert (created.type, expired.type, expired.cause) == ("created", "expired", "idle")
    assert sessions.pending(session_id) is None


def test_a_renewed_session_is_deleted_at_its_new_end(
    embedded: Embedded, sessions: Sessions
) -> None:
    """The new end is later than the old one, or earlier if the window is shorter."""
    longer, shorter = (
        sessions.create("ada", ttl_seconds=100, absolute_ttl_seconds=1000).session.session_id
        for _ in range(2)
    )
    for _ in range(3):
        embedded.control("clock", advance=60)
        sessions.renew(longer)
        sessions.renew(shorter)

    sessions.renew(shorter, ttl_seconds=10)
    embedded.control("clock", advance=11)
    assert types(sessions, longer) == ["created"]
    assert types(sessions, shorter) == ["created", "renewed", "expired"]

    embedded.control("clock", advance=90)
    assert types(sessions, longer) == ["created", "expired"]


def test_ttl_deletes_within_a_second(sessions: Sessions) -> None:
    session_id = sessions.create("ada", ttl_seconds=1).session.session_id
    deadline = time.monotonic() + IMMEDIATELY
    while "expired" not in types(sessions, session_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    [expired, _] = sessions.events(session_id=session_id)
    assert expired.removed_by == "ttl"


def test_nothing_is_left_after_a_reset(embedded: Embedded, sessions: Sessions) -> None:
    session_id = sessions.create("ada").session.session_id
    embedded.control("clock", advance=600)
    embedded.control("faults", kind="unavailable")

    embedded.control("reset")

    assert embedded.control("clock")["advanced"] == 0
    assert list(sessions.list("ada")) == []
    assert list(sessions.events(user_id="ada")) == []
    with pytest.raises(SessionNotFound):
        sessions.get(session_id)
    created = sessions.create("ada").session
    assert abs(created.created_at - time.time()) < IMMEDIATELY


def test_an_outage_ends_after_its_calls(embedded: Embedded, sessions: Sessions) -> None:
    """The client repeats a read twice."""
    session_id = sessions.create("ada").session.session_id
    embedded.control("faults", kind="unavailable", calls=1)
    assert sessions.get(session_id)
    embedded.control("faults", kind="unavailable")
    with client(embedded, 1) as impatient, pytest.raises(Unavailable):
        impatient.get(session_id)
    embedded.control("faults")
    assert sessions.get(session_id)


@pytest.mark.parametrize(
    ("kind", "version", "seconds"),
    [("lost", 2, IMMEDIATELY), ("refused", 1, 1), ("unavailable", 1, 1)],
)
def test_a_fault_says_whether_the_call_is_performed(
    embedded: Embedded, sessions: Sessions, kind: str, version: int, seconds: float
) -> None:
    session_id = sessions.create("ada").session.session_id
    embedded.control("faults", kind=kind)
    with client(embedded, seconds) as caller, pytest.raises(Unavailable):
        caller.change(session_id, {"theme": "dark"})
    embedded.control("faults")
    assert sessions.get(session_id).version == version


def test_a_slow_call_is_performed(embedded: Embedded, sessions: Sessions) -> None:
    began = time.monotonic()
    embedded.control("faults", kind="slow", calls=1, seconds=0.5)
    assert sessions.create("ada")
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(
    ("name", "body", "text"),
    [
        ("clock", '{"advance": -1}', "advance is a number of seconds from 0 to 1000000000"),
        ("clock", '{"advance": true}', "advance is a number of seconds from 0 to 1000000000"),
        ("clock", '{"advance": "1"}', "advance is a number of seconds from 0 to 1000000000"),
        ("clock", '{"other": 1}', "The body is a JSON object, which may have advance."),
        ("faults", '{"kin": 1}', "The body is a JSON object, which may have kind, calls, seconds."),
        ("reset", '{"kind": 1}', "The body is a JSON object, which may have no members."),
        ("clock", "[]", "The body is a JSON object, which may have advance."),
        ("clock", "null", "The body is a JSON object, which may have advance."),
        ("clock", "advance=1", "The body is not JSON."),
        ("clock", "[" * 100_000, "The body is not JSON."),
        ("faults", '{"kind": []}', "kind is one of none, unavailable, slow, lost, refused"),
        ("faults", '{"kind": "lost", "calls": 0}', "calls is null or a positive integer"),
        ("faults", '{"seconds": NaN}', "seconds is a number of seconds from 0 to 1000"),
    ],
)
def test_nonsense_is_refused_in_plain_words(
    embedded: Embedded, name: str, body: str, text: str
) -> None:
    with pytest.raises(HTTPError, match="422") as refused:
        embedded.send(name, body.encode())
    with refused.value as answer:
        assert json.load(answer) == {"message": text}
