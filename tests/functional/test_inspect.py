"""`inspect` checks a stored token without consequences."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.tokens import ABSENT, SECRET, family_of, id_of, successor, verify


def test_inspected_session_is_neither_renewed_nor_marked(api: Api, stored: Any) -> None:
    token = successor(api, api.log_in(data={"a": 1}))
    before = stored(id_of(token))
    api.clock.now += 900

    answer = verify(api, token, inspect=True, client={"ip": "203.0.113.7"})

    assert answer.status == 200
    assert answer.json == api("GET", f"/sessions/{id_of(token)}").json
    verify(api, token, inspect=True)
    assert api.requests == ["GetItem"]
    assert stored(id_of(token)) == before


@pytest.mark.parametrize("seconds", [0, 29, 31, 1700])
def test_older_token_is_refused_and_ends_nothing(api: Api, stored: Any, seconds: int) -> None:
    """This is true for the former token, the retired one, and a token that is only known by its
    family.
    """
    tokens = [api.log_in()]
    for _ in range(3):
        tokens.append(successor(api, tokens[-1]))
    before = stored(id_of(tokens[0]))
    api.clock.now += seconds

    made_up = f"{id_of(tokens[0])}.{family_of(tokens[0])}{'x' * 15}"
    for token in (*tokens[:-1], made_up):
        assert verify(api, token, inspect=True).status == 401
        assert api.requests == ["GetItem"]
    assert verify(api, tokens[-1], inspect=True).status == 200
    assert stored(id_of(tokens[0])) == before


def test_dead_and_unknown_sessions_are_refused_alike(api: Api) -> None:
    revoked, expired = api.log_in(), api.log_in(ttl_seconds=10)
    api("DELETE", f"/sessions/{id_of(revoked)}")
    api.clock.now += 10
    for token in (revoked, expired, f"{ABSENT}.{SECRET}", "malformed"):
        answer = verify(api, token, inspect=True)
        assert (answer.status, answer.json["code"]) == (401, "invalid_token")


def test_inspect_is_true_or_false(api: Api) -> None:
    answer = verify(api, api.log_in(), inspect="yes")
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/inspect")
