"""Each operation is one DynamoDB request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import NOW, Answer, Api
from tests.support.functions import function, lambda_context, sample
from tests.support.seam import seam

ABSENT = "AAAAAAAAAAAA"


@pytest.mark.parametrize(
    ("method", "suffix", "body", "expected"),
    [
        ("GET", "", None, ["GetItem"]),
        ("PATCH", "", {"data": {"a": 1}}, ["UpdateItem"]),
        ("PUT", "", {"data": {}}, ["UpdateItem"]),
        ("POST", "/renew", None, ["UpdateItem"]),
        ("POST", "/rotate", None, ["UpdateItem"]),
        ("DELETE", "", None, ["UpdateItem"]),
    ],
)
@pytest.mark.parametrize("state", ["live", "expired", "revoked", "absent"])
def test_operation_on_a_session_is_one_request(
    api: Api, method: str, suffix: str, body: Any, expected: list[str], state: str
) -> None:
    """This is also true if the operation fails, because the failed write returns the reason."""
    session_id = ABSENT if state == "absent" else api.create(ttl_seconds=10)
    if state == "revoked":
        api("DELETE", f"/sessions/{session_id}")
    if state == "expired":
        api.clock.now += 10

    api(method, f"/sessions/{session_id}{suffix}", body)

    assert api.requests == expected


@pytest.mark.parametrize("tag", ['"v1"', '"v2"', 'W/"v1"', "*"])
def test_conditional_change_is_one_request(api: Api, tag: str) -> None:
    session_id = api.create()

    api("PATCH", f"/sessions/{session_id}", {"data": {"a": 1}}, headers={"if-match": tag})

    assert api.requests == ["UpdateItem"]


def test_create_is_one_request(api: Api) -> None:
    api.create()

    assert api.requests == ["PutItem"]


def test_renewal_in_the_last_window_takes_a_second_request(api: Api) -> None:
    session_id = api.create(ttl_seconds=600, absolute_ttl_seconds=1000)
    path = f"/sessions/{session_id}/renew"

    api.clock.now = NOW + 400
    api("POST", path)
    assert api.requests == ["UpdateItem"]
    api.clock.now = NOW + 401
    api("POST", path)
    assert api.requests == ["UpdateItem", "UpdateItem"]


def test_page_of_a_list_is_one_query_and_one_batch(api: Api) -> None:
    for _ in range(3):
        api.create()

    api("GET", "/sessions", query={"user_id": "ada"})

    assert api.requests == ["Query", "BatchGetItem"]


def test_page_of_events_is_one_query(api: Api) -> None:
    api("GET", "/events", query={"user_id": "ada"})
    assert api.requests == ["Query"]


def test_reads_by_id_are_strongly_consistent(api: Api, tables: Any) -> None:
    """The next call must see a new session and a revocation. Only an index may lag."""
    token = api.log_in()
    session_id = token.partition(".")[0]
    reads: list[tuple[str, bool]] = []

    def note() -> None:
        for operation, request in seam.calls:
            for part in request.get("RequestItems", {"": request}).values():
                reads.append((operation, part.get("ConsistentRead", False)))

    for method, path, body, query in (
        ("GET", f"/sessions/{session_id}", None, ""),
        ("POST", "/sessions/verify", {"token": token}, ""),
        ("GET", "/sessions", None, "user_id=ada"),
        ("GET", "/events", None, f"session_id={session_id}"),
        ("GET", "/events", None, "user_id=ada"),
    ):
        api(method, path, body, query=query)
        note()
    seam.calls.clear()
    event = sample("authorizer_http_api") | {"identitySource": [f"Bearer {token}"]}
    function("session_authorizer").lambda_handler(event, lambda_context())
    note()

    assert reads == [
        ("GetItem", True),
        ("GetItem", True),
        ("Query", False),
        ("BatchGetItem", True),
        ("GetItem", True),
        ("Query", True),
        ("Query", False),
        ("GetItem", True),
    ]


def test_no_write_stores_an_expiration_time_that_ttl_would_ignore(api: Api) -> None:
    """TTL needs a Number of epoch seconds, and silently ignores a string or milliseconds.

    The test checks every value that is sent to DynamoDB during all operations on a session.
    """
    written: list[dict[str, Any]] = []

    def watched(*call: Any, **options: Any) -> Answer:
        answer = api(*call, **options)
        for _, request in seam.calls:
            if "Item" in request:
                written.append(request["Item"]["ExpirationTime"])
            if "ExpirationTime = " in request.get("UpdateExpression", ""):
                assert "ExpirationTime = :now" in request["UpdateExpression"] or (
                    "ExpirationTime = AbsoluteExpirationTime" in request["UpdateExpression"]
                )
                written.append(request["ExpressionAttributeValues"][":now"])
        return answer

    for ttl in (1, 1800, 86_400):
        created = watched("POST", "/sessions", {"user_id": "ada", "ttl_seconds": ttl})
        path = f"/sessions/{created.json['session_id']}"
        watched("PATCH", path, {"data": {"ExpirationTime": "soon"}})
        watched("PUT", path, {"data": {"ExpirationTime": NOW * 1000}})
        watched("POST", f"{path}/renew")
        watched("POST", f"{path}/rotate")
        watched("DELETE", path)

    assert len(written) == 9
    for value in written:
        assert list(value) == ["N"]
        assert NOW <= int(value["N"]) <= NOW + 86_400
