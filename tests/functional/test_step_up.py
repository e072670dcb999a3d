"""Step-ups: when and how the user has proved who they are, and which token shows it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from sessions.rotation import Rotation
from sessions.store import SessionStore
from sessions.token import Token
from tests.support.api import BY_OTHER, NOW, Answer, Api
from tests.support.functions import lambda_context, sample
from tests.support.seam import seam
from tests.support.tokens import id_of, own_secret, rotate, successor, token_of, verify

DAY = 86_400


def authenticate(api: Api, session_id: str, *methods: str, **options: object) -> Answer:
    body = {"methods": list(methods), **options}
    return api("POST", f"/sessions/{session_id}/authenticate", body)


def step_up(api: Api, token: str, *methods: str, **options: object) -> str:
    """Step up for the holder of `token` and return the new token."""
    return token_of(authenticate(api, id_of(token), *methods, token=token, **options))


def shown(api: Api, token: str) -> tuple[int | None, list[str]]:
    """Return what `verify` shows to a token."""
    answer = verify(api, token, renew=False)
    assert answer.status == 200, answer
    return proof(answer)


def proof(answer: Answer) -> tuple[int | None, list[str]]:
    return answer.json["authenticated_at"], answer.json["methods"]


def context(authorizer: ModuleType, token: str) -> dict[str, Any]:
    event = sample("authorizer_http_api") | {"identitySource": [f"Bearer {token}"]}
    answer: dict[str, Any] = authorizer.lambda_handler(event, lambda_context())["context"]
    return answer


# At the creation.


def test_log_in_is_when_the_user_proved_who_they_are(api: Api, stored: Any) -> None:
    answer = api("POST", "/sessions", {"user_id": "ada", "methods": ["pwd", "otp"]})

    assert proof(answer) == (NOW, ["pwd", "otp"])
    item = stored(answer.json["session_id"])
    assert item["AuthenticatedAt"] == {"N": str(NOW)}
    assert item["Methods"] == {"L": [{"S": "pwd"}, {"S": "otp"}]}


def test_log_in_through_another_service_can_be_earlier(api: Api) -> None:
    answer = api("POST", "/sessions", {"user_id": "ada", "authenticated_at": NOW - DAY})

    assert proof(answer) == (NOW - DAY, [])
    assert proof(api("GET", f"/sessions/{answer.json['session_id']}")) == (NOW - DAY, [])


@pytest.mark.parametrize(
    ("ahead", "status"), [(-400 * DAY - 1, 422), (-400 * DAY, 201), (60, 201), (61, 422)]
)
def test_bounds_of_the_time_at_creation(api: Api, ahead: int, status: int) -> None:
    """A caller's clock may be ahead by a minute, but no session shows a time in the future."""
    answer = api("POST", "/sessions", {"user_id": "ada", "authenticated_at": NOW + ahead})

    assert answer.status == status
    if status == 201:
        assert answer.json["authenticated_at"] == min(NOW, NOW + ahead)
    else:
        assert answer.json["errors"][0]["pointer"] == "/authenticated_at"


@pytest.mark.parametrize("fields", [{"methods": ["pwd"]}, {"methods": []}, {"authenticated_at": 1}])
def test_a_visitor_has_proved_nothing(api: Api, fields: dict[str, Any]) -> None:
    answer = api("POST", "/sessions", {})
    assert proof(answer) == (None, [])

    for body in (fields, fields | {"user_id": None}):
        refusal = api("POST", "/sessions", body)
        assert refusal.status == 422
        assert refusal.json["errors"][0]["pointer"] == f"/{next(iter(fields))}"


@pytest.mark.parametrize(
    ("methods", "is_valid"),
    [
        ([], True),
        (["a" * 32], True),
        ([f"m{i}" for i in range(8)], True),
        ([f"m{i}" for i in range(9)], False),
        (["pwd", "pwd"], False),
        (["a" * 33], False),
        ([""], False),
        (["p w"], False),
        (["PWD"], False),
        ([1], False),
        ("pwd", False),
        (None, False),
    ],
)
def test_bounds_of_methods(api: Api, methods: Any, is_valid: bool) -> None:
    created = api("POST", "/sessions", {"user_id": "ada", "methods": methods})
    assert created.status == (201 if is_valid else 422)

    token = api.log_in()
    body = {"token": token, "methods": methods}
    answer = api("POST", f"/sessions/{id_of(token)}/authenticate", body)
    assert answer.status == (200 if is_valid else 422)
    if is_valid:
        assert answer.json["methods"] == methods


def test_methods_of_a_step_up_are_required(api: Api) -> None:
    token = api.log_in()

    for body in ({"token": token}, {}):
        answer = api("POST", f"/sessions/{id_of(token)}/authenticate", body)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/methods")
    assert api("POST", f"/sessions/{id_of(token)}/authenticate").status == 400


# A step-up.


def test_step_up_gives_a_new_token_that_shows_it(api: Api) -> None:
    old = api.log_in(methods=["pwd"])
    api.clock.now += 600

    answer = authenticate(api, id_of(old), "otp", token=old)

    assert api.requests == ["UpdateItem"]
    assert proof(answer) == (NOW + 600, ["otp"])
    assert answer.json["created_at"] == NOW
    assert shown(api, token_of(answer)) == (NOW + 600, ["otp"])
    assert proof(api("GET", f"/sessions/{id_of(old)}")) == (NOW + 600, ["otp"])
    [item] = api("GET", "/sessions", query={"user_id": "ada"}).json["items"]
    assert (item["authenticated_at"], item["methods"]) == (NOW + 600, ["otp"])


def test_former_token_shows_what_it_showed(api: Api, authorizer: ModuleType) -> None:
    """Otherwise a stolen token would be stepped up along with the user's."""
    stolen = api.log_in(methods=["pwd"])
    api.clock.now += 600
    newest = step_up(api, stolen, "pwd", "otp")

    for _ in ("while the newest is unseen", "during the grace period"):
        assert shown(api, stolen) == (NOW, ["pwd"])
        seen_by_api = context(authorizer, stolen)
        assert (seen_by_api["authenticated_at"], seen_by_api["methods"]) == (NOW, "pwd")
        assert shown(api, newest) == (NOW + 600, ["pwd", "otp"])
        seen_by_api = context(authorizer, newest)
        assert (seen_by_api["authenticated_at"], seen_by_api["methods"]) == (NOW + 600, "pwd otp")


def test_renewal_by_a_former_token_shows_what_it_showed(api: Api) -> None:
    stolen = api.log_in(methods=["pwd"])
    step_up(api, stolen, "otp")
    api.clock.now += 600

    answer = verify(api, stolen)

    assert api.requests == ["GetItem", "UpdateItem"]
    assert proof(answer) == (NOW, ["pwd"])


def test_token_that_becomes_the_former_one_during_verify_shows_what_it_showed(
    api: Api, other: SessionStore
) -> None:
    token = api.log_in(methods=["pwd"])
    api.clock.now += 600
    presented = Token.parse(token)
    assert presented
    rotation = Rotation(
        presented.successor().hashes,
        presented,
        grace_seconds=30,
        retired_seconds=30,
        methods=["otp"],
    )

    def meddle() -> None:
        if seam.calls[-1][0] == "UpdateItem":
            other.rotate(id_of(token), rotation, by=BY_OTHER)

    seam.before = meddle
    answer = verify(api, token)

    assert proof(answer) == (NOW, ["pwd"])


def test_second_step_up_shifts(api: Api) -> None:
    first = api.log_in(methods=["pwd"])
    api.clock.now += 100
    second = step_up(api, first, "otp")
    api.clock.now += 100
    third = step_up(api, second, "hwk")

    assert shown(api, third) == (NOW + 200, ["hwk"])
    assert shown(api, second) == (NOW + 100, ["otp"])


def test_rotation_keeps_what_the_newest_token_shows(api: Api, stored: Any) -> None:
    first = api.log_in(methods=["pwd"])
    api.clock.now += 100
    second = step_up(api, first, "otp")
    third = successor(api, second)

    assert shown(api, third) == shown(api, second) == (NOW + 100, ["otp"])
    assert not {name for name in stored(id_of(first)) if name.startswith("PreviousAuth")}


def test_rotation_by_the_former_token_puts_back_what_it_shows(api: Api, stored: Any) -> None:
    """The answer to the step-up was lost. Whoever got it instead has a useless token."""
    former = api.log_in(methods=["pwd"])
    api.clock.now += 100
    step_up(api, former, "otp")
    api.clock.now += 30

    newest = successor(api, former)

    assert api.requests == ["UpdateItem", "UpdateItem"]
    assert shown(api, newest) == shown(api, former) == (NOW, ["pwd"])
    item = stored(id_of(former))
    assert item["AuthenticatedAt"] == {"N": str(NOW)}
    assert not {"PreviousAuthenticatedAt", "PreviousMethods"} & item.keys()


def test_step_up_by_the_former_token_keeps_what_it_shows(api: Api) -> None:
    former = api.log_in(methods=["pwd"])
    api.clock.now += 100
    step_up(api, former, "otp")
    api.clock.now += 30

    newest = step_up(api, former, "hwk")

    assert shown(api, newest) == (NOW + 130, ["hwk"])
    assert shown(api, former) == (NOW, ["pwd"])


def test_step_up_by_the_former_token_after_a_plain_rotation(api: Api) -> None:
    former = api.log_in(methods=["pwd"])
    successor(api, former)
    api.clock.now += 30

    newest = step_up(api, former, "hwk")

    assert shown(api, newest) == (NOW + 30, ["hwk"])
    assert shown(api, former) == (NOW, ["pwd"])


def test_step_up_goes_through_within_a_grace(api: Api) -> None:
    """The user has just spent a one-time code."""
    first = api.log_in()
    second = successor(api, first)
    third = step_up(api, second, "otp")

    assert shown(api, third) == (NOW, ["otp"])


def test_step_up_by_a_good_former_token_is_refused_like_a_rotation(api: Api) -> None:
    first = api.log_in()
    successor(api, first)

    answer = authenticate(api, id_of(first), "otp", token=first)

    assert (answer.status, answer.json["code"]) == (409, "rotation_in_grace")


def test_step_up_without_a_token(api: Api) -> None:
    first = api.log_in()
    api.clock.now += 5

    second = token_of(authenticate(api, id_of(first), "otp"))

    assert shown(api, second) == (NOW + 5, ["otp"])
    again = authenticate(api, id_of(first), "otp")
    assert (again.status, again.json["code"]) == (409, "rotation_in_grace")


def test_step_up_without_a_grace(api: Api) -> None:
    first = api.log_in()
    second = step_up(api, first, "otp", grace_seconds=0)

    assert verify(api, first).status == 401
    assert shown(api, second) == (NOW, ["otp"])


@pytest.mark.parametrize("token", ["wrong", "A" * 12 + "." + "B" * 27])
def test_token_that_proves_nothing_steps_nothing_up(api: Api, token: str) -> None:
    first = api.log_in()
    api.clock.now += 5

    answer = authenticate(api, id_of(first), "otp", token=token)

    assert (answer.status, answer.json["code"]) == (401, "invalid_token")
    assert shown(api, first) == (NOW, [])


def test_step_up_of_an_ended_session(api: Api) -> None:
    token = api.log_in()
    api("DELETE", f"/sessions/{id_of(token)}")

    answer = authenticate(api, id_of(token), "otp", token=token)

    assert (answer.status, answer.json["code"]) == (404, "session_not_found")


def test_visitor_is_not_stepped_up(api: Api, stored: Any) -> None:
    token = api.log_in(None)
    before = stored(id_of(token))

    for options in ({"token": token}, {}):
        answer = authenticate(api, id_of(token), "otp", **options)
        assert (answer.status, answer.json["code"]) == (409, "anonymous")
        assert api.requests == ["UpdateItem"]
    assert stored(id_of(token)) == before
    wrong = authenticate(api, id_of(token), "otp", token=f"{id_of(token)}.{'B' * 27}")
    assert (wrong.status, wrong.json["code"]) == (401, "invalid_token")


def test_revocation_removes_all_proofs(api: Api, stored: Any) -> None:
    token = step_up(api, api.log_in(methods=["pwd"]), "otp")

    api("DELETE", f"/sessions/{id_of(token)}")

    assert not {n for n in stored(id_of(token)) if "Authenticated" in n or "Methods" in n}


@pytest.mark.parametrize("call", ["GET", "PATCH", "PUT", "renew", "verify"])
def test_nothing_else_raises_the_time(api: Api, call: str) -> None:
    token = api.log_in(methods=["pwd"])
    path = f"/sessions/{id_of(token)}"
    api.clock.now += 900
    if call == "verify":
        answer = verify(api, token)
    elif call == "renew":
        answer = api("POST", f"{path}/renew")
    else:
        answer = api(call, path, None if call == "GET" else {"data": {"a": 1}})

    assert proof(answer) == (NOW, ["pwd"])


# Sessions from before these attributes existed.


@pytest.fixture
def old_token(api: Api, tables: Any) -> str:
    token = api.log_in()
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": id_of(token)}},
        UpdateExpression="REMOVE AuthenticatedAt, Methods",
    )
    return token


def test_older_session_shows_its_creation(api: Api, old_token: str, authorizer: ModuleType) -> None:
    api.clock.now += 60

    assert shown(api, old_token) == (NOW, [])
    assert context(authorizer, old_token)["authenticated_at"] == NOW
    assert shown(api, successor(api, old_token)) == (NOW, [])


def test_step_up_of_an_older_session(api: Api, old_token: str) -> None:
    api.clock.now += 60
    newest = step_up(api, old_token, "otp")

    assert shown(api, newest) == (NOW + 60, ["otp"])
    assert shown(api, old_token) == (NOW, [])


def test_step_up_by_the_former_token_of_an_older_session(api: Api, old_token: str) -> None:
    successor(api, old_token)
    api.clock.now += 30

    assert shown(api, step_up(api, old_token, "otp")) == (NOW + 30, ["otp"])
    assert shown(api, old_token) == (NOW, [])


# Repeated calls.


def test_repeated_step_up_has_no_further_effect(api: Api, stored: Any) -> None:
    token = api.log_in(methods=["pwd"])
    secret = own_secret(id_of(token), family=token.partition(".")[2][:12])
    options = {"token": token, "token_sha256": secret.token_sha256}
    first = authenticate(api, id_of(token), "otp", **options)
    after = stored(id_of(token))
    api.clock.now += 20

    again = authenticate(api, id_of(token), "otp", **options)

    assert (again.status, again.json) == (200, first.json)
    assert stored(id_of(token)) == after


def test_repeated_step_up_whose_token_is_the_former_one_by_now(api: Api) -> None:
    token = api.log_in(methods=["pwd"])
    secret = own_secret(id_of(token), family=token.partition(".")[2][:12])
    options = {"token": token, "token_sha256": secret.token_sha256}
    authenticate(api, id_of(token), "otp", **options)
    api.clock.now += 20
    step_up(api, secret.token, "hwk")

    again = authenticate(api, id_of(token), "otp", **options)

    assert again.status == 200
    assert proof(again) == (NOW, ["otp"])


@pytest.mark.parametrize("methods", [["otp"], ["pwd"], []])
def test_hash_of_a_rotation_is_no_step_up(api: Api, methods: list[str], stored: Any) -> None:
    token = api.log_in(methods=["pwd"])
    secret = own_secret(id_of(token), family=token.partition(".")[2][:12])
    options = {"token": token, "token_sha256": secret.token_sha256}
    assert rotate(api, id_of(token), **options).status == 200
    before = stored(id_of(token))
    api.clock.now += 20

    answer = authenticate(api, id_of(token), *methods, **options)

    assert (answer.status, answer.json["code"]) == (409, "token_superseded")
    assert stored(id_of(token)) == before


def test_hash_of_a_step_up_is_no_rotation_and_no_other_step_up(api: Api) -> None:
    token = api.log_in(methods=["pwd"])
    secret = own_secret(id_of(token), family=token.partition(".")[2][:12])
    options = {"token": token, "token_sha256": secret.token_sha256}
    assert authenticate(api, id_of(token), "otp", **options).status == 200

    for answer in (
        rotate(api, id_of(token), **options),
        authenticate(api, id_of(token), "hwk", **options),
    ):
        assert (answer.status, answer.json["code"]) == (409, "token_superseded")
