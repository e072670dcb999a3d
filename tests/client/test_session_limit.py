"""A limit for the sessions of a user, from the client and from the adapters for frameworks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serverless_sessions import InvalidRequest, Sessions
from tests.client.sites import FRAMEWORKS
from tests.support.service import Service


def creation(service: Service) -> dict[str, Any]:
    """Return the body of the last creation."""
    bodies = [
        body
        for call, body in zip(service.calls, service.bodies, strict=True)
        if call == "POST /sessions"
    ]
    body: dict[str, Any] = json.loads(bodies[-1])
    return body


def test_creation_ends_the_oldest_sessions(sessions: Sessions, service: Service) -> None:
    former = sessions.create("ada")
    service.sdk.update_item(
        TableName=service.table,
        Key={"SessionId": {"S": former.session.session_id}},
        UpdateExpression="SET CreatedAt = CreatedAt - :hour",
        ExpressionAttributeValues={":hour": {"N": "3600"}},
    )

    new = sessions.create("ada", max_sessions=1)

    assert [session.session_id for session in sessions.list("ada")] == [new.session.session_id]
    assert sessions.verify(former.token) is None


@pytest.mark.parametrize(("user_id", "max_sessions"), [(None, 3), ("ada", 0), ("ada", 101)])
def test_service_rejects_a_wrong_limit(
    sessions: Sessions, user_id: str | None, max_sessions: int
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sessions.create(user_id, max_sessions=max_sessions)

    assert [error.pointer for error in refused.value.errors] == ["/max_sessions"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_log_in_has_the_limit_of_the_adapter(service: Service, framework: str) -> None:
    """Visitors are in no index, so no limit applies to their sessions."""
    with FRAMEWORKS[framework](service, max_sessions=2) as browser:
        browser.do("write")
        assert "max_sessions" not in creation(service)

        browser.do("log-in 1")

        assert creation(service)["max_sessions"] == 2
        browser.do("log-in 2")
        assert creation(service)["max_sessions"] == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_the_option_the_service_decides(service: Service, framework: str) -> None:
    with FRAMEWORKS[framework](service) as browser:
        browser.do("log-in 1")

    assert "max_sessions" not in creation(service)
