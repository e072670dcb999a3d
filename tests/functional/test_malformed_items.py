"""Items that no call of the API wrote: reads and writes treat them alike, and none breaks
another.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from tests.support.api import NOW, Api
from tests.support.backend import ON_DYNAMODB_LOCAL
from tests.support.functions import lambda_context, sample
from tests.support.tokens import rotate

# Only DynamoDB itself compares numbers with strings in its way.
pytestmark = ON_DYNAMODB_LOCAL

FRACTION = {"N": str(NOW + 900) + ".5"}
WRONG_TYPES: list[Any] = [None, {"S": "x"}, {"M": {}}, {"NULL": True}, {"B": b"x"}]
NUMBERS: list[Any] = [{"N": n} for n in ("0", "-1", "0.5", "9E125", str((NOW + 900) * 1000))]
# Attributes that are not keys of the index. DynamoDB itself checks the types of its keys.
VALUES: dict[str, list[Any]] = {
    "ExpirationTime": [FRACTION, *NUMBERS, *WRONG_TYPES],
    "AbsoluteExpirationTime": [FRACTION, *NUMBERS, *WRONG_TYPES],
    "RenewableUntil": [FRACTION, *NUMBERS, *WRONG_TYPES],
    "TtlSeconds": [{"N": "1800.5"}, *NUMBERS, *WRONG_TYPES],
    "RenewedAt": [{"N": f"{NOW - 10}.5"}, *NUMBERS, *WRONG_TYPES],
    "Version": [{"N": "1.5"}, *NUMBERS, *WRONG_TYPES],
    "CreatedAt": [{"N": f"{NOW - 10}.5"}, *NUMBERS, None],
    "Client": WRONG_TYPES,
    "LastClient": WRONG_TYPES,
    "TokenHash": WRONG_TYPES,
    "FamilyHash": WRONG_TYPES,
    "PreviousTokenHash": WRONG_TYPES,
    "PreviousTokenUntil": [FRACTION, *NUMBERS, *WRONG_TYPES],
    "PreviousTokenGrace": [{"N": "1.5"}, *NUMBERS, *WRONG_TYPES],
    "RetiredTokenHash": WRONG_TYPES,
    "RetiredTokenUntil": [FRACTION, *NUMBERS, *WRONG_TYPES],
    "AuthenticatedAt": [FRACTION, *NUMBERS, *WRONG_TYPES],
    "Methods": [{"L": [{"N": "1"}]}, {"L": [{"S": "A b"}]}, *WRONG_TYPES],
    "PreviousAuthenticatedAt": [FRACTION, *NUMBERS, *WRONG_TYPES],
    "PreviousMethods": [{"L": [{"N": "1"}]}, *WRONG_TYPES],
    "Impersonator": [{"M": {"id": {"S": "eve"}}}, *WRONG_TYPES],
    "UserId": [None],
    "Actor": WRONG_TYPES,
    "RequestId": WRONG_TYPES,
}
CASES = [
    pytest.param(name, value, id=f"{name} {value}")
    for name, values in VALUES.items()
    for value in values
]


def spoil(tables: Any, session_id: str, name: str, value: Any) -> dict[str, Any]:
    """Write the item as somebody with access to the table could do, and return it."""
    key = {"SessionId": {"S": session_id}}
    item: dict[str, Any] = tables.client.get_item(TableName=tables.sessions, Key=key)["Item"]
    item.pop(name, None)
    if value:
        item[name] = value
    tables.client.put_item(TableName=tables.sessions, Item=item)
    return item


def authorized(authorizer: ModuleType, token: str) -> bool:
    event = sample("authorizer_http_api") | {"identitySource": [f"Bearer {token}"]}
    answer = authorizer.lambda_handler(event, lambda_context())
    return bool(answer["isAuthorized"])


@pytest.mark.parametrize(("name", "value"), CASES)
def test_readers_and_writers_agree(
    api: Api, tables: Any, stored: Any, authorizer: ModuleType, name: str, value: Any
) -> None:
    """Either all of them accept the item or none does.

    An item that is not a session never changes.
    """
    token = api.log_in(ttl_seconds=1800, client={"ip": "203.0.113.7"})
    session_id = token.partition(".")[0]
    for _ in range(2):
        token = rotate(api, session_id, token=token, grace_seconds=30).json["token"]
    spoil(tables, session_id, name, value)
    item = stored(session_id)
    path = f"/sessions/{session_id}"

    def again() -> None:
        tables.client.put_item(TableName=tables.sessions, Item=item)

    is_live = api("GET", path).status == 200
    listed = api("GET", "/sessions", query={"user_id": "ada"}).json["items"]
    if name != "UserId":
        assert [session["session_id"] for session in listed] == ([session_id] if is_live else [])
    for method, suffix, body in (
        ("PATCH", "", {"data": {"a": 1}}),
        ("PUT", "", {"data": {}}),
        ("POST", "/renew", None),
        ("POST", "/renew", {"ttl_seconds": 600}),
    ):
        answer = api(method, path + suffix, body)
        assert answer.status == (200 if is_live else 404), (method, suffix, answer)
        assert is_live or stored(session_id) == item
        again()
    proves = is_live and name != "TokenHash"
    if (
        name != "TokenHash"
    ):  # such a token counts as an older one of the family, which ends the session
        answer = api("POST", "/sessions/verify", {"token": token})
        assert answer.status == (200 if proves else 401)
        assert is_live or stored(session_id) == item
        again()
        user_known = name != "UserId"
        assert authorized(authorizer, token) is (proves and user_known)
        assert is_live or stored(session_id) == item
        again()
        answer = rotate(api, session_id, token=token)
        assert answer.status == (200 if is_live else 404)
        assert is_live or stored(session_id) == item
        again()
    assert rotate(api, session_id).status in ((200, 409) if is_live else (404,))
    again()
    assert api("DELETE", path).status == 204
    assert not is_live or "RevokedAt" in stored(session_id)
    assert api("GET", path).status == 404


@pytest.mark.parametrize(("at", "status"), [(NOW + 60, 200), (NOW + 61, 404)])
def test_fractions_are_compared_as_in_dynamodb(
    api: Api, tables: Any, stored: Any, at: int, status: int
) -> None:
    """A condition can't require whole numbers, so reads do not require them either."""
    session_id = api.create()
    spoil(tables, session_id, "ExpirationTime", {"N": f"{NOW + 60}.5"})
    api.clock.now = at

    answer = api("GET", f"/sessions/{session_id}")
    assert answer.status == status
    assert status == 404 or answer.json["expires_at"] == NOW + 61
    assert api("PUT", f"/sessions/{session_id}", {"data": {}}).status == status


def test_data_that_json_can_not_represent_reads_as_null(api: Api, tables: Any) -> None:
    session_id = api.create(data={"a": 1})
    values = {"a": {"SS": ["b"]}, "b": {"L": [{"B": b"b"}, {"N": "1"}]}}
    spoil(tables, session_id, "Data", {"M": values})

    assert api("GET", f"/sessions/{session_id}").json["data"] == {"a": None, "b": [None, 1]}
    changed = api("PATCH", f"/sessions/{session_id}", {"data": {"c": 2}})
    assert changed.json["data"] == {"a": None, "b": [None, 1], "c": 2}


def test_client_of_another_shape_is_not_shown(api: Api, tables: Any) -> None:
    session_id = api.create()
    members = {"ip": {"N": "1"}, "user_agent": {"S": "x" * 600}, "other": {"S": "y"}}
    spoil(tables, session_id, "Client", {"M": members})

    [listed] = api("GET", "/sessions", query={"user_id": "ada"}).json["items"]
    assert listed["client"] == {"user_agent": "x" * 512}


def test_renewal_uses_the_time_of_its_condition(api: Api, tables: Any) -> None:
    """With any value of `RenewableUntil`, the renewal must not be tried again until it gives up."""
    session_id = api.create(ttl_seconds=1800)
    for until in (NOW - 1, NOW, NOW + 10**6, f"{NOW - 1}.5", f"{NOW}.5"):
        spoil(tables, session_id, "RenewableUntil", {"N": str(until)})
        assert api("POST", f"/sessions/{session_id}/renew").status == 200
        assert len(api.requests) <= 2
    for end in (f"{NOW + 899}.5", NOW + 900, f"{NOW + 900}.5"):
        spoil(tables, session_id, "AbsoluteExpirationTime", {"N": str(end)})
        answer = api("POST", f"/sessions/{session_id}/renew", {"ttl_seconds": 900})
        assert answer.status == 200
        assert len(api.requests) <= 2


def test_window_that_no_deployment_allows_is_no_session(api: Api, tables: Any, stored: Any) -> None:
    """A renewal would write a time that no read accepts."""
    session_id = api.create()
    for window, status in ((34_560_000, 200), (34_560_001, 404), (10**10 - 1, 404)):
        spoil(tables, session_id, "TtlSeconds", {"N": str(window)})
        assert api("GET", f"/sessions/{session_id}").status == status
        assert api("POST", f"/sessions/{session_id}/renew").status == status
