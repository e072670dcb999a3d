"""Step-ups and impersonated sessions, as the client shows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from serverless_sessions import (
    AnonymousSession,
    Client,
    DirectReader,
    ImpersonatedSession,
    Impersonator,
    InvalidRequest,
    InvalidToken,
    Session,
    SessionNotFound,
    Sessions,
)
from serverless_sessions._core import clock
from tests.support import service as faults
from tests.support.service import Service

AGENT = Impersonator("grace", "ticket-42")
NOW = 1_795_435_200


def session(**changes: Any) -> Session:
    members: dict[str, Any] = {
        "session_id": "A" * 12,
        "user_id": "ada",
        "created_at": NOW - 900,
        "renewed_at": NOW,
        "expires_at": NOW + 1800,
        "absolute_expires_at": NOW + 86_400,
        "ttl_seconds": 1800,
        "version": 1,
        "data": {},
        "client": Client(),
        "last_client": Client(),
        "authenticated_at": NOW - 300,
        "methods": ("pwd", "otp"),
    }
    return Session(**members | changes)


@pytest.mark.parametrize(
    ("changes", "seconds", "methods", "expected"),
    [
        ({}, 300, (), True),
        ({}, 299, (), False),
        ({"authenticated_at": NOW + 2}, 0, (), True),  # the clock of the service is ahead
        ({}, 300, ["pwd"], True),
        ({}, 300, {"otp", "pwd"}, True),
        ({}, 300, ["otp", "hwk"], False),
        ({}, 299, ["pwd"], False),
        ({"methods": ()}, 300, ["pwd"], False),
        ({"authenticated_at": None}, 10**9, (), False),
        ({"user_id": None}, 300, (), False),
        ({"impersonator": AGENT}, 300, (), False),
    ],
)
def test_session_is_recent_only_if_its_user_has_just_proved_who_they_are(
    monkeypatch: pytest.MonkeyPatch,
    changes: Any,
    seconds: int,
    methods: Any,
    expected: bool,
) -> None:
    monkeypatch.setattr(clock, "time", lambda: NOW)

    assert session(**changes).authenticated_within(seconds, methods=methods) is expected


def test_string_is_no_collection_of_methods(sessions: Sessions) -> None:
    """Its letters would be taken for methods."""
    assert not session(methods=("o",)).authenticated_within(10**9, methods="otp")
    issued = sessions.create("ada", methods=["pwd"])
    with pytest.raises(TypeError):
        sessions.create("ada", methods="pwd")
    with pytest.raises(TypeError):
        sessions.authenticate(issued.session.session_id, methods="otp", token=issued.token)


def test_a_user_steps_up(sessions: Sessions) -> None:
    an_hour_ago = int(time.time()) - 3600
    issued = sessions.create("ada", methods=["pwd"], authenticated_at=an_hour_ago)
    session_id = issued.session.session_id
    assert issued.session.authenticated_at == an_hour_ago
    assert not issued.session.authenticated_within(300)

    again = sessions.authenticate(session_id, methods=["pwd", "otp"], token=issued.token)

    assert again.token != issued.token
    assert again.session.authenticated_within(300, methods=["otp"])
    assert sessions.verify(again.token) == again.session
    former = sessions.verify(issued.token)
    assert former
    assert (former.authenticated_at, former.methods) == (an_hour_ago, ("pwd",))
    [listed] = sessions.list("ada")
    assert listed.methods == ("pwd", "otp")
    rotated = sessions.rotate(session_id, token=again.token)
    assert rotated.session.methods == ("pwd", "otp")


def test_step_up_by_id_and_its_refusals(sessions: Sessions) -> None:
    issued = sessions.create("ada")
    session_id = issued.session.session_id
    with pytest.raises(InvalidToken):
        sessions.authenticate(session_id, methods=[], token=f"{'B' * 12}.{'C' * 27}")
    with pytest.raises(SessionNotFound):
        sessions.authenticate("../sessions", methods=[])
    with pytest.raises(InvalidRequest) as raised:
        sessions.authenticate(session_id, methods=["a b"], token=issued.token)
    assert raised.value.pointers == ("/methods",)
    assert sessions.authenticate(session_id, methods=["otp"]).session.methods == ("otp",)
    visitor = sessions.create()
    with pytest.raises(AnonymousSession):
        sessions.authenticate(visitor.session.session_id, methods=[], token=visitor.token)


def test_step_up_whose_answer_was_lost_is_made_once(sessions: Sessions, service: Service) -> None:
    issued = sessions.create("ada", methods=["pwd"])
    service.plan(faults.lose_answer)

    again = sessions.authenticate(issued.session.session_id, methods=["otp"], token=issued.token)

    assert len(service.calls) == 2
    assert sessions.verify(again.token) == again.session
    former = sessions.verify(issued.token)
    assert former
    assert former.methods == ("pwd",)


def test_impersonated_session_names_the_impersonator(sessions: Sessions) -> None:
    issued = sessions.create("ada", impersonator=AGENT)
    session_id = issued.session.session_id

    assert issued.session.impersonator == AGENT
    assert issued.session.authenticated_at is None
    assert sessions.verify(issued.token) == issued.session
    assert issued.session.absolute_expires_at - issued.session.created_at == 3600
    for token in (issued.token, None):
        with pytest.raises(ImpersonatedSession):
            sessions.authenticate(session_id, methods=["pwd"], token=token)
    assert sessions.create("ada").session.impersonator is None
    with pytest.raises(InvalidRequest):
        sessions.create(impersonator=AGENT)


def test_session_read_directly_is_the_same_as_from_the_api(
    connect: Callable[..., Sessions], service: Service
) -> None:
    sessions = connect(reader=DirectReader(service.table, endpoint=service.dynamodb))
    assert sessions.verify(sessions.create("warm").token)
    stepped_up = sessions.create("ada", methods=["pwd"], authenticated_at=1_790_000_000)
    stepped_up = sessions.authenticate(
        stepped_up.session.session_id, methods=["hwk"], token=stepped_up.token
    )
    sessions.verify(stepped_up.token)  # the first use goes to the API
    older = sessions.create("ada", methods=["pwd"])
    service.sdk.update_item(
        TableName=service.table,
        Key={"SessionId": {"S": older.session.session_id}},
        UpdateExpression="REMOVE AuthenticatedAt, Methods",
    )
    for issued in (
        sessions.create("ada", methods=["pwd", "otp"]),
        sessions.create("ada", impersonator=AGENT),
        sessions.create(),
        stepped_up,
        older,
    ):
        service.plan()
        directly = sessions.verify(issued.token)
        assert service.calls == []
        assert directly == connect().verify(issued.token)


def test_former_token_goes_to_the_api(connect: Callable[..., Sessions], service: Service) -> None:
    sessions = connect(reader=DirectReader(service.table, endpoint=service.dynamodb))
    assert sessions.verify(sessions.create("warm").token)
    issued = sessions.create("ada", methods=["pwd"])
    newest = sessions.authenticate(issued.session.session_id, methods=["otp"], token=issued.token)
    for _ in range(2):
        service.plan()
        former = sessions.verify(issued.token)
        assert former
        assert former.methods == ("pwd",)
        assert service.calls == ["POST /sessions/verify"]
        sessions.verify(newest.token)


@pytest.mark.parametrize(
    "change",
    [
        {"Methods": {"S": "pwd"}},
        {"Methods": {"L": [{"N": "1"}]}},
        {"AuthenticatedAt": {"S": "1"}},
        {"AuthenticatedAt": {"N": "99999999999"}},
        {"Impersonator": {"S": "grace"}},
        {"Impersonator": {"M": {}}},
    ],
)
def test_malformed_item_goes_to_the_api(
    connect: Callable[..., Sessions], service: Service, change: dict[str, Any]
) -> None:
    sessions = connect(reader=DirectReader(service.table, endpoint=service.dynamodb))
    assert sessions.verify(sessions.create("warm").token)
    issued = sessions.create("ada")
    [(name, value)] = change.items()
    service.sdk.update_item(
        TableName=service.table,
        Key={"SessionId": {"S": issued.session.session_id}},
        UpdateExpression=f"SET {name} = :value",
        ExpressionAttributeValues={":value": value},
    )
    service.plan()
    directly = sessions.verify(issued.token)
    assert service.calls == ["POST /sessions/verify"]
    assert directly
    is_impersonated = name == "Impersonator"
    assert directly.authenticated_at == (None if is_impersonated else issued.session.created_at)
