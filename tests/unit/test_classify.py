"""The event of each stream record, row by row of the table in docs/audit-events.md."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from boto3.dynamodb.types import TypeSerializer
from msgspec import UNSET

from audit.classify import classify, events_in, is_kept
from audit.event import UNKNOWN_SESSION

NOW = 1_795_435_200
LIFE = (
    *("created", "renewed", "updated", "rotated", "authenticated", "confirmed", "revoked"),
    *("expired", "purged"),
)
ALARMS = ("tampered", "deleted", "unreadable")
SESSION = "n2qXk8bVQ0mF"
# Hashes of the length of SHA-256.
NEWEST, FORMER, RETIRED, NEXT, FAMILY = (bytes([i]) * 32 for i in range(1, 6))
TTL = {"userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"}}


def image(**attributes: Any) -> dict[str, Any]:
    """Return the image of an item from plain values. None removes an attribute."""
    session = {
        "SessionId": SESSION,
        "UserId": "ada",
        "ExpirationTime": NOW + 1800,
        "AbsoluteExpirationTime": NOW + 86_400,
        "RenewableUntil": NOW + 84_600,
        "TtlSeconds": 1800,
        "CreatedAt": NOW,
        "RenewedAt": NOW,
        "Version": 1,
        "Data": {"theme": "dark"},
        "Client": {"ip": "203.0.113.7"},
        "TokenHash": NEWEST,
        "FamilyHash": FAMILY,
        "Actor": "creator",
        "RequestId": "first",
    } | attributes
    serialize = TypeSerializer().serialize
    return {name: serialize(value) for name, value in session.items() if value is not None}


def record(
    name: str, *, old: Any = None, new: Any = None, at: float = NOW, **more: Any
) -> dict[str, Any]:
    images = {"OldImage": old, "NewImage": new}
    return {
        "eventName": name,
        "dynamodb": {
            "ApproximateCreationDateTime": at,
            "Keys": {"SessionId": {"S": SESSION}},
            "SequenceNumber": "442158",
            **{key: value for key, value in images.items() if value is not None},
        },
        **more,
    }


def event(stream_record: Any, *, not_before: int = 0) -> dict[str, Any]:
    """Return the event as JSON, without the members that all events of this module share."""
    classified = classify(stream_record, not_before=not_before)
    facts: dict[str, Any] = msgspec.to_builtins(classified)
    assert facts.pop("session_id") == SESSION
    assert facts.pop("user_id") == "ada"
    assert facts.pop("event_id") == f"{facts['recorded_at']}#{'442158':0>40}"
    return facts


def written(at: int, type: str, **facts: Any) -> dict[str, Any]:
    """Return an event of the API. It took effect when it was recorded, and has an actor."""
    by = {"actor": "writer", "request_id": "second"}
    return {"type": type, "at": at, "recorded_at": at, **by, **facts}


def removed(recorded_at: int, type: str, **facts: Any) -> dict[str, Any]:
    """Return the event of a removal.

    It has no actor, because the actor in the old image is an earlier writer.
    """
    nobody = {"actor": None, "request_id": None}
    return {"type": type, "at": recorded_at, "recorded_at": recorded_at, **nobody, **facts}


def nested(levels: int) -> Any:
    """Return lists in lists."""
    return [nested(levels - 1)] if levels else 1


BY = {"Actor": "writer", "RequestId": "second"}


def test_insert_is_created() -> None:
    actual = event(record("INSERT", new=image()))

    assert actual == written(NOW, "created", expires_at=NOW + 1800) | {
        "actor": "creator",
        "request_id": "first",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"SessionId": "by hand"},
        {"SessionId": UNKNOWN_SESSION},
        {"Client": {"ip": ""}},
        {"Client": {"ip": "<b>"}},
        {"Client": {"ip": "192.0.2.1", "user_agent": 7}},
        {"Client": {"user_agent": "x" * 513}},
        {"Data": {"": 1}},
        {"Data": {"k" * 256: 1}},
        {"Data": {"a": {"k" * 256: 1}}},
        {"Data": {"a": nested(30)}},
    ],
)
def test_item_that_no_call_could_have_created_is_tampered(change: Any) -> None:
    assert event(record("INSERT", new=image(**change)))["type"] == "tampered"


@pytest.mark.parametrize(
    "change",
    [
        {"Client": {"ip": "::1"}},
        {"Client": {"user_agent": ""}},
        {"Client": {"ip": "192.0.2.1", "user_agent": "x" * 512}},
        {"Data": {"k" * 255: {"k" * 255: None}}},
        {"Data": {"a": nested(29)}},
        {"Data": {}},
    ],
)
def test_item_at_the_bounds_of_a_call_is_created(change: Any) -> None:
    new = image(**{name: {} for name in change}) | {
        name: TypeSerializer().serialize(value) for name, value in change.items()
    }

    assert event(record("INSERT", new=new))["type"] == "created"


REVOKED = {"ExpirationTime": NOW + 60, "RevokedAt": NOW + 60, "RevokedReason": "admin"}
GONE = {"Data": None, "Client": None, "TokenHash": None, "FamilyHash": None}
# Sessions after rotations: after the first one, after another one whose token is unseen, and after
# that token was seen.
ROTATED = {
    "TokenHash": NEXT,
    "PreviousTokenHash": NEWEST,
    "PreviousTokenUntil": NOW + 90,
    "PreviousTokenGrace": 30,
    "RetiredTokenHash": NEWEST,
    "RetiredTokenUntil": NOW + 90,
}
UNSEEN = {
    "PreviousTokenHash": FORMER,
    "PreviousTokenUntil": NOW + 30,
    "PreviousTokenGrace": 30,
    "RetiredTokenHash": RETIRED,
    "RetiredTokenUntil": NOW + 30,
}
SEEN = UNSEEN | {"PreviousTokenGrace": None}


YEAR = 400 * 86_400


def begun(window: int, lifetime: int = 86_400, at: int = NOW) -> dict[str, Any]:
    """Return the times of a session that begins at `at`."""
    return {
        "CreatedAt": at,
        "RenewedAt": at,
        "TtlSeconds": window,
        "ExpirationTime": at + window,
        "AbsoluteExpirationTime": at + lifetime,
        "RenewableUntil": at + lifetime - window,
    }


@pytest.mark.parametrize(
    ("times", "type"),
    [
        (begun(1), "created"),
        (begun(0), "tampered"),
        (begun(86_400), "created"),
        (begun(86_401), "tampered"),
        (begun(1, YEAR), "created"),
        (begun(1, YEAR + 1), "tampered"),
        (begun(1800, at=NOW + 60), "created"),
        (begun(1800, at=NOW + 61), "tampered"),
        (begun(1800, at=NOW - 60), "created"),
        (begun(1800, at=NOW - 61), "tampered"),
    ],
)
def test_bounds_of_a_creation(times: Any, type: str) -> None:
    assert event(record("INSERT", new=image(**times)))["type"] == type


def revoked(at: int) -> dict[str, Any]:
    return GONE | {"ExpirationTime": at, "RevokedAt": at, "RevokedReason": "admin"}


def rotated(at: int, grace: int = 30, retired: int | None = None) -> dict[str, Any]:
    """Return the changes of the first rotation of a session."""
    return {
        "TokenHash": NEXT,
        "PreviousTokenHash": NEWEST,
        "PreviousTokenUntil": at + grace,
        "PreviousTokenGrace": grace or None,
        "RetiredTokenHash": NEWEST,
        "RetiredTokenUntil": at + (grace if retired is None else retired),
    }


def renewed(at: int, window: int = 1800, end: int = NOW + 86_400) -> dict[str, Any]:
    return {
        "RenewedAt": at,
        "TtlSeconds": window,
        "ExpirationTime": min(at + window, end),
        "AbsoluteExpirationTime": end,
        "RenewableUntil": end - window,
    }


def lost(until: int, **others: Any) -> dict[str, Any]:
    """Return the attributes of a session whose newest token nobody has used."""
    return UNSEEN | {"PreviousTokenUntil": until} | others


def replaced(at: int) -> dict[str, Any]:
    """Return the changes of a rotation for the owner of the former token, which replaces the lost
    one.
    """
    return rotated(at) | {"PreviousTokenHash": FORMER}


def shifted(at: int, grace: int = 30) -> dict[str, Any]:
    """Return the changes of a rotation of the newest token, if the session was rotated before."""
    return rotated(at, grace, None if grace else 30) | {"RetiredTokenHash": FORMER}


def seen(at: int, grace: int = 30) -> dict[str, Any]:
    return {"PreviousTokenUntil": at + grace, "PreviousTokenGrace": None}


OTHER = {"FamilyHash": RETIRED}
AT = NOW + 300
EXPIRES, DEAD = {"ExpirationTime": AT + 1}, {"ExpirationTime": AT}


@pytest.mark.parametrize(
    ("old", "change", "late", "type"),
    [
        ({}, revoked(AT), 60, "revoked"),
        ({}, revoked(AT), 61, "tampered"),
        ({}, revoked(AT), -60, "revoked"),
        ({}, revoked(AT), -61, "tampered"),
        ({"ExpirationTime": AT - 59}, revoked(AT), 0, "revoked"),
        ({"ExpirationTime": AT - 60}, revoked(AT), 0, "tampered"),
        ({"CreatedAt": NOW - 9}, revoked(AT), 0, "revoked"),
        ({}, rotated(AT), 60, "rotated"),
        ({}, rotated(AT), 61, "tampered"),
        ({}, rotated(AT), -60, "rotated"),
        ({}, rotated(AT), -61, "tampered"),
        (EXPIRES, rotated(AT), 0, "rotated"),
        (DEAD, rotated(AT), 0, "tampered"),
        ({}, rotated(AT, 1), 0, "rotated"),
        ({}, rotated(AT, 3600), 0, "rotated"),
        ({}, rotated(AT, 3601), 0, "tampered"),
        ({}, rotated(AT, 30, 31), 0, "tampered"),
        ({}, rotated(AT, 30, 29), 0, "tampered"),
        ({}, rotated(AT, 0, 0), 0, "tampered"),
        ({}, rotated(AT, 0, 1), 0, "rotated"),
        ({}, rotated(AT, 0, 3600), 0, "rotated"),
        ({}, rotated(AT, 0, 3601), 0, "tampered"),
        ({}, rotated(AT, 0, 30) | {"PreviousTokenGrace": 0}, 0, "tampered"),
        ({}, rotated(AT) | {"TokenHash": NEWEST}, 0, "tampered"),
        ({"TokenHash": None}, rotated(AT), 0, "tampered"),
        (
            {"TokenHash": None},
            rotated(AT) | {"PreviousTokenHash": None, "RetiredTokenHash": None},
            0,
            "tampered",
        ),
        ({"TokenHash": "text"}, rotated(AT), 0, "tampered"),
        ({}, rotated(AT) | {"TokenHash": "text"}, 0, "tampered"),
        ({}, rotated(AT) | {"TokenHash": b"short"}, 0, "tampered"),
        ({}, rotated(AT) | {"FamilyHash": "text"}, 0, "tampered"),
        ({}, rotated(AT) | OTHER, 0, "rotated"),
        (lost(AT), shifted(AT) | {"TokenHash": FORMER}, 0, "tampered"),
        (lost(AT), shifted(AT) | {"TokenHash": RETIRED}, 0, "tampered"),
        # A rotation with a token is possible during a grace period. The store can't check whether a
        # caller that sends its own hash has kept the family.
        (lost(AT + 9), shifted(AT), 0, "rotated"),
        (lost(AT + 9), shifted(AT) | OTHER, 0, "rotated"),
        (SEEN | {"PreviousTokenUntil": AT + 1}, shifted(AT) | OTHER, 0, "rotated"),
        # A newest token that nobody has used can be replaced after its grace period.
        (lost(AT), replaced(AT), 0, "rotated"),
        (lost(AT), replaced(AT) | OTHER, 0, "rotated"),
        (lost(AT + 1), replaced(AT), 0, "tampered"),
        (SEEN | {"PreviousTokenUntil": AT}, replaced(AT), 0, "tampered"),
        (UNSEEN | {"PreviousTokenHash": None}, replaced(AT), 0, "tampered"),
        (
            UNSEEN | {"PreviousTokenHash": None},
            replaced(AT) | {"PreviousTokenHash": None},
            0,
            "tampered",
        ),
        (UNSEEN | {"PreviousTokenHash": "text"}, rotated(AT), 0, "tampered"),
        ({"ExpirationTime": AT - 59}, {"Version": 2}, 0, "updated"),
        ({"ExpirationTime": AT - 60}, {"Version": 2}, 0, "tampered"),
        ({}, {"Version": 2, "Data": {"a": b"x"}}, 0, "tampered"),
        ({}, {"Version": 2, "Data": {"a": [{"b": b"x"}]}}, 0, "tampered"),
        ({"Data": {"a": b"x"}}, {"Version": 2, "Data": {"a": b"x", "b": 1}}, 0, "updated"),
        ({"Data": "text"}, {"Version": 2, "Data": {}}, 0, "tampered"),
        (UNSEEN, seen(AT), 60, "confirmed"),
        (UNSEEN, seen(AT), 61, "tampered"),
        (UNSEEN, seen(AT), -60, "confirmed"),
        (UNSEEN, seen(AT), -61, "tampered"),
        (UNSEEN | EXPIRES, seen(AT), 0, "confirmed"),
        (UNSEEN | DEAD, seen(AT), 0, "tampered"),
        (UNSEEN | {"PreviousTokenGrace": 3600}, seen(AT, 3600), 0, "confirmed"),
        (UNSEEN | {"PreviousTokenGrace": 3601}, seen(AT, 3601), 0, "tampered"),
        (UNSEEN | {"PreviousTokenGrace": 0}, seen(AT, 0), 0, "tampered"),
        (UNSEEN, seen(AT) | renewed(AT), 0, "confirmed"),
        (UNSEEN, seen(AT) | renewed(AT + 1), 0, "tampered"),
        (UNSEEN, seen(AT) | renewed(AT, 600), 0, "tampered"),
        (UNSEEN, {"PreviousTokenUntil": AT + 30, "PreviousTokenGrace": 29}, 0, "tampered"),
        ({}, renewed(AT), 60, "renewed"),
        ({}, renewed(AT), 61, "tampered"),
        ({}, renewed(AT), -60, "renewed"),
        ({}, renewed(AT), -61, "tampered"),
        (EXPIRES, renewed(AT), 0, "renewed"),
        (DEAD, renewed(AT), 0, "tampered"),
        ({"RenewedAt": AT}, renewed(AT), 0, "renewed"),
        ({"RenewedAt": AT + 1}, renewed(AT), 0, "tampered"),
        ({}, renewed(AT, 1), 0, "renewed"),
        ({}, renewed(AT, 0), 0, "tampered"),
        ({}, renewed(AT, YEAR), 0, "renewed"),
        ({}, renewed(AT, YEAR + 1), 0, "tampered"),
        ({}, renewed(AT) | {"LastClient": {"ip": "192.0.2.1"}}, 0, "renewed"),
        ({}, renewed(AT) | {"LastClient": {"user_agent": "x" * 128}}, 0, "renewed"),
        ({}, renewed(AT) | {"LastClient": {"user_agent": "x" * 129}}, 0, "tampered"),
        ({}, renewed(AT) | {"LastClient": {"user_agent": 7}}, 0, "tampered"),
        ({}, renewed(AT) | {"LastClient": {}}, 0, "tampered"),
        ({}, renewed(AT, 600) | {"LastClient": {"ip": "192.0.2.1"}}, 0, "tampered"),
        ({"UserId": None}, renewed(AT, 60, AT + 60), 0, "renewed"),
        ({"UserId": None}, renewed(AT, 60, AT + 59), 0, "tampered"),
        ({"UserId": None}, renewed(AT, 60, NOW + 86_401), 0, "tampered"),
        ({"UserId": None}, renewed(AT, 86_101, NOW + 86_401), 0, "tampered"),
        ({"Version": None}, renewed(AT), 0, "tampered"),
        ({"Data": None}, renewed(AT), 0, "tampered"),
    ],
)
def test_bounds_of_a_change(old: Any, change: Any, late: int, type: str) -> None:
    """All values are consistent, and are at a limit or just beyond it."""
    before = image(**old)
    made = record("MODIFY", old=before, new=image(**old | BY | change), at=AT + late)

    assert classify(made, not_before=0).type == type


@pytest.mark.parametrize(("expired", "late"), [(AT + 1, UNSET), (AT, AT), (AT - 59, AT - 59)])
def test_revocation_of_an_expired_session_has_expired_at(expired: int, late: Any) -> None:
    made = record("MODIFY", old=image(ExpirationTime=expired), new=image(**BY | revoked(AT)), at=AT)

    assert classify(made, not_before=0).expired_at == late


@pytest.mark.parametrize(
    ("change", "type", "facts"),
    [
        (REVOKED | GONE, "revoked", {"reason": "admin"}),
        (ROTATED, "rotated", {}),
        (
            {"Version": 2, "Data": {"theme": "light", "new": 1}},
            "updated",
            {"changed": ["new", "theme"]},
        ),
        ({"Version": 2, "Data": {}}, "updated", {"changed": ["theme"]}),
        ({"Version": 2}, "updated", {"changed": []}),
        (
            {"ExpirationTime": NOW + 1860, "RenewedAt": NOW + 60},
            "renewed",
            {"expires_at": NOW + 1860},
        ),
    ],
)
def test_changes_by_the_api(change: dict[str, Any], type: str, facts: dict[str, Any]) -> None:
    actual = event(record("MODIFY", old=image(), new=image(**BY, **change), at=NOW + 60))

    assert actual == written(NOW + 60, type, **facts)


def test_renewal_within_a_second_is_a_renewal() -> None:
    """Only the writer has changed."""
    actual = event(record("MODIFY", old=image(), new=image(**BY)))

    assert actual == written(NOW, "renewed", expires_at=NOW + 1800)


def test_renewal_that_changes_the_window_has_changed() -> None:
    change = {
        "ExpirationTime": NOW + 660,
        "RenewedAt": NOW + 60,
        "TtlSeconds": 600,
        "RenewableUntil": NOW + 85_800,
    }

    actual = event(record("MODIFY", old=image(), new=image(**BY, **change), at=NOW + 60))

    assert actual == written(NOW + 60, "renewed", expires_at=NOW + 660, changed=["TtlSeconds"])


@pytest.mark.parametrize("state", [{}, UNSEEN, SEEN])
@pytest.mark.parametrize("grace", [0, 1, 30, 3600])
def test_rotation_of_the_newest_token_shifts_the_others(state: Any, grace: int) -> None:
    """This is possible during a grace period. The event has no hashes."""
    old = image(**state)
    former = state.get("PreviousTokenHash", NEWEST)
    change = {
        "TokenHash": NEXT,
        "PreviousTokenHash": NEWEST,
        "PreviousTokenUntil": NOW + 60 + grace,
        "PreviousTokenGrace": grace or None,
        "RetiredTokenHash": former,
        "RetiredTokenUntil": NOW + 60 + (grace or 30),
    }

    actual = event(record("MODIFY", old=old, new=image(**state | BY | change), at=NOW + 60))

    assert actual == written(NOW + 60, "rotated")


REPLACED = UNSEEN | {
    "TokenHash": NEXT,
    "RetiredTokenHash": NEWEST,
    "PreviousTokenUntil": NOW + 90,
    "RetiredTokenUntil": NOW + 90,
}


def test_rotation_by_the_former_token_replaces_the_newest() -> None:
    """The answer with the newest token was lost: nobody has used it, and its grace period is
    over.
    """
    actual = event(record("MODIFY", old=image(**UNSEEN), new=image(**REPLACED | BY), at=NOW + 60))

    assert actual == written(NOW + 60, "rotated")


@pytest.mark.parametrize(
    "old",
    [
        pytest.param(SEEN, id="seen"),
        pytest.param(UNSEEN | {"PreviousTokenUntil": NOW + 60 + 61}, id="its grace runs"),
    ],
)
def test_newest_token_is_not_replaced_otherwise(old: Any) -> None:
    """Somebody who wrote such a token into the table could use it as the newest one."""
    new = image(**REPLACED | BY)

    actual = event(record("MODIFY", old=image(**old), new=new, at=NOW + 60))

    assert actual["type"] == "tampered"


@pytest.mark.parametrize(
    "change",
    [
        {"TokenHash": b"short"},
        {"TokenHash": "text"},
        {"TokenHash": FORMER},
        {"TokenHash": RETIRED},
        {"TokenHash": None},
        {"FamilyHash": None},
        {"FamilyHash": b"short"},
        {"PreviousTokenHash": FORMER},
        {"PreviousTokenHash": NEXT},
        {"RetiredTokenHash": RETIRED},
        {"RetiredTokenHash": NEWEST},
        {"RetiredTokenHash": None},
        {"PreviousTokenUntil": NOW + 90 + 61},
        {"PreviousTokenUntil": NOW + 90 - 61},
        {"PreviousTokenUntil": None},
        {"RetiredTokenUntil": NOW + 90 + 61},
        {"RetiredTokenUntil": NOW + 90 - 61},
        {"RetiredTokenUntil": None},
        {"PreviousTokenGrace": 0},
        {"PreviousTokenGrace": -1},
        {"PreviousTokenGrace": "30"},
        {"PreviousTokenGrace": 3601, "PreviousTokenUntil": NOW + 3661},
        {"ExpirationTime": NOW + 9999},
        {"UserId": "eve"},
    ],
)
def test_no_other_shift_of_tokens_is_a_rotation(change: Any) -> None:
    made = UNSEEN | ROTATED | {"RetiredTokenHash": FORMER}
    assert _type_of_rotation(made) == "rotated"

    assert _type_of_rotation(made | change) == "tampered"


def _type_of_rotation(new: dict[str, Any]) -> Any:
    old = image(**UNSEEN)
    made = record("MODIFY", old=old, new=image(**BY | new), at=NOW + 60)
    return classify(made, not_before=0).type


CONFIRMED = {"PreviousTokenUntil": NOW + 60 + 30, "PreviousTokenGrace": None}


@pytest.mark.parametrize("late", [-60, 0, 60])
def test_first_use_of_the_newest_token_is_confirmed(late: int) -> None:
    at = NOW + 60 + late

    actual = event(
        record("MODIFY", old=image(**UNSEEN), new=image(**UNSEEN | BY | CONFIRMED), at=at)
    )

    assert actual == written(at, "confirmed")


def test_first_use_with_a_renewal_has_expires_at() -> None:
    renewal = {
        "RenewedAt": NOW + 60,
        "ExpirationTime": NOW + 1860,
        "LastClient": {"ip": "203.0.113.8"},
    }
    new = image(**UNSEEN | BY | CONFIRMED | renewal)

    actual = event(record("MODIFY", old=image(**UNSEEN), new=new, at=NOW + 60))

    assert actual == written(NOW + 60, "confirmed", expires_at=NOW + 1860)


@pytest.mark.parametrize(
    ("old", "change"),
    [
        pytest.param({}, {"PreviousTokenUntil": NOW + 90 + 61}, id="a longer grace"),
        pytest.param({}, {"PreviousTokenUntil": NOW + 90 - 61}, id="a shorter grace"),
        pytest.param({}, {"PreviousTokenUntil": None}, id="no end of the grace"),
        pytest.param({}, {"PreviousTokenGrace": 9}, id="still unseen"),
        pytest.param({"PreviousTokenGrace": None}, {"PreviousTokenGrace": 30}, id="unseen again"),
        pytest.param({}, {"PreviousTokenHash": NEXT}, id="another former token"),
        pytest.param({}, {"RetiredTokenHash": NEXT}, id="another retired token"),
        pytest.param({}, {"RetiredTokenUntil": NOW + 999}, id="a retired token's time"),
        pytest.param({}, {"FamilyHash": NEXT}, id="another family"),
        pytest.param({}, {"Data": {}}, id="data"),
        pytest.param({}, {"Data": {}, "Version": 2}, id="data of another version"),
        pytest.param({}, {"ExpirationTime": NOW + 9999}, id="a later end"),
        pytest.param({}, {"UserId": None}, id="no user"),
        pytest.param(
            {},
            {
                "RenewedAt": NOW + 60,
                "ExpirationTime": NOW + 660,
                "TtlSeconds": 600,
                "RenewableUntil": NOW + 85_800,
            },
            id="another window",
        ),
        pytest.param({"ExpirationTime": NOW - 1}, {"ExpirationTime": NOW - 1}, id="expired"),
    ],
)
def test_no_other_change_is_the_first_use_of_a_token(old: Any, change: Any) -> None:
    new = image(**UNSEEN | BY | CONFIRMED | change)

    actual = classify(
        record("MODIFY", old=image(**UNSEEN | old), new=new, at=NOW + 60), not_before=0
    )

    assert actual.type == "tampered"


LAST_WINDOW = {
    "UserId": None,
    "RenewedAt": NOW + 60,
    "ExpirationTime": NOW + 120,
    "AbsoluteExpirationTime": NOW + 120,
    "TtlSeconds": 60,
    "RenewableUntil": NOW + 60,
}


def final(**change: Any) -> Any:
    new = image(**BY | LAST_WINDOW | change)
    made = record("MODIFY", old=image(UserId=None), new=new, at=NOW + 60)
    return classify(made, not_before=0)


def test_last_window_of_a_visitor_is_a_renewal_with_changed() -> None:
    actual = final()

    assert (actual.type, actual.expires_at) == ("renewed", NOW + 120)
    assert actual.changed == ["AbsoluteExpirationTime", "TtlSeconds"]


@pytest.mark.parametrize(
    "change",
    [
        {"UserId": "ada"},
        {"AbsoluteExpirationTime": NOW + 86_401, "RenewableUntil": NOW + 86_341},
        {"AbsoluteExpirationTime": NOW + 121, "RenewableUntil": NOW + 61},
        {"AbsoluteExpirationTime": NOW + 119, "RenewableUntil": NOW + 59},
        {"RenewableUntil": NOW + 84_600},
        {"AbsoluteExpirationTime": None},
    ],
)
def test_absolute_end_moves_in_no_other_way(change: Any) -> None:
    assert final(**change).type == "tampered"


def test_user_gets_no_last_window() -> None:
    new = image(**BY | LAST_WINDOW | {"UserId": "ada"})

    actual = event(record("MODIFY", old=image(), new=new, at=NOW + 60))

    assert actual["type"] == "tampered"


@pytest.mark.parametrize(
    ("type", "changed", "kept"),
    [
        ("renewed", UNSET, False),
        ("renewed", ["TtlSeconds"], True),
        ("updated", ["theme"], False),
        ("rotated", UNSET, True),
        ("confirmed", UNSET, False),
        ("created", UNSET, True),
    ],
)
def test_trail_keeps_all_events_that_are_not_excluded(type: str, changed: Any, kept: bool) -> None:
    """A renewal that changes the window is always kept."""
    made = record("INSERT", new=image())
    change_event = msgspec.structs.replace(classify(made, not_before=0), type=type, changed=changed)

    unrecorded = ["renewed", "updated", "confirmed"]
    assert is_kept(change_event, made, unrecorded, record_anonymous=False) is kept
    assert is_kept(change_event, made, [""], record_anonymous=False)


@pytest.mark.parametrize(
    ("renewal", "unrecorded", "kept"),
    [
        (False, ["confirmed"], False),
        (False, ["renewed"], True),
        (True, ["renewed", "confirmed"], False),
        (True, ["confirmed"], True),
        (True, ["renewed"], True),
        (True, [], True),
    ],
)
def test_first_use_of_a_token_that_also_renewed_is_of_both_types(
    renewal: bool, unrecorded: list[str], kept: bool
) -> None:
    """A trail with renewals contains it, too."""
    at = NOW + 200
    seen = {"PreviousTokenUntil": at + 30, "PreviousTokenGrace": None}
    renewed = {"RenewedAt": at, "ExpirationTime": at + 1800} if renewal else {}
    new = image(**UNSEEN | BY | seen | renewed)
    made = record("MODIFY", old=image(**UNSEEN), new=new, at=at)

    actual = classify(made, not_before=0)

    assert actual.type == "confirmed"
    assert is_kept(actual, made, unrecorded, record_anonymous=False) is kept


@pytest.mark.parametrize("type", LIFE + ALARMS)
def test_trail_always_keeps_alarming_events_of_anonymous_sessions(type: str) -> None:
    """With the setting, it keeps the same events as for other sessions."""
    made = record("INSERT", new=image(UserId=None))
    change_event = msgspec.structs.replace(classify(made, not_before=0), type=type)

    unrecorded = ["renewed", "confirmed"]
    assert is_kept(change_event, made, unrecorded, record_anonymous=False) is (type in ALARMS)
    assert is_kept(change_event, made, unrecorded, record_anonymous=True) is (
        type not in unrecorded
    )


@pytest.mark.parametrize(
    "new", [{}, image() | {"UserId": {"L": []}}, image() | {"UserId": {"S": ""}}]
)
def test_unreadable_user_does_not_make_the_session_anonymous(new: Any) -> None:
    """Otherwise a malformed `UserId` would hide a session from the trail."""
    made = record("INSERT", new=new)
    actual = classify(made, not_before=0)

    assert (actual.type, actual.user_id) == ("tampered", None)
    assert is_kept(actual, made, ["renewed"], record_anonymous=False)


@pytest.mark.parametrize("change", [{"UserId": None}, {"UserId": None, "RevokedAt": NOW}])
def test_removing_the_user_does_not_hide_a_session(change: Any) -> None:
    """The event is kept in the user's trail."""
    made = record("MODIFY", old=image(), new=image(**BY, **change))

    actual = classify(made, not_before=0)

    assert (actual.type, actual.user_id) == ("tampered", "ada")
    assert "UserId" in (actual.changed or [])
    assert is_kept(actual, made, ["renewed"], record_anonymous=False)


def test_change_of_the_user_is_in_the_trails_of_both() -> None:
    """No user's trail misses it, and a repeated delivery makes the same two events."""
    made = record("MODIFY", old=image(), new=image(**BY, UserId="eve"))

    both = events_in(made, not_before=0)

    assert [(one.type, one.user_id) for one in both] == [
        ("tampered", "eve"),
        ("tampered", "ada"),
    ]
    assert both[0].changed == both[1].changed == ["Actor", "RequestId", "UserId"]
    assert both[0].event_id == f"{NOW}#{'442158':0>40}"
    assert re.fullmatch(f"{NOW}#[0-9]{{40}}", both[1].event_id)
    assert both[0].event_id != both[1].event_id
    assert events_in(made, not_before=0) == both
    assert all(is_kept(one, made, [], record_anonymous=False) for one in both)


@pytest.mark.parametrize("new", [image(**BY, UserId=None), image(**BY, Extra=1), image(**BY)])
def test_other_changes_are_one_event(new: Any) -> None:
    [only] = events_in(record("MODIFY", old=image(), new=new), not_before=0)

    assert only.user_id == "ada"


@pytest.mark.parametrize("user_id", [{"S": "\ud800"}, {"S": 7}, "text", None])
def test_former_user_that_can_not_be_read_breaks_nothing(user_id: Any) -> None:
    """Such a record only comes from somebody who calls the function with a forged record."""
    made = record("MODIFY", old=image() | {"UserId": user_id}, new=image(**BY))

    [only] = events_in(made, not_before=0)

    assert only.type in ("tampered", "unreadable")


def test_giving_an_anonymous_session_a_user_is_tampering() -> None:
    """It would be a log-in."""
    made = record("MODIFY", old=image(UserId=None), new=image(**BY))

    [actual] = events_in(made, not_before=0)

    assert (actual.type, actual.user_id, actual.changed) == (
        "tampered",
        "ada",
        ["Actor", "RequestId", "UserId"],
    )
    assert is_kept(actual, made, ["renewed"], record_anonymous=False)


def test_log_out_after_the_expiry_has_the_time_of_the_expiry() -> None:
    old = image(ExpirationTime=NOW + 50)

    actual = event(record("MODIFY", old=old, new=image(**BY, **REVOKED, **GONE), at=NOW + 60))

    assert actual == written(NOW + 60, "revoked", reason="admin", expired_at=NOW + 50)


def test_change_without_a_new_request_is_tampering() -> None:
    """This is true for every change, even a revival or a revocation.

    The actor in the item has not made it.
    """
    change = {"ExpirationTime": NOW + 10**6, "Data": {"role": "admin"}, "RevokedAt": NOW}

    actual = event(record("MODIFY", old=image(), new=image(**change), at=NOW + 60))

    assert actual == removed(NOW + 60, "tampered", changed=["Data", "ExpirationTime", "RevokedAt"])


def test_ttl_removal_is_expired_at_its_logical_end() -> None:
    actual = event(record("REMOVE", old=image(), at=NOW + 1800 + 540, **TTL))

    assert actual == removed(
        NOW + 2340, "expired", cause="idle", removed_by="ttl", ttl_lag_seconds=540
    ) | {"at": NOW + 1800}


@pytest.mark.parametrize(
    ("not_before", "cause", "at"),
    [
        (NOW, "idle", NOW + 1800),
        (NOW + 1, "not_before", NOW + 1),
        (NOW + 1799, "not_before", NOW + 1799),
        (NOW + 1800, "idle", NOW + 1800),
    ],
)
def test_session_that_not_before_ended_has_that_time(not_before: int, cause: str, at: int) -> None:
    """It was dead from that time on, no matter how long its item stayed."""
    actual = event(record("REMOVE", old=image(), at=NOW + 2000, **TTL), not_before=not_before)

    assert (actual["type"], actual["cause"], actual["at"]) == ("expired", cause, at)


def test_cause_is_absolute_or_idle() -> None:
    old = image(ExpirationTime=NOW + 86_400)

    assert event(record("REMOVE", old=old, at=NOW + 90_000, **TTL))["cause"] == "absolute"


@pytest.mark.parametrize(
    "identity",
    [
        {},
        {"userIdentity": None},
        {"userIdentity": {"type": "Service", "principalId": "other.amazonaws.com"}},
        {"userIdentity": {"type": "User", "principalId": "dynamodb.amazonaws.com"}},
        {"userIdentity": "dynamodb.amazonaws.com"},
    ],
)
def test_expired_session_may_be_removed_by_someone_else(identity: dict[str, Any]) -> None:
    """In a replica's region, TTL's deletions have no identity either."""
    actual = event(record("REMOVE", old=image(), at=NOW + 1800, **identity))

    assert (actual["type"], actual["removed_by"]) == ("expired", "unknown")
    assert "ttl_lag_seconds" not in actual


@pytest.mark.parametrize(
    ("identity", "facts"),
    [(TTL, {"removed_by": "ttl", "ttl_lag_seconds": 40}), ({}, {"removed_by": "unknown"})],
)
def test_removal_of_a_revoked_session_is_purged(
    identity: dict[str, Any], facts: dict[str, Any]
) -> None:
    actual = event(record("REMOVE", old=image(**REVOKED, **GONE), at=NOW + 100, **identity))

    assert actual == removed(NOW + 100, "purged", **facts)


@pytest.mark.parametrize("identity", [{}, TTL], ids=["someone", "ttl"])
@pytest.mark.parametrize(
    "expiration", [NOW + 1800, str(NOW - 1800), None, "soon"], ids=["live", "text", "none", "word"]
)
def test_removal_of_a_live_or_malformed_session_is_deleted(
    expiration: Any, identity: dict[str, Any]
) -> None:
    actual = event(record("REMOVE", old=image(ExpirationTime=expiration), at=NOW, **identity))

    assert actual == removed(NOW, "deleted")


def test_many_names_are_cut_and_counted() -> None:
    names = {f"k{i:03d}": i for i in range(150)}
    change = {"Version": 2, "Data": {"theme": "dark"} | names}

    actual = event(record("MODIFY", old=image(), new=image(**BY, **change)))

    assert actual["changed"] == sorted(names)[:100]
    assert actual["changed_count"] == 150


def test_hundred_names_are_not_counted() -> None:
    names = {f"k{i:03d}": i for i in range(100)}
    change = {"Version": 2, "Data": {"theme": "dark"} | names}

    actual = event(record("MODIFY", old=image(), new=image(**BY, **change)))

    assert actual["changed"] == sorted(names)
    assert "changed_count" not in actual


@pytest.mark.parametrize("character", ["k", "😀", "\x01"], ids=["short", "long", "escaped"])
def test_event_with_the_longest_texts_fits_into_64_kb(character: str) -> None:
    """EventBridge bills 64 KB as one event, and accepts 256 KB.

    `changed_count` shows that names were cut.
    """
    key = character * (2048 // len(character.encode()))
    names = {f"{i:03d}{character * 5000}": i for i in range(100)}
    by = {"Actor": character * 5000, "RequestId": character * 5000}
    new = image(UserId=key, Version=2, Data={"theme": "dark"} | names, **by)
    change = record("MODIFY", old=image(UserId=key), new=new)
    change["dynamodb"]["Keys"]["SessionId"]["S"] = key

    actual = classify(change, not_before=0)

    assert (actual.type, actual.session_id, actual.user_id) == ("updated", key, key)
    assert isinstance(actual.changed, list)
    assert 9 <= len(actual.changed) < 100
    assert actual.changed == [name[:512] for name in sorted(names)][: len(actual.changed)]
    assert actual.changed_count == 100
    assert 30_000 < len(msgspec.json.encode(actual)) < 64 * 1024


@pytest.mark.parametrize("user_id", [7, "", "x" * 2049, None, ["ada"]])
def test_user_that_is_too_long_for_an_index_key_is_left_out(user_id: Any) -> None:
    new = image(UserId=user_id)

    actual = classify(record("INSERT", new=new), not_before=0)

    assert (actual.type, actual.user_id) == ("created" if user_id is None else "tampered", None)


def test_very_long_texts_are_cut() -> None:
    """An event must fit into an item."""
    new = image(Actor="a" * 300_000, RequestId="r" * 300_000)

    actual = classify(record("INSERT", new=new), not_before=0)

    assert len(msgspec.json.encode(actual)) < 2000


def test_very_long_names_are_cut() -> None:
    actual = event(record("MODIFY", old=image(), new=image(**{"n" * 60_000: 1})))

    assert actual["type"] == "tampered"
    assert len(msgspec.json.encode(actual)) < 2000


def test_text_that_is_not_valid_unicode_is_readable() -> None:
    new = image()
    new["Actor"] = {"S": "a\ud800"}

    assert event(record("INSERT", new=new))["actor"] == "a?"


def bare(**change: Any) -> dict[str, Any]:
    broken = record("INSERT", new=image())
    for name, value in change.items():
        if value is None:
            broken["dynamodb"].pop(name, None)
            broken.pop(name, None)
        else:
            broken["dynamodb" if name in broken["dynamodb"] else name] = (
                {**broken["dynamodb"], name: value} if name in broken["dynamodb"] else value
            )
    return broken


@pytest.mark.parametrize(
    "broken",
    [
        bare(eventName=None),
        bare(eventName="UNKNOWN_TO_SDK_VERSION"),
        bare(SequenceNumber=None),
        bare(SequenceNumber="x"),
        bare(SequenceNumber=12),
        bare(SequenceNumber="1" * 41),
        bare(ApproximateCreationDateTime=None),
        bare(ApproximateCreationDateTime="soon"),
        bare(ApproximateCreationDateTime=float("inf")),
        bare(ApproximateCreationDateTime=-1),
        bare(ApproximateCreationDateTime=10**10),
        bare(NewImage=[1]),
        bare(NewImage={"UserId": "ada"}),
    ],
)
def test_record_that_can_not_be_read_is_unreadable(broken: Any) -> None:
    actual = classify(broken, not_before=0)

    assert (actual.type, actual.session_id) == ("unreadable", SESSION)
    assert actual == classify(broken, not_before=0)
    assert re.fullmatch("[0-9]{10}#[0-9]{40}", actual.event_id)


def test_unreadable_event_has_the_time_of_its_record() -> None:
    actual = classify(bare(eventName=None), not_before=0)

    assert (actual.at, actual.recorded_at, actual.event_id[:10]) == (NOW, NOW, str(NOW))


@pytest.mark.parametrize(
    "broken",
    [
        {},
        None,
        "record",
        {"dynamodb": None},
        {"dynamodb": {"Keys": None}},
        bare(Keys=None),
        bare(Keys={}),
        bare(Keys={"SessionId": {"S": ""}}),
        bare(Keys={"SessionId": {"S": "\ud800"}}),
        bare(Keys={"SessionId": {"S": "x" * 3000}}, eventName=None),
        bare(Keys={"SessionId": {"N": "1"}}),
    ],
)
def test_record_without_a_session_id_is_recorded(broken: Any) -> None:
    actual = classify(broken, not_before=0)

    assert (actual.type, actual.session_id) == ("unreadable", UNKNOWN_SESSION)


def test_two_unreadable_records_are_two_events() -> None:
    one, other = bare(SequenceNumber="x"), bare(SequenceNumber="y")

    first, second = (classify(stream_record, not_before=0) for stream_record in (one, other))

    assert first.event_id != second.event_id


def test_events_sort_by_time_then_by_the_streams_order() -> None:
    """They are sorted as strings, with sequence numbers of different lengths."""
    ids = []
    for at, sequence in [(NOW, "9"), (NOW, "10"), (NOW + 1, "1")]:
        stream_record = record("INSERT", new=image(), at=at)
        stream_record["dynamodb"]["SequenceNumber"] = sequence
        actual = classify(stream_record, not_before=0)
        ids.append(actual.event_id)

    assert ids == sorted(ids)


# Who acts as the user, and how the user has proved who they are.

AGENT = {"id": "grace", "reason": "ticket-42"}
PROVED = {"AuthenticatedAt": NOW, "Methods": ["pwd"]}


def stepped_up(at: int, methods: Any = ("otp",), **previous: Any) -> dict[str, Any]:
    """Return the changes of the first step-up of a session."""
    return (
        rotated(at)
        | {"AuthenticatedAt": at, "Methods": list(methods)}
        | {"PreviousAuthenticatedAt": NOW, "PreviousMethods": ["pwd"]}
        | previous
    )


def kind_of(old: dict[str, Any], change: dict[str, Any]) -> Any:
    stream_record = record("MODIFY", old=image(**old), new=image(**old | change | BY), at=AT)
    return event(stream_record)


def test_step_up_has_its_methods() -> None:
    assert kind_of(PROVED, stepped_up(AT, ("otp", "hwk"))) == written(
        AT, "authenticated", methods=["otp", "hwk"]
    )


def test_step_up_of_a_session_from_an_earlier_version() -> None:
    """It counts as proved at its creation, in an unknown way."""
    assert kind_of({}, stepped_up(AT, PreviousMethods=[]))["type"] == "authenticated"
    assert kind_of({}, stepped_up(AT))["type"] == "tampered"
    assert kind_of({}, stepped_up(AT, PreviousAuthenticatedAt=AT))["type"] == "tampered"


@pytest.mark.parametrize(
    "change",
    [
        {"AuthenticatedAt": AT - 1},
        {"AuthenticatedAt": AT + 1},
        {"AuthenticatedAt": None},
        {"Methods": None},
        {"Methods": ["PWD"]},
        {"Methods": ["otp", "otp"]},
        {"Methods": [f"m{i}" for i in range(9)]},
        {"PreviousAuthenticatedAt": NOW + 1},
        {"PreviousAuthenticatedAt": None},
        {"PreviousMethods": ["otp"]},
        {"PreviousMethods": None},
        {"PreviousAuthenticatedAt": None, "PreviousMethods": None},
        {"UserId": None},
        {"Impersonator": AGENT},
    ],
)
def test_any_other_step_up_is_tampered(change: Any) -> None:
    stream_record = record(
        "MODIFY", old=image(**PROVED), new=image(**PROVED | stepped_up(AT) | BY | change), at=AT
    )
    assert classify(stream_record, not_before=0).type == "tampered"


@pytest.mark.parametrize("who", [{"UserId": None}, {"Impersonator": AGENT}])
def test_nobody_else_steps_up(who: Any) -> None:
    old = who | {"AuthenticatedAt": None, "Methods": None}
    new = image(**old | stepped_up(AT, PreviousMethods=[]) | BY)

    assert classify(record("MODIFY", old=image(**old), new=new, at=AT), not_before=0).type == (
        "tampered"
    )


LOST_STEP_UP = lost(AT) | {
    "AuthenticatedAt": NOW + 200,
    "Methods": ["otp"],
    "PreviousAuthenticatedAt": NOW,
    "PreviousMethods": ["pwd"],
}
PUT_BACK = PROVED | {"PreviousAuthenticatedAt": None, "PreviousMethods": None}


@pytest.mark.parametrize(
    ("change", "type"),
    [
        (replaced(AT) | PUT_BACK, "rotated"),
        (replaced(AT), "tampered"),
        (replaced(AT) | {"PreviousAuthenticatedAt": None, "PreviousMethods": None}, "tampered"),
        (replaced(AT) | PUT_BACK | {"AuthenticatedAt": AT}, "tampered"),
        (replaced(AT) | {"AuthenticatedAt": AT, "Methods": ["hwk"]}, "authenticated"),
        (replaced(AT) | {"AuthenticatedAt": AT, "PreviousMethods": ["otp"]}, "tampered"),
        # The newest token keeps what it shows.
        (shifted(AT) | {"PreviousAuthenticatedAt": None, "PreviousMethods": None}, "rotated"),
        (shifted(AT) | PUT_BACK, "tampered"),
        (
            shifted(AT)
            | {"AuthenticatedAt": AT, "Methods": ["hwk"]}
            | {"PreviousAuthenticatedAt": NOW + 200, "PreviousMethods": ["otp"]},
            "authenticated",
        ),
        (shifted(AT) | {"AuthenticatedAt": AT, "Methods": ["hwk"]}, "tampered"),
    ],
)
def test_rotation_puts_back_what_the_presented_token_shows(change: Any, type: str) -> None:
    assert kind_of(LOST_STEP_UP, change)["type"] == type


@pytest.mark.parametrize(
    "proof",
    [
        {},
        PROVED,
        PROVED | {"AuthenticatedAt": NOW - YEAR, "Methods": []},
        {"Impersonator": AGENT},
    ],
)
def test_creation_says_who_acts(proof: Any) -> None:
    assert event(record("INSERT", new=image(**proof)))["type"] == "created"


@pytest.mark.parametrize(
    "proof",
    [
        PROVED | {"AuthenticatedAt": NOW + 1},
        PROVED | {"AuthenticatedAt": NOW - YEAR - 1},
        PROVED | {"Methods": None},
        PROVED | {"Methods": ["a b"]},
        PROVED | {"AuthenticatedAt": None},
        PROVED | {"PreviousAuthenticatedAt": NOW},
        PROVED | {"Impersonator": AGENT},
        {"Impersonator": {"id": "grace"}},
        {"Impersonator": AGENT | {"id": ""}},
        {"Impersonator": AGENT | {"reason": "Ticket 42"}},
        {"Impersonator": AGENT | {"more": "x"}},
        {"Impersonator": "grace"},
        {"Impersonator": AGENT, "UserId": None},
        PROVED | {"UserId": None},
    ],
)
def test_creation_with_any_other_proof_is_tampered(proof: Any) -> None:
    new = record("INSERT", new=image(**proof))

    assert classify(new, not_before=0).type == "tampered"


def test_every_event_names_the_impersonator() -> None:
    """Only the first one has the reason, which belongs to the session."""
    acting = image(Impersonator=AGENT)
    revoked_item = image(**GONE | REVOKED | BY, Impersonator=AGENT)
    created = event(record("INSERT", new=acting))
    assert created["impersonator"] == AGENT
    for stream_record in (
        record("MODIFY", old=acting, new=revoked_item, at=NOW + 60),
        record("MODIFY", old=acting, new=image(Impersonator=AGENT, Extra=1), at=NOW + 60),
        record("MODIFY", old=acting, new=image(**BY), at=NOW + 60),
        record("MODIFY", old=image(), new=image(**BY, Impersonator=AGENT), at=NOW + 60),
        record("REMOVE", old=acting, at=NOW + 60),
        record("REMOVE", old=acting, at=NOW + 1900, **TTL),
        record("REMOVE", old=revoked_item, at=NOW + 1900, **TTL),
    ):
        assert event(stream_record)["impersonator"] == {"id": "grace"}
    assert "impersonator" not in event(record("INSERT", new=image()))


@pytest.mark.parametrize("value", ["grace", {"id": 7}, {"reason": "support"}, ["grace"], {}])
def test_impersonator_that_can_not_be_read_is_left_out(value: Any) -> None:
    """The event must fit into the trail, whatever somebody has written."""
    assert "impersonator" not in event(record("INSERT", new=image(Impersonator=value)))


def test_long_impersonator_is_cut() -> None:
    made = event(record("INSERT", new=image(Impersonator={"id": "x" * 9999, "reason": "y" * 9999})))

    assert made["type"] == "tampered"
    assert made["impersonator"] == {"id": "x" * 512}
