"""`last_client`: the client of the last `verify` that renewed the session."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import NOW, Answer, Api
from tests.support.backend import ON_DYNAMODB_LOCAL

FIRST = {"ip": "203.0.113.7", "user_agent": "Firefox/150.0"}
SECOND = {"ip": "2001:db8::1", "user_agent": "curl/8.0"}


def verify(api: Api, token: str, **options: Any) -> Answer:
    return api("POST", "/sessions/verify", {"token": token, **options})


@pytest.fixture
def token(api: Api) -> str:
    """The token of a session that is due for a renewal and has a last client."""
    token = api.log_in(client=FIRST)
    api.clock.now += 180
    assert verify(api, token, client=FIRST).json["last_client"] == FIRST
    api.clock.now += 180
    return token


def test_last_client_is_that_of_the_last_renewal(api: Api, token: str, stored: Any) -> None:
    """`client` stays as it was at the creation. Lists contain both."""
    answer = verify(api, token, client=SECOND)

    assert api.requests == ["GetItem", "UpdateItem"]
    assert (answer.json["client"], answer.json["last_client"]) == (FIRST, SECOND)
    assert answer.json["expires_at"] == NOW + 360 + 1800
    session_id = answer.json["session_id"]
    assert stored(session_id)["LastClient"] == {
        "M": {"ip": {"S": "2001:db8::1"}, "user_agent": {"S": "curl/8.0"}}
    }
    assert api("GET", f"/sessions/{session_id}").json == answer.json
    [listed] = api("GET", "/sessions", query={"user_id": "ada"}).json["items"]
    assert (listed["client"], listed["last_client"]) == (FIRST, SECOND)


def test_client_causes_no_write(api: Api, token: str, stored: Any) -> None:
    """A client that is not stored is not in the answer either."""
    session_id = token.partition(".")[0]
    api("POST", f"/sessions/{session_id}/renew")
    api.clock.now += 179
    before = stored(session_id)

    for options in ({}, {"renew": False}):
        assert verify(api, token, client=SECOND, **options).json["last_client"] == FIRST
        assert api.requests == ["GetItem"]
        api.clock.now += 600
    assert stored(session_id) == before


@pytest.mark.parametrize("options", [{}, {"client": {}}])
def test_renewal_without_a_client_leaves_the_last_one(
    api: Api, token: str, stored: Any, options: Any
) -> None:
    answer = verify(api, token, **options)

    assert api.requests == ["GetItem", "UpdateItem"]
    assert answer.json["last_client"] == FIRST
    path = f"/sessions/{answer.json['session_id']}"
    assert api("POST", f"{path}/renew").json["last_client"] == FIRST


def test_part_of_a_client_replaces_the_whole_client(api: Api, token: str) -> None:
    """An address and a browser that were never used together would be misleading."""
    assert verify(api, token, client={"ip": "::1"}).json["last_client"] == {"ip": "::1"}


def test_long_user_agent_is_cut(api: Api, token: str) -> None:
    """The user agent of the creation is not cut."""
    longest = {"ip": "0000:0000:0000:0000:0000:ffff:255.255.255.255", "user_agent": "😀" * 512}

    answer = verify(api, token, client=longest)

    assert answer.json["last_client"] == longest | {"user_agent": "😀" * 128}
    session_id = api.create(client=longest)
    assert api("GET", f"/sessions/{session_id}").json["client"] == longest


def test_renewal_to_the_absolute_end_stores_it_too(api: Api) -> None:
    token = api.log_in(ttl_seconds=600, absolute_ttl_seconds=900)
    api.clock.now += 599

    answer = verify(api, token, client=SECOND)

    assert (answer.json["expires_at"], answer.json["last_client"]) == (NOW + 900, SECOND)
    assert api.requests == ["GetItem", "UpdateItem"]


def test_revoked_session_keeps_no_client(api: Api, token: str, stored: Any) -> None:
    session_id = token.partition(".")[0]

    api("DELETE", f"/sessions/{session_id}")

    assert not {"Client", "LastClient"} & stored(session_id).keys()


def test_bad_token_leaves_the_last_client(api: Api, token: str, stored: Any) -> None:
    session_id = token.partition(".")[0]
    before = stored(session_id)

    assert verify(api, f"{session_id}.{'x' * 27}", client=SECOND).status == 401
    assert stored(session_id) == before


@pytest.mark.parametrize(
    ("client", "pointer"),
    [
        ({"ip": "1.2.3.256"}, "/client/ip"),
        ({"ip": "fe80::1%0"}, "/client/ip"),
        ({"user_agent": "x" * 513}, "/client/user_agent"),
        ({"os": "x"}, "/client/os"),
        (None, "/client"),
    ],
)
def test_wrong_clients_are_named(api: Api, token: str, client: Any, pointer: str) -> None:
    answer = verify(api, token, client=client)

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == pointer
    assert api.requests == []


# moto stores a part of an item before it rejects the item as too large.
@ON_DYNAMODB_LOCAL
def test_full_item_is_renewed_without_its_last_client(api: Api, stored: Any) -> None:
    """A session must not end because its item has no space for the client."""
    token = api.log_in()
    session_id, size = token.partition(".")[0], 65_000
    while size:
        key = f"k{len(stored(session_id)['Data']['M'])}"
        change = {"data": {key: "x" * size}}
        # This id is longer than the renewal's id, which must fit in its place.
        answer = api("PATCH", f"/sessions/{session_id}", change, request_id=f"{key:>40}")
        if answer.status == 413:
            size //= 2
    api.clock.now += 600

    answer = verify(api, token, client=SECOND)

    assert (answer.status, answer.json["last_client"]) == (200, {})
    assert answer.json["expires_at"] == NOW + 600 + 1800
    assert api.requests == ["GetItem", "UpdateItem", "UpdateItem"]
