"""Every write of the API is its own event, and whatever else happens to an item is `tampered`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from audit.classify import classify
from audit.event import AuditEvent
from sessions.table import TOKEN_ATTRIBUTES
from tests.functional.conftest import NOW, Api
from tests.functional.tokens import rotate as call_rotate
from tests.functional.tokens import token_of

# The rules do not depend on which DynamoDB has stored the items.
pytestmark = pytest.mark.parametrize("backend", ["boto3 on moto"], indirect=True)

PLANTED = b"p" * 32

# A session by its id, and the tokens of it that were given out, the newest one last.
Act = Callable[[Api, str, list[str]], None]


def call(method: str, suffix: str = "", body: Any = None) -> Act:
    def act(api: Api, session_id: str, _: list[str]) -> None:
        answer = api(method, f"/sessions/{session_id}{suffix}", body)
        assert answer.status in (200, 204), answer

    return act


def verify(api: Api, _: str, tokens: list[str]) -> None:
    assert api("POST", "/sessions/verify", {"token": tokens[-1]}).status == 200
    assert api.requests == ["GetItem", "UpdateItem"]


def confirm(api: Api, _: str, tokens: list[str]) -> None:
    body = {"token": tokens[-1], "renew": False}
    assert api("POST", "/sessions/verify", body).status == 200
    assert api.requests == ["GetItem", "UpdateItem"]


def verify_from(user_agent: str) -> Act:
    """`verify` by a client that differs from the one before it, if there was one."""

    def act(api: Api, _: str, tokens: list[str]) -> None:
        body = {"token": tokens[-1], "client": {"ip": "2001:db8::1", "user_agent": user_agent}}
        answer = api("POST", "/sessions/verify", body)
        assert answer.json["last_client"]["user_agent"] == user_agent

    return act


def rotate(grace_seconds: int, *, of: int | None = -1) -> Act:
    """For the holder of one of the tokens, or for nobody."""

    def act(api: Api, session_id: str, tokens: list[str]) -> None:
        options = {} if of is None else {"token": tokens[of]}
        answer = call_rotate(api, session_id, grace_seconds=grace_seconds, **options)
        tokens.append(token_of(answer))

    return act


def wait(seconds: int) -> Act:
    def act(api: Api, *_: object) -> None:
        api.clock.now += seconds

    return act


STATES: dict[str, list[Act]] = {
    "fresh": [wait(200)],
    "changed": [wait(200), call("PATCH", body={"data": {"b": 1}})],
    "empty": [wait(200), call("PUT", body={"data": {}})],
    "renewed": [wait(100), call("POST", "/renew"), wait(200)],
    "of another window": [wait(100), call("POST", "/renew", {"ttl_seconds": 900}), wait(200)],
    "unseen": [wait(100), rotate(3600), wait(100)],
    "lost": [wait(100), rotate(10), wait(100)],
    "seen": [wait(100), rotate(3600), confirm, wait(100)],
    "past its grace": [wait(100), rotate(10), confirm, wait(100)],
    "rotated at once": [wait(100), rotate(0), wait(100)],
    "retired": [rotate(10), rotate(10), confirm, wait(200)],
    "retired, unseen": [rotate(10), rotate(10), wait(200)],
    "near its end": [wait(900), call("POST", "/renew"), wait(900)],
    "anonymous": [wait(200)],
    "with a last client": [wait(200), verify_from("Firefox/150.0"), wait(200)],
    "anonymous, unseen": [wait(100), rotate(10), wait(100)],
}
UNSEEN = {"unseen", "lost", "retired, unseen", "anonymous, unseen"}
LOST = UNSEEN - {"unseen"}
ANONYMOUS = {"anonymous", "anonymous, unseen"}
# A new token is any, and the times of the others differ by what clocks may.
_ROTATED = set(TOKEN_ATTRIBUTES) - {"PreviousTokenHash", "RetiredTokenHash"}
# By operation: what it does, its event, and the attributes that it may set to anything.
OPERATIONS: dict[str, tuple[Act, str, set[str]]] = {
    "change": (call("PATCH", body={"data": {"a": 2}}), "updated", {"Data"}),
    "change to the same": (call("PATCH", body={"data": {"a": 1}}), "updated", {"Data"}),
    "replace": (call("PUT", body={"data": {"c": 3}}), "updated", {"Data"}),
    "renew": (call("POST", "/renew"), "renewed", {"LastClient"}),
    "renew with a window": (
        call("POST", "/renew", {"ttl_seconds": 600}),
        "renewed",
        {"LastClient"},
    ),
    "renew for the last time": (
        call("POST", "/renew", {"ttl_seconds": 60, "final": True}),
        "renewed",
        {"LastClient"},
    ),
    "verify": (verify, "renewed", {"LastClient"}),
    "verify with a client": (verify_from("curl/8.0"), "renewed", {"LastClient"}),
    "confirm": (confirm, "confirmed", {"PreviousTokenUntil"}),
    "confirm and renew": (verify, "confirmed", {"PreviousTokenUntil", "LastClient"}),
    "rotate": (rotate(30), "rotated", _ROTATED),
    "rotate without a grace": (rotate(0), "rotated", _ROTATED),
    "rotate without a token": (rotate(0, of=None), "rotated", _ROTATED),
    "rotate by the former token": (rotate(30, of=-2), "rotated", _ROTATED),
    "revoke": (call("DELETE"), "revoked", {"RevokedReason"}),
}


def applies(operation: str, state: str) -> bool:
    if operation == "rotate by the former token":
        return state in LOST
    if operation == "renew for the last time":
        return state in ANONYMOUS
    if "confirm" in operation or "verify" in operation:
        return ("confirm" in operation) is (state in UNSEEN)
    return True


CASES = [
    pytest.param(state, operation, id=f"{operation}, {state}")
    for state in STATES
    for operation in OPERATIONS
    if applies(operation, state)
]


def images(api: Api, stored: Any, state: str, operation: str) -> tuple[Any, Any]:
    """An item in this state, before and after the operation."""
    token = api.log_in(
        None if state in ANONYMOUS else "ada",
        data={"a": 1},
        client={"ip": "203.0.113.7"},
        ttl_seconds=1000,
        absolute_ttl_seconds=2500,
    )
    session_id, tokens = token.partition(".")[0], [token]
    for act in STATES[state]:
        act(api, session_id, tokens)
    old = stored(session_id)
    OPERATIONS[operation][0](api, session_id, tokens)
    return old, stored(session_id)


def event(old: Any, new: Any, at: int) -> AuditEvent:
    return classify(
        {
            "eventName": "MODIFY",
            "dynamodb": {
                "ApproximateCreationDateTime": at,
                "SequenceNumber": "1",
                "Keys": {"SessionId": old["SessionId"]},
                "OldImage": old,
                "NewImage": new,
            },
        },
        not_before=0,
    )


@pytest.mark.parametrize(("state", "operation"), CASES)
def test_operation_is_its_own_event(api: Api, stored: Any, state: str, operation: str) -> None:
    """However late the record, and whatever hosts' clocks say."""
    old, new = images(api, stored, state, operation)

    for late in (-2, 0, 9):
        assert event(old, new, api.clock.now + late).type == OPERATIONS[operation][1]


def variants(new: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The item with one attribute taken away, added or changed in several ways."""
    names = {"UserId", "RevokedAt", "RevokedReason", "LastClient", "Extra", *TOKEN_ATTRIBUTES}
    for name in (new.keys() | names) - {"SessionId"}:  # a key can't change
        others: list[dict[str, Any]] = [{"S": "x"}, {"N": "1"}, {"N": str(NOW * 2)}, {"M": {}}]
        match new.get(name):
            case {"N": value}:
                others += [{"N": str(int(value) + by)} for by in (-1, 1)]
            case {"B": _} | None:
                others += [{"B": b"planted"}, {"B": b"p" * 32}]
        for other in [None, *others]:
            changed = copy.deepcopy(new)
            if other:
                changed[name] = other
            else:
                changed.pop(name, None)
            if changed != new:
                yield name, changed


@pytest.mark.parametrize(("state", "operation"), CASES)
def test_any_other_change_is_tampered(api: Api, stored: Any, state: str, operation: str) -> None:
    """One attribute more, less or otherwise than the operation makes it."""
    old, new = images(api, stored, state, operation)
    _, type, free = OPERATIONS[operation]
    whose = {"Actor", "RequestId"}

    seen = 0
    for name, changed in variants(new):
        found = event(old, changed, api.clock.now).type
        if changed.get("RequestId") == old["RequestId"]:
            assert found == "tampered", name
        elif name in free | whose:
            assert found in (type, "tampered"), name
        elif changed == old | {each: changed[each] for each in whose}:
            assert found in ("tampered", "renewed"), name  # nothing but who wrote it
        elif name == "RenewedAt" and changed["ExpirationTime"] == changed["AbsoluteExpirationTime"]:
            assert found in (type, "tampered")  # any time of renewal leads to the absolute end
        else:
            assert found == "tampered", (name, changed)
        seen += 1
    assert seen > 50


@pytest.mark.parametrize(
    "change",
    [
        {"AbsoluteExpirationTime": {"N": str(NOW + 10**6)}},
        {"UserId": {"S": "eve"}},
        {"Data": {"M": {"role": {"S": "admin"}}}},
        {"PreviousTokenHash": {"B": b"planted"}, "PreviousTokenUntil": {"N": str(NOW + 9999)}},
        {"PreviousTokenHash": {"B": PLANTED}, "PreviousTokenGrace": {"N": "30"}},
        {"FamilyHash": {"B": PLANTED}},
        {"RetiredTokenHash": {"B": PLANTED}, "RetiredTokenUntil": {"N": str(NOW + 30)}},
        {
            "TokenHash": {"B": PLANTED},
            "PreviousTokenHash": {"B": PLANTED},
            "PreviousTokenUntil": {"N": str(NOW + 31)},
            "PreviousTokenGrace": {"N": "30"},
            "RetiredTokenHash": {"B": PLANTED},
            "RetiredTokenUntil": {"N": str(NOW + 31)},
        },
        {"ExpirationTime": {"N": str(NOW + 10**6)}},
        {"ExpirationTime": {"N": str(NOW + 10**6)}, "RenewedAt": {"N": str(NOW + 10**6 - 1000)}},
        {"TtlSeconds": {"N": "9999999"}},
        {"TokenHash": {"B": b"planted"}},
        {"TokenHash": {"B": PLANTED}},
        {"RevokedAt": {"N": str(NOW)}},
        {"LastClient": {"S": "planted"}},
        {"Version": {"N": "3"}},
        {"Version": {"N": "2"}, "UserId": {"S": "eve"}},
    ],
)
def test_forgery_with_a_new_request_id_is_tampered(api: Api, stored: Any, change: Any) -> None:
    """Whoever writes to the table can spell a request id; that makes no call of the API of it."""
    session_id = api.create(ttl_seconds=1000)
    old = stored(session_id)

    found = event(old, old | change | {"RequestId": {"S": "forged"}}, NOW + 1)

    assert found.type == "tampered"
    assert set(change) <= set(found.changed or [])
    assert found.actor is None


def test_revoked_session_changes_no_more(api: Api, stored: Any) -> None:
    """Taking the mark away would bring it back."""
    session_id = api.create()
    live = stored(session_id)
    api("DELETE", f"/sessions/{session_id}")
    revoked = stored(session_id)

    assert event(revoked, live | {"RequestId": {"S": "forged"}}, NOW).type == "tampered"
    again = revoked | {"RevokedReason": {"S": "other"}, "RequestId": {"S": "forged"}}
    assert event(revoked, again, NOW).type == "tampered"


def test_expired_session_is_not_renewed(api: Api, stored: Any) -> None:
    """A renewal that began before the expiry may be recorded late; one after it is a forgery."""
    session_id = api.create(ttl_seconds=10)
    old = stored(session_id)

    def renewed(at: int) -> str:
        new = old | {
            "RenewedAt": {"N": str(at)},
            "ExpirationTime": {"N": str(at + 10)},
            "RequestId": {"S": "new"},
        }
        return event(old, new, NOW + 15).type

    assert renewed(NOW + 9) == "renewed"
    assert renewed(NOW + 10) == "tampered"
