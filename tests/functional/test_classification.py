"""Every write of the API has its own type of event, and every other change of an item is
`tampered`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from audit.classify import classify
from audit.event import AuditEvent
from sessions.authentication import AUTHENTICATION_ATTRIBUTES
from sessions.table import TOKEN_ATTRIBUTES
from tests.support.api import NOW, Api
from tests.support.backend import IN_MEMORY
from tests.support.seam import seam
from tests.support.tokens import rotate as call_rotate
from tests.support.tokens import token_of

# The rules do not depend on the DynamoDB that stores the items.
pytestmark = IN_MEMORY

PLANTED = b"p" * 32

# A session's id, and all of its tokens, the newest one last.
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
    """Return a call of `verify` with another client than the call before it."""

    def act(api: Api, _: str, tokens: list[str]) -> None:
        body = {"token": tokens[-1], "client": {"ip": "2001:db8::1", "user_agent": user_agent}}
        answer = api("POST", "/sessions/verify", body)
        assert answer.json["last_client"]["user_agent"] == user_agent

    return act


def rotate(grace_seconds: int, *, of: int | None = -1) -> Act:
    """Return a rotation for the owner of one of the tokens, or without a token."""

    def act(api: Api, session_id: str, tokens: list[str]) -> None:
        options = {} if of is None else {"token": tokens[of]}
        answer = call_rotate(api, session_id, grace_seconds=grace_seconds, **options)
        tokens.append(token_of(answer))

    return act


def step_up(grace_seconds: int = 30, *, of: int | None = -1) -> Act:
    """Return a step-up for the owner of one of the tokens, or without a token."""

    def act(api: Api, session_id: str, tokens: list[str]) -> None:
        body = {"methods": ["otp"], "grace_seconds": grace_seconds}
        if of is not None:
            body["token"] = tokens[of]
        answer = api("POST", f"/sessions/{session_id}/authenticate", body)
        tokens.append(token_of(answer))

    return act


def forget_proof(api: Api, session_id: str, _: list[str]) -> None:
    """Make the session one of an earlier version of the service."""
    seam.client.update_item(
        TableName="sessions",
        Key={"SessionId": {"S": session_id}},
        UpdateExpression="REMOVE AuthenticatedAt, Methods",
        ConditionExpression="attribute_exists(SessionId)",
    )


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
    "stepped up": [wait(100), step_up(), confirm, wait(100)],
    "stepped up, unseen": [wait(100), step_up(10), wait(100)],
    "rotated after a step-up, unseen": [step_up(), wait(100), rotate(10), wait(100)],
    "of an earlier version": [forget_proof, wait(200)],
    "of an earlier version, unseen": [forget_proof, wait(100), rotate(10), wait(100)],
    "impersonated": [wait(200)],
    "impersonated, unseen": [wait(100), rotate(10), wait(100)],
}
UNSEEN = {"lost"} | {state for state in STATES if "unseen" in state}
LOST = UNSEEN - {"unseen"}
ANONYMOUS = {"anonymous", "anonymous, unseen"}
IMPERSONATED = {"impersonated", "impersonated, unseen"}
IMPERSONATOR = {"id": "grace", "reason": "ticket-42"}
# A new token may have any value. The times of the former token may differ as much as clocks do.
_ROTATED = set(TOKEN_ATTRIBUTES) - {"PreviousTokenHash", "RetiredTokenHash"}
# For each operation: the call, its event, and the attributes that it may set to any value.
OPERATIONS: dict[str, tuple[Act, str, set[str]]] = {
    "change": (call("PATCH", body={"data": {"a": 2}}), "updated", {"Data"}),
    "change to the same": (call("PATCH", body={"data": {"a": 1}}), "updated", {"Data"}),
    "replace": (call("PUT", body={"data": {"c": 3}}), "updated", {"Data"}),
    "renew": (call("POST", "/renew"), "renewed", {"LastClient"}),
    "renew with a window": (
        call("POST", "/renew", {"ttl_seconds": 600}),
        "renewed",
        set(),
    ),
    "renew for the last time": (
        call("POST", "/renew", {"ttl_seconds": 60, "final": True}),
        "renewed",
        set(),
    ),
    "verify": (verify, "renewed", {"LastClient"}),
    "verify with a client": (verify_from("curl/8.0"), "renewed", {"LastClient"}),
    "confirm": (confirm, "confirmed", {"PreviousTokenUntil"}),
    "confirm and renew": (verify, "confirmed", {"PreviousTokenUntil", "LastClient"}),
    "rotate": (rotate(30), "rotated", _ROTATED),
    "rotate without a grace": (rotate(0), "rotated", _ROTATED),
    "rotate without a token": (rotate(0, of=None), "rotated", _ROTATED),
    "rotate by the former token": (rotate(30, of=-2), "rotated", _ROTATED),
    "step up": (step_up(), "authenticated", {*_ROTATED, "Methods"}),
    "step up without a grace": (step_up(0), "authenticated", {*_ROTATED, "Methods"}),
    "step up without a token": (step_up(0, of=None), "authenticated", {*_ROTATED, "Methods"}),
    "step up by the former token": (step_up(of=-2), "authenticated", {*_ROTATED, "Methods"}),
    "revoke": (call("DELETE"), "revoked", {"RevokedReason"}),
}


def applies(operation: str, state: str) -> bool:
    if "step up" in operation and state in ANONYMOUS | IMPERSONATED:
        return False
    if "by the former token" in operation:
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
    """Return the item in this state, before and after the operation."""
    who: dict[str, Any] = {"impersonator": IMPERSONATOR} if state in IMPERSONATED else {}
    token = api.log_in(
        None if state in ANONYMOUS else "ada",
        **who,
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


def modified(old: Any, new: Any, at: int) -> dict[str, Any]:
    change = {
        "ApproximateCreationDateTime": at,
        "SequenceNumber": "1",
        "Keys": {"SessionId": old["SessionId"]},
        "OldImage": old,
        "NewImage": new,
    }
    return {"eventName": "MODIFY", "dynamodb": change}


def event(old: Any, new: Any, at: int) -> AuditEvent:
    return classify(modified(old, new, at), not_before=0)


@pytest.mark.parametrize(("state", "operation"), CASES)
def test_operation_has_its_own_type_of_event(
    api: Api, stored: Any, state: str, operation: str
) -> None:
    """This does not depend on how late the record is, or on the clocks of hosts."""
    old, new = images(api, stored, state, operation)

    for late in (-2, 0, 9):
        assert event(old, new, api.clock.now + late).type == OPERATIONS[operation][1]


WRONG: list[dict[str, Any]] = [
    *({"N": number} for number in ("0", "1", "-1", "1.5", str(NOW * 2), str(10**30))),
    *({"S": text} for text in ("", "x", "X y", str(NOW))),
    *({"B": value} for value in (b"p", b"p" * 31, PLANTED, b"p" * 33)),
    *({"M": members} for members in ({}, {"x": {"B": b"p"}}, {"x": {"S": "y"}})),
    {"M": {"ip": {"S": "203.0.113.9"}}},
    {"M": {"ip": {"S": "2" * 46}}},
    {"M": {"user_agent": {"N": "1"}}},
    {"M": {"user_agent": {"S": "x" * 129}}},
    {"M": {"user_agent": {"S": "x" * 513}}},
    *({"M": {"id": {"S": "eve"}, "reason": {"S": reason}}} for reason in ("x", "Y", "token_reuse")),
    *({"M": {"id": {"S": "eve"}, **more}} for more in ({}, {"x": {"S": "y"}})),
    {"M": {"id": {"S": ""}, "reason": {"S": "x"}}},
    {"M": {"id": {"N": "1"}, "reason": {"S": "x"}}},
    *({"L": [{"S": name} for name in names]} for names in ([], ["hwk"], ["hwk", "hwk"], ["H"])),
    *({"L": [{"S": f"m{i}"} for i in range(count)]} for count in (8, 9)),
    {"L": [{"N": "1"}]},
    {"SS": ["x"]},
    {"NULL": True},
    {"BOOL": True},
]
_EVERY_NAME = {
    *("UserId", "RevokedAt", "RevokedReason", "Client", "LastClient", "Extra", "Actor"),
    *("Impersonator", *TOKEN_ATTRIBUTES, *AUTHENTICATION_ATTRIBUTES),
}


def variants(new: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None, dict[str, Any]]]:
    """Yield the item without one attribute, or with a wrong type, a bound or a neighbouring value
    of it.
    """
    hashes = [value for value in new.values() if "B" in value]
    for name in (new.keys() | _EVERY_NAME) - {"SessionId"}:  # a key can't change
        others = [*WRONG, *hashes]
        if "N" in new.get(name, {}):
            number = int(new[name]["N"])
            near = (number - 1, number + 1, number + 61, number - 61, number * 1000)
            others += [{"N": str(other)} for other in (*near, number + 0.5)]
        for other in [None, *others]:
            changed = dict(new)
            if other:
                changed[name] = other
            else:
                changed.pop(name, None)
            if changed != new:
                yield name, other, changed


def is_json_map(value: Any) -> bool:
    return "M" in value and not any("B" in member for member in value["M"].values())


def is_last_client(value: Any, longest: int = 128) -> bool:
    [(kind, members)] = value.items()
    return kind == "M" and members in (
        {"ip": {"S": "203.0.113.9"}},
        *({"user_agent": {"S": "x" * length}} for length in (129, 513) if length <= longest),
    )


def are_methods(value: Any) -> bool:
    """Whether this is one of the valid lists in `WRONG`."""
    names = [name.get("S") for name in value.get("L", [{}])]
    return names in ([], ["hwk"], [f"m{i}" for i in range(8)])


# Attributes that a caller may choose, and whether a caller could have sent the value.
FREE: dict[str, Callable[[Any], bool]] = {
    "Data": is_json_map,
    "LastClient": is_last_client,
    "RevokedReason": lambda value: value in ({"S": "x"}, {"S": str(NOW)}),
    "TokenHash": lambda value: value == {"B": PLANTED},
    "FamilyHash": lambda value: len(value.get("B", b"")) == 32,
    "Actor": lambda value: "S" in value and value != {"S": ""},
    "RequestId": lambda value: "S" in value and value != {"S": ""},
    "UserId": lambda value: "S" in value and value != {"S": ""},
    "Client": lambda value: is_last_client(value, 512),
    "Methods": are_methods,
    "AuthenticatedAt": lambda value: (
        "N" in value and value["N"].isdecimal() and NOW - 10**6 < int(value["N"]) <= NOW
    ),
    "Impersonator": lambda value: (
        value.get("M", {}).get("id") == {"S": "eve"}
        and value["M"].get("reason") in ({"S": "x"}, {"S": "token_reuse"})
    ),
}


@pytest.mark.parametrize(("state", "operation"), CASES)
def test_any_other_change_is_tampered(api: Api, stored: Any, state: str, operation: str) -> None:
    """One attribute is added, removed or different from the operation's result."""
    old, new = images(api, stored, state, operation)
    _, type, free = OPERATIONS[operation]

    seen = 0
    for name, value, changed in variants(new):
        kind = event(old, changed, api.clock.now).type
        may_differ = name in free | {"Actor", "RequestId"}
        if changed.get("RequestId") == old["RequestId"] or not may_differ:
            expected = {"tampered"}
        elif value is None:
            expected = {"tampered", type}
        elif name in FREE:
            expected = {type if FREE[name](value) else "tampered"}
        else:
            expected = {type, "tampered"}  # a time that depends on when the write was made
        if changed == old | {who: changed[who] for who in ("Actor", "RequestId") if who in changed}:
            # Only the writer changes: this is a renewal within the second of the last one.
            expected = {"renewed", "tampered"}
        if name == "FamilyHash" and name in free:
            expected |= {"tampered"}  # a rotation without a token begins another family
        if name == "TokenHash" and value == new.get("FamilyHash"):
            expected |= {type}  # any other value is possible, too
        if name == "RenewedAt" and changed["ExpirationTime"] == changed["AbsoluteExpirationTime"]:
            expected = {type, "tampered"}  # any time of renewal leads to the absolute end
        assert kind in expected, (name, value, kind)
        seen += 1
    assert seen > 500
    assert event(old, new | {"RequestId": old["RequestId"]}, api.clock.now).type == "tampered"


@pytest.mark.parametrize("who", ["a user", "a visitor", "an impersonator", "an earlier version"])
@pytest.mark.parametrize("client", [{}, {"ip": "203.0.113.7", "user_agent": "x" * 512}])
@pytest.mark.parametrize("window", [1, 2500])
def test_any_other_new_item_is_tampered(
    api: Api, stored: Any, who: str, client: dict[str, str], window: int
) -> None:
    """If somebody forges a session, the trail must not show it as `created`."""
    data = {"a": 1, "b": [None, True, {"c": "d"}]}
    impersonator = {"impersonator": IMPERSONATOR} if who == "an impersonator" else {}
    session_id = api.create(
        None if who == "a visitor" else "ada",
        data=data,
        client=client,
        ttl_seconds=window,
        absolute_ttl_seconds=2500,
        **impersonator,
    )
    if who == "an earlier version":
        forget_proof(api, session_id, [])
    new = stored(session_id)
    for late in (-2, 0, 9):
        assert inserted(new, api.clock.now + late) == "created"
    assert inserted(new, NOW + 61) == inserted(new, NOW - 61) == "tampered"

    for name, value, changed in variants(new):
        is_optional = name == "Client" or (name == "UserId" and who == "an earlier version")
        free = ["TokenHash", "Data", "FamilyHash", "Actor", "RequestId", "UserId", "Client"]
        if who == "a user":
            free += ["AuthenticatedAt", "Methods"]
        if who in ("an impersonator", "an earlier version"):
            free += ["Impersonator"]
        if name == "Impersonator" and value is None:
            is_optional = who == "an impersonator"
        is_legal = is_optional if value is None else name in free and FREE[name](value)
        if name == "TokenHash" and value == new["FamilyHash"]:
            is_legal = True
        expected = "created" if is_legal else "tampered"
        assert inserted(changed, NOW) == expected, (name, value)


def inserted(new: Any, at: int) -> str:
    change = {
        "ApproximateCreationDateTime": at,
        "SequenceNumber": "1",
        "Keys": {"SessionId": new["SessionId"]},
        "NewImage": new,
    }
    return classify({"eventName": "INSERT", "dynamodb": change}, not_before=0).type


@pytest.mark.parametrize("operation", [op for op in OPERATIONS if applies(op, "seen")])
def test_session_that_not_before_ended_can_only_be_revoked(
    api: Api, stored: Any, operation: str
) -> None:
    """The API refuses every other write as soon as it has the setting."""
    old, new = images(api, stored, "seen", operation)
    made, at = OPERATIONS[operation][1], api.clock.now
    expected = made if made == "revoked" else "tampered"

    def of_killed(**switch: int) -> str:
        return classify(modified(old, new, at), **{"not_before": NOW + 1, **switch}).type

    assert of_killed() == expected
    assert of_killed(not_before=NOW) == made
    # The change was recorded before or just when the function and the API got the setting.
    assert of_killed(enforced_since=at + 5) == made
    assert of_killed(enforced_since=at - 60) == made
    assert of_killed(enforced_since=at - 61) == expected


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
        {"LastClient": {"M": {"x": {"B": b"planted"}}}, "RenewedAt": {"N": str(NOW + 1)}},
        {
            "TtlSeconds": {"N": str(10**30)},
            "RenewableUntil": {"N": str(NOW + 86_400 - 10**30)},
            "ExpirationTime": {"N": str(NOW + 86_400)},
            "RenewedAt": {"N": str(NOW + 1)},
        },
        {"Version": {"N": "3"}},
        {"Version": {"N": "2"}, "UserId": {"S": "eve"}},
        {"AuthenticatedAt": {"N": str(NOW + 1)}},
        {"Methods": {"L": [{"S": "hwk"}]}},
        {"AuthenticatedAt": {"N": str(NOW + 1)}, "Methods": {"L": [{"S": "hwk"}]}},
        {
            "AuthenticatedAt": {"N": str(NOW + 1)},
            "Methods": {"L": [{"S": "hwk"}]},
            "PreviousAuthenticatedAt": {"N": str(NOW)},
            "PreviousMethods": {"L": []},
        },
        {"Impersonator": {"M": {"id": {"S": "eve"}, "reason": {"S": "x"}}}},
    ],
)
def test_forgery_with_a_new_request_id_is_tampered(api: Api, stored: Any, change: Any) -> None:
    """Somebody with access to the table can write a request id.

    The change is still not a call of the API.
    """
    session_id = api.create(ttl_seconds=1000)
    old = stored(session_id)

    actual = event(old, old | change | {"RequestId": {"S": "forged"}}, NOW + 1)

    assert actual.type == "tampered"
    assert set(change) <= set(actual.changed or [])
    assert actual.actor is None


def test_revoked_session_does_not_change(api: Api, stored: Any) -> None:
    """Removing `RevokedAt` would make the session live again."""
    session_id = api.create()
    live = stored(session_id)
    api("DELETE", f"/sessions/{session_id}")
    revoked = stored(session_id)

    assert event(revoked, live | {"RequestId": {"S": "forged"}}, NOW).type == "tampered"
    again = revoked | {"RevokedReason": {"S": "other"}, "RequestId": {"S": "forged"}}
    assert event(revoked, again, NOW).type == "tampered"
    later = {name: {"N": str(NOW + 1)} for name in ("RevokedAt", "ExpirationTime")}
    assert event(revoked, again | later, NOW).type == "tampered"


def test_expired_session_is_not_renewed(api: Api, stored: Any) -> None:
    """A renewal that began before the expiry may be recorded late.

    A renewal after the expiry is forged.
    """
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
