"""The life cycle of a session, over HTTP and in the table."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from tests.support.api import NOW, THROUGH_BOTH, Api
from tests.support.functions import sample

ABSENT = "AAAAAAAAAAAA"


def test_created_session_is_answered_and_stored(api: Api, stored: Any) -> None:
    """The answer contains the whole session, and the item has every attribute of the data model."""
    answer = api.send(sample("api_create_session"))

    session_id = answer.json["session_id"]
    secret = answer.json["token"].partition(".")[2].encode()
    assert answer.status == 201
    assert answer.headers["location"] == f"sessions/{session_id}"
    assert answer.headers["etag"] == '"v1"'
    assert answer.json == {
        "session_id": session_id,
        "user_id": "ada",
        "created_at": NOW,
        "renewed_at": NOW,
        "expires_at": NOW + 1800,
        "absolute_expires_at": NOW + 86_400,
        "ttl_seconds": 1800,
        "version": 1,
        "data": {"theme": "dark", "cart": [{"sku": "A-1", "price": 19.9}]},
        "client": {"ip": "203.0.113.7", "user_agent": "Firefox/150.0"},
        "last_client": {},
        "authenticated_at": NOW,
        "methods": [],
        "impersonator": None,
        "token": answer.json["token"],
    }
    assert stored(session_id) == {
        "SessionId": {"S": session_id},
        "UserId": {"S": "ada"},
        "ExpirationTime": {"N": str(NOW + 1800)},
        "AbsoluteExpirationTime": {"N": str(NOW + 86_400)},
        "RenewableUntil": {"N": str(NOW + 84_600)},
        "TtlSeconds": {"N": "1800"},
        "CreatedAt": {"N": str(NOW)},
        "RenewedAt": {"N": str(NOW)},
        "Version": {"N": "1"},
        "Data": {
            "M": {
                "theme": {"S": "dark"},
                "cart": {"L": [{"M": {"sku": {"S": "A-1"}, "price": {"N": "19.9"}}}]},
            }
        },
        "Client": {"M": {"ip": {"S": "203.0.113.7"}, "user_agent": {"S": "Firefox/150.0"}}},
        "Actor": {"S": "arn:aws:iam::111122223333:user/backend"},
        "RequestId": {"S": "LbQ3hj9xIAMEVxQ="},
        "TokenHash": {"B": sha256(secret).digest()},
        "FamilyHash": {"B": sha256(secret[:12]).digest()},
        "AuthenticatedAt": {"N": str(NOW)},
        "Methods": {"L": []},
    }


def test_session_without_a_client_stores_none(api: Api, stored: Any) -> None:
    assert "Client" not in stored(api.create())


def test_session_ids_are_72_random_bits(api: Api) -> None:
    """An id has 12 base64url characters, and no two ids are alike."""
    ids = {api.create() for _ in range(20)}

    assert len(ids) == 20
    assert {len(session_id) for session_id in ids} == {12}


def test_read_answers_the_session_and_extends_nothing(api: Api, stored: Any) -> None:
    session_id = api.create(data={"a": 1})
    before = stored(session_id)
    api.clock.now += 60

    answer = api("GET", f"/sessions/{session_id}")

    assert (answer.status, answer.headers["etag"]) == (200, '"v1"')
    assert answer.json["data"] == {"a": 1}
    assert answer.json["expires_at"] == NOW + 1800
    assert stored(session_id) == before


def test_patch_sets_and_removes_top_level_keys(api: Api) -> None:
    """null removes a key at the top level, and is a value below it."""
    session_id = api.create(data={"keep": 1, "drop": 2, "change": 3})

    answer = api(
        "PATCH",
        f"/sessions/{session_id}",
        {"data": {"drop": None, "change": {"deep": None}, "new.key": True, "absent": None}},
    )

    assert (answer.status, answer.headers["etag"]) == (200, '"v2"')
    assert answer.json["data"] == {"keep": 1, "change": {"deep": None}, "new.key": True}
    assert '"new.key":true' in answer.body  # to Python, 1 would be equal
    assert api("GET", f"/sessions/{session_id}").json == answer.json


def test_put_replaces_the_document(api: Api) -> None:
    session_id = api.create(data={"old": 1})

    answer = api("PUT", f"/sessions/{session_id}", {"data": {"new": None}})

    assert (answer.status, answer.headers["etag"]) == (200, '"v2"')
    assert answer.json["data"] == {"new": None}


def test_changes_of_data_do_not_extend_the_session(api: Api) -> None:
    session_id = api.create()
    api.clock.now += 60

    patched = api("PATCH", f"/sessions/{session_id}", {"data": {"a": 1}}).json
    put = api("PUT", f"/sessions/{session_id}", {"data": {}}).json

    assert patched["expires_at"] == put["expires_at"] == NOW + 1800
    assert patched["renewed_at"] == put["renewed_at"] == NOW


def test_same_value_still_raises_the_version(api: Api) -> None:
    session_id = api.create(data={"a": 1})

    assert api("PATCH", f"/sessions/{session_id}", {"data": {"a": 1}}).json["version"] == 2


def test_renewal_pushes_the_expiration_and_leaves_the_version(api: Api) -> None:
    session_id = api.create()
    api.clock.now += 600

    answer = api("POST", f"/sessions/{session_id}/renew")

    assert answer.status == 200
    assert answer.json["expires_at"] == NOW + 600 + 1800
    assert answer.json["renewed_at"] == NOW + 600
    assert answer.json["version"] == 1


@pytest.mark.parametrize(
    ("after", "expires"),
    [(1000, 1600), (1001, 1600), (1500, 1600)],
    ids=["to the second", "just over", "well within the last window"],
)
def test_renewal_never_passes_the_absolute_end(api: Api, after: int, expires: int) -> None:
    session_id = api.create(ttl_seconds=600, absolute_ttl_seconds=1600)
    for moment in (500, 999, after):
        api.clock.now = NOW + moment
        answer = api("POST", f"/sessions/{session_id}/renew")

    assert answer.json["expires_at"] == NOW + expires == answer.json["absolute_expires_at"]
    api.clock.now = NOW + 1600
    assert api("POST", f"/sessions/{session_id}/renew").status == 404


def test_revoked_session_is_gone_at_once_and_holds_no_data(
    api: Api, tables: Any, stored: Any
) -> None:
    """The item keeps the actor and the reason for the trail, but no user data."""
    session_id = api.create(data={"secret": 1}, client={"ip": "203.0.113.7"})
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": session_id}},
        UpdateExpression="SET LastClient = Client",
    )
    api.clock.now += 60

    answer = api(
        *("DELETE", f"/sessions/{session_id}"),
        query={"reason": "admin.forced"},
        actor="arn:aws:iam::111122223333:user/operator",
        request_id="the-last",
    )

    assert (answer.status, answer.body) == (204, "")
    assert stored(session_id) == {
        "SessionId": {"S": session_id},
        "UserId": {"S": "ada"},
        "ExpirationTime": {"N": str(NOW + 60)},
        "AbsoluteExpirationTime": {"N": str(NOW + 86_400)},
        "RenewableUntil": {"N": str(NOW + 84_600)},
        "TtlSeconds": {"N": "1800"},
        "CreatedAt": {"N": str(NOW)},
        "RenewedAt": {"N": str(NOW)},
        "Version": {"N": "1"},
        "RevokedAt": {"N": str(NOW + 60)},
        "RevokedReason": {"S": "admin.forced"},
        "Actor": {"S": "arn:aws:iam::111122223333:user/operator"},
        "RequestId": {"S": "the-last"},
    }
    assert api("GET", f"/sessions/{session_id}").status == 404


def test_reason_defaults_to_logout(api: Api, stored: Any) -> None:
    session_id = api.create()

    api("DELETE", f"/sessions/{session_id}")

    assert stored(session_id)["RevokedReason"] == {"S": "logout"}


# Writes to an existing session, except for ending it.
WRITES: list[tuple[str, str, object]] = [
    ("POST", "/renew", None),
    ("POST", "/rotate", None),
    ("PATCH", "", {"data": {"a": 1}}),
    ("PUT", "", {"data": {}}),
]


def dead_sessions(api: Api, tables: Any) -> dict[str, str]:
    """Return session ids by the cause of the end. TTL has not deleted the items yet."""
    expired = api.create(ttl_seconds=10)
    revoked = api.create()
    tampered = api.create()
    api("DELETE", f"/sessions/{revoked}")
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": tampered}},
        UpdateExpression="SET ExpirationTime = :text",
        ExpressionAttributeValues={":text": {"S": str(NOW + 1800)}},
    )
    api.clock.now += 10 + 60
    return {"expired": expired, "revoked": revoked, "tampered": tampered, "absent": ABSENT}


@THROUGH_BOTH
@pytest.mark.parametrize("why", ["expired", "revoked", "absent"])
@pytest.mark.parametrize(
    ("method", "suffix", "body", "status"),
    [
        ("GET", "", None, 404),
        ("PATCH", "", {"data": {"a": 1}}, 404),
        ("PUT", "", {"data": {}}, 404),
        ("POST", "/renew", None, 404),
        ("POST", "/rotate", {"grace_seconds": 0}, 404),
        ("DELETE", "", None, 204),
    ],
)
def test_dead_session_is_absent_to_all_and_stays_dead(
    api: Api, tables: Any, stored: Any, why: str, method: str, suffix: str, body: Any, status: int
) -> None:
    """TTL deletes late, so every read and write must check the session.

    No write may create an incomplete item.
    """
    session_id = dead_sessions(api, tables)[why]
    before = stored(session_id)

    answer = api(method, f"/sessions/{session_id}{suffix}", body)

    assert answer.status == status
    if status == 404:
        assert answer.json["code"] == "session_not_found"
    assert stored(session_id) == before
    assert api("GET", f"/sessions/{session_id}").status == 404


def test_session_expires_on_the_second(api: Api) -> None:
    session_id = api.create(ttl_seconds=10)

    api.clock.now = NOW + 9
    assert api("GET", f"/sessions/{session_id}").status == 200
    api.clock.now = NOW + 10
    assert api("GET", f"/sessions/{session_id}").status == 404


@pytest.mark.parametrize(("method", "suffix", "body"), WRITES)
def test_write_on_the_second_of_the_expiry_changes_nothing(
    api: Api, stored: Any, method: str, suffix: str, body: Any
) -> None:
    session_id = api.create(ttl_seconds=10)
    before = stored(session_id)
    api.clock.now = NOW + 10

    assert api(method, f"/sessions/{session_id}{suffix}", body).status == 404
    assert stored(session_id) == before


def test_item_with_a_string_as_expiration_time_is_no_session(api: Api, tables: Any) -> None:
    """TTL would never delete it, and a comparison with a number would be false."""
    session_id = dead_sessions(api, tables)["tampered"]

    assert api("GET", f"/sessions/{session_id}").status == 404


@pytest.mark.parametrize(("method", "suffix", "body"), WRITES)
def test_write_whose_clock_is_behind_does_not_undo_a_revocation(
    api: Api, stored: Any, method: str, suffix: str, body: Any
) -> None:
    """For a clock that is 5 s late, the revoked session has not expired. `RevokedAt` decides."""
    session_id = api.create()
    api.clock.now += 60
    api("DELETE", f"/sessions/{session_id}")
    before = stored(session_id)
    api.clock.now -= 5

    answer = api(method, f"/sessions/{session_id}{suffix}", body)

    assert answer.status == 404
    assert stored(session_id) == before
    assert api("GET", f"/sessions/{session_id}").status == 404


@pytest.mark.parametrize(("later", "late"), [(100, 95), (1003, 999)])
def test_renewal_whose_clock_is_behind_takes_nothing_back(
    api: Api, stored: Any, later: int, late: int
) -> None:
    """If a later renewal came first, its expiry is kept, even at the absolute end."""
    session_id = api.create(ttl_seconds=600, absolute_ttl_seconds=1600)
    for moment in (500, 900):
        api.clock.now = NOW + min(moment, late)
        api("POST", f"/sessions/{session_id}/renew")
    api.clock.now = NOW + later
    renewed = api("POST", f"/sessions/{session_id}/renew").json
    before = stored(session_id)
    api.clock.now = NOW + late

    answer = api("POST", f"/sessions/{session_id}/renew")

    assert (answer.status, answer.json) == (200, renewed)
    assert stored(session_id) == before


@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", {"data": {"a": 1}}), ("PUT", {"data": {"a": 1}})]
)
def test_item_without_data_is_no_session_to_change(
    api: Api, tables: Any, stored: Any, method: str, body: Any
) -> None:
    """No API call writes such an item. Changing it is a 404, and does not repair it."""
    session_id = api.create()
    key = {"SessionId": {"S": session_id}}
    tables.client.update_item(
        TableName=tables.sessions,
        Key=key,
        UpdateExpression="REMOVE #data",
        ExpressionAttributeNames={"#data": "Data"},
    )
    before = stored(session_id)

    assert api(method, f"/sessions/{session_id}", body).status == 404
    assert stored(session_id) == before
    assert api("DELETE", f"/sessions/{session_id}").status == 204
    assert "RevokedAt" in stored(session_id)


@pytest.mark.parametrize("data", [{"S": "{}"}, {"L": []}, {"NULL": True}])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_item_with_other_data_than_a_map_is_no_session_to_change(
    api: Api, tables: Any, stored: Any, method: str, data: dict[str, Any]
) -> None:
    session_id = api.create()
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": session_id}},
        UpdateExpression="SET #data = :data",
        ExpressionAttributeNames={"#data": "Data"},
        ExpressionAttributeValues={":data": data},
    )
    before = stored(session_id)

    assert api(method, f"/sessions/{session_id}", {"data": {"a": 1}}).status == 404
    assert stored(session_id) == before


def test_second_revocation_changes_nothing(api: Api, stored: Any) -> None:
    session_id = api.create()
    api("DELETE", f"/sessions/{session_id}", query={"reason": "first"})
    before = stored(session_id)
    api.clock.now -= 5

    assert api("DELETE", f"/sessions/{session_id}", query={"reason": "second"}).status == 204
    assert stored(session_id) == before


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ('"v1"', 200),
        ("*", 200),
        (" * ", 200),
        ('"v7", "v1"', 200),
        ('"other" , "v1"', 200),
        ('"other,tag","v1"', 200),
        (', \t, "v1" ,,', 200),
        ('W/"v1", "v1"', 200),
        ('"", "é", "v1"', 200),
        ('"v2"', 412),
        ('W/"v1"', 412),
        ('"v01"', 412),
        ('"v0"', 412),
        ('"abc"', 412),
        ('"v2,"', 412),
        ("", 412),
        (",", 412),
        (", ".join(f'"v{i}"' for i in range(1, 101)), 200),
        (", ".join(f'"v{i}"' for i in range(1, 102)), 412),
        (", ".join(f'"v{i}"' for i in range(2, 1000)), 412),
        ("v1", 400),
        ("21", 400),
        ('"v1', 400),
        ('v1"', 400),
        ('"v1" "v1"', 400),
        ('"v1", v1', 400),
        ('"v1", *', 400),
        ('"*" *', 400),
        ("*, *", 400),
        ('w/"v1"', 400),
        ('W/ "v1"', 400),
        ("'v1'", 400),
        ('"other, tag", "v1"', 400),
        ('"v1\x7f"', 400),
        ('"v1"\n', 400),
        ('"v1";', 400),
        ("," * 10_000 + "x", 400),
    ],
)
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_if_match_decides(api: Api, stored: Any, method: str, tag: str, status: int) -> None:
    """A weak or unknown tag matches nothing. A header that is not a list of entity tags is the
    caller's error.

    https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1
    """
    session_id = api.create(data={"a": 1})
    before = stored(session_id)

    answer = api(method, f"/sessions/{session_id}", {"data": {"a": 2}}, headers={"if-match": tag})

    assert answer.status == status
    if status != 200:
        code = {412: "version_mismatch", 400: "invalid_if_match"}[status]
        assert answer.json["code"] == code
        assert stored(session_id) == before


@pytest.mark.parametrize("tag", ['"v9"', 'W/"v1"', "*"])
def test_absence_wins_over_a_mismatch(api: Api, tag: str) -> None:
    answer = api("PATCH", f"/sessions/{ABSENT}", {"data": {"a": 1}}, headers={"if-match": tag})

    assert answer.status == 404


@pytest.mark.parametrize("state", ["live", "absent"])
def test_malformed_if_match_costs_no_request(api: Api, state: str) -> None:
    session_id = api.create() if state == "live" else ABSENT

    answer = api("PUT", f"/sessions/{session_id}", {"data": {}}, headers={"if-match": "21"})

    assert (answer.status, api.requests) == (400, [])


@THROUGH_BOTH
def test_stale_tag_is_refused_after_a_change(api: Api) -> None:
    session_id = api.create()
    path = f"/sessions/{session_id}"
    tag = api("PATCH", path, {"data": {"a": 1}}).headers["etag"]

    assert api("PATCH", path, {"data": {"a": 2}}, headers={"if-match": '"v1"'}).status == 412
    assert api("PATCH", path, {"data": {"a": 3}}, headers={"if-match": tag}).json["data"] == {
        "a": 3
    }


def test_verify_and_renew_return_the_tag_too(api: Api) -> None:
    """A request that begins with `verify` can therefore write without another read."""
    token = api.log_in()
    path = f"/sessions/{token.partition('.')[0]}"
    api("PATCH", path, {"data": {"a": 1}})

    verified = api("POST", "/sessions/verify", {"token": token})
    renewed = api("POST", f"{path}/renew")

    assert verified.headers["etag"] == renewed.headers["etag"] == '"v2"'
