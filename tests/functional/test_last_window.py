"""`renew` with `final`: a visitor's session gets a last window, which nothing extends."""

from __future__ import annotations

from typing import Any

import pytest

from audit.classify import classify
from sessions.store import SessionStore
from tests.support.api import BY_OTHER, NOW, Answer, Api
from tests.support.seam import seam
from tests.support.tokens import id_of, verify


def end_with(api: Api, session_id: str, ttl_seconds: int = 60) -> Answer:
    body = {"ttl_seconds": ttl_seconds, "final": True}
    return api("POST", f"/sessions/{session_id}/renew", body)


def test_absolute_end_moves_to_the_end_of_the_last_window(api: Api, stored: Any) -> None:
    session_id = api.create(None)
    before = stored(session_id)
    api.clock.now += 600

    answer = end_with(api, session_id)

    assert api.requests == ["UpdateItem"]
    assert (answer.status, answer.headers["etag"]) == (200, '"v1"')
    assert answer.json["expires_at"] == answer.json["absolute_expires_at"] == NOW + 660
    assert answer.json["ttl_seconds"] == 60
    assert stored(session_id) == before | {
        "ExpirationTime": {"N": str(NOW + 660)},
        "AbsoluteExpirationTime": {"N": str(NOW + 660)},
        "RenewableUntil": {"N": str(NOW + 600)},
        "TtlSeconds": {"N": "60"},
        "RenewedAt": {"N": str(NOW + 600)},
        "RequestId": stored(session_id)["RequestId"],
    }


@pytest.mark.parametrize("after", [1, 59])
def test_nothing_extends_the_last_window(api: Api, after: int) -> None:
    token = api.log_in(None)
    path = f"/sessions/{id_of(token)}"
    end_with(api, id_of(token))
    api.clock.now += after

    for answer in (
        api("POST", f"{path}/renew"),
        api("POST", f"{path}/renew", {"ttl_seconds": 3600}),
        end_with(api, id_of(token), 3600),
        verify(api, token),
        api("PATCH", path, {"data": {"a": 1}}),
        api("POST", f"{path}/rotate", {"token": token}),
    ):
        assert (answer.status, answer.json["expires_at"]) == (200, NOW + 60)
        assert answer.json["absolute_expires_at"] == NOW + 60
    api.clock.now = NOW + 60
    assert verify(api, token).status == 401
    assert api("POST", f"{path}/renew").status == 404


def test_verify_does_not_try_to_renew_the_last_window(api: Api) -> None:
    """A renewal would change nothing, so no write is made."""
    token = api.log_in(None)
    end_with(api, id_of(token))
    api.clock.now += 50

    assert verify(api, token).status == 200
    assert api.requests == ["GetItem"]


def test_last_window_can_be_made_shorter(api: Api) -> None:
    session_id = api.create(None)
    end_with(api, session_id, 600)
    api.clock.now += 5

    answer = end_with(api, session_id, 60)

    assert answer.json["expires_at"] == answer.json["absolute_expires_at"] == NOW + 65


def test_repeated_call_does_not_extend_the_last_window(api: Api, stored: Any) -> None:
    """If several requests of a visitor log in at the same time, the first one decides."""
    session_id = api.create(None)
    end_with(api, session_id)
    api.clock.now += 30

    answer = end_with(api, session_id)

    assert (answer.status, answer.json["expires_at"]) == (200, NOW + 60)
    assert api.requests == ["UpdateItem", "UpdateItem"]
    assert stored(session_id)["AbsoluteExpirationTime"] == {"N": str(NOW + 60)}


@pytest.mark.parametrize(("window", "requests"), [(399, 1), (400, 1), (401, 2), (34_560_000, 2)])
def test_last_window_never_passes_the_absolute_end(
    api: Api, stored: Any, window: int, requests: int
) -> None:
    """The window is stored as the caller sets it. The absolute end limits it."""
    session_id = api.create(None, ttl_seconds=800, absolute_ttl_seconds=1000)
    api.clock.now += 600

    answer = end_with(api, session_id, window)

    end = NOW + min(600 + window, 1000)
    assert api.requests == ["UpdateItem"] * requests
    assert (answer.json["expires_at"], answer.json["absolute_expires_at"]) == (end, end)
    assert answer.json["ttl_seconds"] == window
    assert stored(session_id)["RenewableUntil"] == {"N": str(end - window)}


@pytest.mark.parametrize("ahead", [5, 30])
def test_last_window_is_set_though_a_later_clock_renewed(
    api: Api, other: SessionStore, stored: Any, ahead: int
) -> None:
    """It begins at the later renewal, like any change of the window."""
    session_id = api.create(None)
    api.clock.now += ahead
    other.renew(session_id, by=BY_OTHER)
    api.clock.now -= ahead

    answer = end_with(api, session_id)

    assert answer.json["expires_at"] == answer.json["absolute_expires_at"] == NOW + ahead + 60
    assert api.requests == ["UpdateItem", "UpdateItem"]


def test_last_window_while_another_call_shortens_the_session(api: Api, other: SessionStore) -> None:
    """At the first request, the absolute end is near. At the second request, it is nearer."""
    session_id = api.create(None, ttl_seconds=600, absolute_ttl_seconds=600)
    api.clock.now += 570

    def shorten() -> None:
        if len(seam.calls) == 2:
            other.renew(session_id, ttl_seconds=10, final=True, by=BY_OTHER)

    seam.before = shorten

    answer = end_with(api, session_id)

    assert answer.json["expires_at"] == answer.json["absolute_expires_at"] == NOW + 580


def test_session_of_a_user_gets_no_last_window(api: Api, stored: Any) -> None:
    """A user's session is revoked instead, because a log-out is final at once."""
    session_id = api.create("ada")
    before = stored(session_id)

    for window in (60, 86_400, 34_560_000):
        answer = end_with(api, session_id, window)
        assert (answer.status, answer.json["code"]) == (409, "not_anonymous")
        assert api.requests == ["UpdateItem"]
    assert stored(session_id) == before


def test_last_window_needs_a_length(api: Api) -> None:
    answer = api("POST", f"/sessions/{api.create(None)}/renew", {"final": True})

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/final"
    assert api.requests == []


@pytest.mark.parametrize("ttl_seconds", [0, -1, 34_560_001])
def test_length_of_the_last_window_has_bounds(api: Api, ttl_seconds: int) -> None:
    answer = end_with(api, api.create(None), ttl_seconds)

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/ttl_seconds"


def test_dead_session_gets_no_last_window(api: Api, stored: Any) -> None:
    session_id = api.create(None, ttl_seconds=10)
    before = stored(session_id)
    api.clock.now += 10

    assert end_with(api, session_id).status == 404
    assert stored(session_id) == before


def test_renewal_that_is_not_final_leaves_the_absolute_end(api: Api, stored: Any) -> None:
    session_id = api.create(None)

    for body in ({"ttl_seconds": 60}, {"ttl_seconds": 60, "final": False}):
        answer = api("POST", f"/sessions/{session_id}/renew", body)
        assert (answer.status, answer.json["absolute_expires_at"]) == (200, NOW + 86_400)


def test_end_of_the_last_window_has_the_cause_absolute(api: Api, stored: Any) -> None:
    """The session could not have been renewed."""
    session_id = api.create(None)
    end_with(api, session_id)
    removed = {
        "eventName": "REMOVE",
        "dynamodb": {
            "ApproximateCreationDateTime": NOW + 100,
            "SequenceNumber": "1",
            "Keys": {"SessionId": {"S": session_id}},
            "OldImage": stored(session_id),
        },
    }

    event = classify(removed, not_before=0)

    assert (event.type, event.cause, event.at) == ("expired", "absolute", NOW + 60)
