"""Sessions without a user, for visitors who have not logged in."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from tests.support.api import NOW, Api
from tests.support.backend import ON_DYNAMODB_LOCAL
from tests.support.functions import function, lambda_context, sample


@pytest.fixture
def audit(tables: Any) -> ModuleType:
    return function("session_audit")


def test_anonymous_session_is_stored_without_a_user(api: Api, stored: Any) -> None:
    """The session is in no index. A missing `user_id` and null have the same effect."""
    for body in ({}, {"user_id": None}):
        answer = api("POST", "/sessions", body)

        assert (answer.status, answer.json["user_id"]) == (201, None)
        assert "UserId" not in stored(answer.json["session_id"])


def test_anonymous_session_lives_like_any_other(api: Api, stored: Any) -> None:
    """Callers check `user_id` to see whether somebody has logged in."""
    token = api.log_in(None, data={"cart": 1})
    session_id = token.partition(".")[0]
    path = f"/sessions/{session_id}"
    api.clock.now += 600

    for answer in (
        api("GET", path),
        api("POST", "/sessions/verify", {"token": token}),
        api("PATCH", path, {"data": {"cart": 2}}),
        api("PUT", path, {"data": {"cart": 3}}),
        api("POST", f"{path}/renew"),
        api("POST", f"{path}/rotate"),
    ):
        assert (answer.status, answer.json["user_id"]) == (200, None)
    assert answer.json["expires_at"] == NOW + 600 + 1800

    assert api("DELETE", path).status == 204
    assert api("GET", path).status == 404
    assert "UserId" not in stored(session_id)


def test_former_token_ends_an_anonymous_session(api: Api) -> None:
    former = api.log_in(None)
    path = f"/sessions/{former.partition('.')[0]}"
    api("POST", f"{path}/rotate", {"grace_seconds": 0})
    api.clock.now += 30

    assert api("POST", "/sessions/verify", {"token": former}).status == 401
    assert api("GET", path).status == 404


def test_lists_and_sign_outs_ignore_anonymous_sessions(api: Api) -> None:
    anonymous, session_id = api.create(None), api.create("ada")

    listed = api("GET", "/sessions", query={"user_id": "ada"}).json["items"]
    assert [session["session_id"] for session in listed] == [session_id]
    assert api("DELETE", "/sessions", query={"user_id": "ada"}).json["revoked"] == 1
    assert api("GET", f"/sessions/{anonymous}").status == 200


LIFE = ("created", "updated", "revoked", "expired")


def anonymous_records(*names: str) -> dict[str, Any]:
    """Return the records of these sample events for a session without a user."""
    records = [entry for name in names for entry in sample(f"stream_{name}")["Records"]]
    for record in records:
        for image in ("OldImage", "NewImage"):
            for name in ("UserId", "AuthenticatedAt", "Methods"):
                record["dynamodb"].get(image, {}).pop(name, None)
    return {"Records": records}


def trail(api: Api) -> list[Any]:
    query = {"session_id": "n2qXk8bVQ0mF", "order": "asc"}
    items: list[Any] = api("GET", "/events", query=query).json["items"]
    return items


def test_trail_has_no_events_of_an_anonymous_session(audit: ModuleType, api: Api) -> None:
    batch = anonymous_records(*LIFE)

    assert audit.lambda_handler(batch, lambda_context()) == {"batchItemFailures": []}
    assert trail(api) == []


@ON_DYNAMODB_LOCAL
def test_setting_adds_events_of_anonymous_sessions_to_the_trail(
    audit: ModuleType, api: Api, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "record_anonymous", True)
    batch = anonymous_records(*LIFE)

    audit.lambda_handler(batch, lambda_context())

    events = trail(api)
    assert len(events) == len(batch["Records"])
    assert {event["user_id"] for event in events} == {None}
    items = tables.client.scan(TableName=tables.audit, IndexName="UserIndex")["Items"]
    assert items == []


def test_trail_always_has_changes_that_the_api_did_not_make(audit: ModuleType, api: Api) -> None:
    batch = anonymous_records("updated", "created")
    tampered, deleted = batch["Records"]
    tampered["dynamodb"]["NewImage"]["TokenHash"] = {"B": "cGxhbnRlZA=="}
    deleted["eventName"] = "REMOVE"
    deleted["dynamodb"]["OldImage"] = deleted["dynamodb"].pop("NewImage")

    audit.lambda_handler(batch, lambda_context())

    assert sorted(event["type"] for event in trail(api)) == ["deleted", "tampered"]


@pytest.mark.parametrize("recorded", [False, True])
def test_pending_shows_only_events_that_will_be_recorded(
    audit: ModuleType, api: Api, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    monkeypatch.setattr(api.handler, "record_anonymous", recorded)
    session_id = api.create(None, ttl_seconds=10)
    api.clock.now += 10

    answer = api("GET", "/events", query={"session_id": session_id})

    assert (answer.json["pending"] is not None) == recorded
