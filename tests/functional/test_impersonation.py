"""Sessions in which somebody else acts as the user."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.api import NOW, Answer, Api
from tests.support.functions import lambda_context, sample
from tests.support.tokens import id_of, own_secret, successor, verify

AGENT = {"id": "grace", "reason": "ticket-42"}
MOST = 3600


def impersonate(api: Api, **fields: Any) -> Answer:
    return api("POST", "/sessions", {"user_id": "ada", "impersonator": AGENT, **fields})


def test_every_answer_names_the_impersonator(api: Api, stored: Any) -> None:
    created = impersonate(api)
    session_id, token = created.json["session_id"], created.json["token"]
    path = f"/sessions/{session_id}"

    assert created.status == 201
    for answer in (
        created,
        api("GET", path),
        verify(api, token),
        api("PATCH", path, {"data": {"a": 1}}),
        api("POST", f"{path}/renew"),
        api("POST", f"{path}/rotate", {"token": token}),
    ):
        assert answer.json["impersonator"] == AGENT
        assert answer.json["user_id"] == "ada"
        assert (answer.json["authenticated_at"], answer.json["methods"]) == (None, [])
    [item] = api("GET", "/sessions", query={"user_id": "ada"}).json["items"]
    assert item["impersonator"] == AGENT
    assert item["authenticated_at"] is None
    assert stored(session_id)["Impersonator"] == {
        "M": {"id": {"S": "grace"}, "reason": {"S": "ticket-42"}}
    }
    assert not {"AuthenticatedAt", "Methods"} & stored(session_id).keys()


def test_user_who_acts_for_themselves_has_no_impersonator(api: Api) -> None:
    assert api("GET", f"/sessions/{api.create()}").json["impersonator"] is None
    assert api("GET", f"/sessions/{api.create(None)}").json["impersonator"] is None


def test_authorizer_names_the_impersonator(api: Api, authorizer: ModuleType) -> None:
    def context(token: str, sample_name: str = "authorizer_http_api") -> dict[str, Any]:
        event = sample(sample_name) | {"identitySource": [f"Bearer {token}"]}
        answer = authorizer.lambda_handler(event, lambda_context())
        facts: dict[str, Any] = answer["context"]
        return facts

    token = impersonate(api).json["token"]

    assert context(token) == {
        "session_id": id_of(token),
        "user_id": "ada",
        "expires_at": NOW + 1800,
        "impersonator": "grace",
    }
    assert context(api.log_in(methods=["pwd", "otp"])).keys() == {
        *("session_id", "user_id", "expires_at", "authenticated_at", "methods")
    }
    assert all(type(value) in (str, int) for value in context(token).values())


@pytest.mark.parametrize(
    ("requested", "lifetime"),
    [(None, MOST), (1, 1), (MOST, MOST), (MOST + 1, None), (86_400, None), (0, None)],
)
def test_impersonated_session_is_short(
    api: Api, requested: int | None, lifetime: int | None
) -> None:
    answer = impersonate(api, **({} if requested is None else {"absolute_ttl_seconds": requested}))

    if lifetime is None:
        assert answer.status == 422
        assert answer.json["errors"][0]["pointer"] == "/absolute_ttl_seconds"
    else:
        assert answer.json["absolute_expires_at"] == NOW + lifetime
        assert answer.json["expires_at"] == NOW + min(1800, lifetime)


def test_window_of_an_impersonated_session_is_short_too(api: Api) -> None:
    answer = impersonate(api, ttl_seconds=MOST + 1)

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/ttl_seconds")


def test_limit_never_exceeds_those_of_other_sessions(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment whose sessions end after a quarter of an hour does not need to set a limit."""
    monkeypatch.setattr(
        api.handler,
        "limits",
        replace(
            api.handler.limits, default_absolute_ttl_seconds=900, max_absolute_ttl_seconds=1200
        ),
    )
    assert impersonate(api).json["absolute_expires_at"] == NOW + 900


@pytest.mark.parametrize("by", ["renew", "longer window", "verify"])
def test_impersonated_session_is_never_renewed_past_its_end(api: Api, by: str) -> None:
    created = impersonate(api)
    session_id, token = created.json["session_id"], created.json["token"]
    for _ in range(5):
        api.clock.now += 700
        body = {"ttl_seconds": 86_400} if by == "longer window" else None
        answer = (
            verify(api, token)
            if by == "verify"
            else api("POST", f"/sessions/{session_id}/renew", body)
        )
        assert answer.status == 200
        assert answer.json["expires_at"] <= NOW + MOST
    api.clock.now = NOW + MOST
    assert verify(api, token).status == 401


@pytest.mark.parametrize("with_token", [True, False])
def test_impersonated_session_is_never_stepped_up(api: Api, stored: Any, with_token: bool) -> None:
    token = impersonate(api).json["token"]
    before = stored(id_of(token))
    body = {"methods": ["otp"]} | ({"token": token} if with_token else {})

    answer = api("POST", f"/sessions/{id_of(token)}/authenticate", body)

    assert (answer.status, answer.json["code"]) == (409, "impersonated")
    assert api.requests == ["UpdateItem"]
    assert stored(id_of(token)) == before


def test_lost_rotation_of_an_impersonated_session_is_no_step_up(api: Api, stored: Any) -> None:
    token = impersonate(api).json["token"]
    successor(api, token)
    api.clock.now += 30
    before = stored(id_of(token))

    answer = api(
        "POST", f"/sessions/{id_of(token)}/authenticate", {"methods": ["otp"], "token": token}
    )

    assert (answer.status, answer.json["code"]) == (409, "impersonated")
    assert stored(id_of(token)) == before


def test_impersonator_stays_after_the_revocation(api: Api, stored: Any) -> None:
    """So that the trail names them to the end."""
    session_id = impersonate(api).json["session_id"]
    api("DELETE", f"/sessions/{session_id}")

    assert stored(session_id)["Impersonator"]["M"]["id"] == {"S": "grace"}


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"user_id": None}, "/impersonator"),
        ({"impersonator": {"id": "grace"}}, "/impersonator"),
        ({"impersonator": {"reason": "support"}}, "/impersonator"),
        ({"impersonator": {}}, "/impersonator"),
        ({"impersonator": None}, "/impersonator"),
        ({"impersonator": {**AGENT, "more": 1}}, "/impersonator/more"),
        ({"impersonator": AGENT | {"id": ""}}, "/impersonator/id"),
        ({"impersonator": AGENT | {"id": "x" * 257}}, "/impersonator/id"),
        ({"impersonator": AGENT | {"id": "a\n"}}, "/impersonator/id"),
        ({"impersonator": AGENT | {"reason": ""}}, "/impersonator/reason"),
        ({"impersonator": AGENT | {"reason": "Ticket 42"}}, "/impersonator/reason"),
        ({"impersonator": AGENT | {"reason": "x" * 65}}, "/impersonator/reason"),
        ({"impersonator": AGENT | {"reason": "token_reuse"}}, "/impersonator/reason"),
        ({"methods": ["pwd"]}, "/methods"),
        ({"methods": []}, "/methods"),
        ({"authenticated_at": NOW}, "/authenticated_at"),
    ],
)
def test_wrong_fields_are_refused(api: Api, fields: dict[str, Any], pointer: str) -> None:
    answer = impersonate(api, **fields)

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"].startswith(pointer)
    assert not api.requests


def test_repeated_creation_is_not_answered_for_another_impersonator(api: Api) -> None:
    secret = own_secret("BBBBBBBBBBBB")
    fields = {"session_id": "BBBBBBBBBBBB", **secret.both}
    assert impersonate(api, **fields).status == 201

    assert impersonate(api, **fields).status == 201
    for body in ({}, {"impersonator": AGENT | {"id": "eve"}}):
        answer = api("POST", "/sessions", {"user_id": "ada", **fields, **body})
        assert (answer.status, answer.json["code"]) == (409, "session_exists")


def test_impersonation_ends_no_session_of_the_user(api: Api) -> None:
    """A support agent who helps a user does not sign them out."""
    phone = api.create()
    api.clock.now += 1

    acting = impersonate(api, max_sessions=1).json["session_id"]

    assert api.requests == ["PutItem"]
    assert api("GET", f"/sessions/{phone}").status == 200
    api.clock.now += 1
    laptop = api.create(max_sessions=1)
    live = [session["session_id"] for session in _listed(api)]
    assert live == [laptop, acting]


def _listed(api: Api) -> list[Any]:
    items: list[Any] = api("GET", "/sessions", query={"user_id": "ada"}).json["items"]
    return items
