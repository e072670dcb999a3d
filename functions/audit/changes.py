"""Identifies the write of the API that made a change of an item.

The rules mirror the writes in `sessions.store` and `sessions.table`: which attributes a write may
change, what its condition requires, and how the new values relate to each other and to the time of
record. A change that matches none of these rules was not made by the API.
"""

from __future__ import annotations

from typing import Any

from audit.event import UNKNOWN_SESSION
from audit.images import (
    changed_names,
    digest,
    is_client,
    is_json,
    members,
    number,
    text,
)
from sessions.authentication import AUTHENTICATION_ATTRIBUTES, has_previous, methods_attribute
from sessions.dynamodb import Attribute, Item
from sessions.lifetime import is_live
from sessions.lifetime import seconds as time_in
from sessions.limits import (
    MAX_GRACE_SECONDS,
    MAX_LAST_USER_AGENT,
    MAX_LIFETIME_SECONDS,
    MAX_METHODS,
    MAX_USER_AGENT,
    METHOD,
    REASON,
    SESSION_ID,
    USER_ID,
    WRITE_SECONDS,
)
from sessions.table import TOKEN_ATTRIBUTES

# The attributes that every creation writes.
_CREATED = {
    "SessionId",
    "ExpirationTime",
    "AbsoluteExpirationTime",
    "RenewableUntil",
    "TtlSeconds",
    "CreatedAt",
    "RenewedAt",
    "Version",
    "Data",
    "TokenHash",
    "FamilyHash",
    "Actor",
    "RequestId",
}
_CREATED_OPTIONALLY = {"UserId", "Client", "AuthenticatedAt", "Methods", "Impersonator"}
# The attributes that a write may change, besides `Actor` and `RequestId`.
_ROTATED = {*TOKEN_ATTRIBUTES, *AUTHENTICATION_ATTRIBUTES}
_REMOVED_BY_REVOCATION = {"Data", "Client", "LastClient"} | _ROTATED
_REVOKED = {"ExpirationTime", "RevokedAt", "RevokedReason"} | _REMOVED_BY_REVOCATION
_UPDATED = {"Data", "Version"}
_RENEWED_BY_VERIFY = {"ExpirationTime", "RenewedAt", "LastClient"}
_RENEWED = _RENEWED_BY_VERIFY | {"TtlSeconds", "RenewableUntil", "AbsoluteExpirationTime"}
_CONFIRMED = {"PreviousTokenUntil", "PreviousTokenGrace"}

Facts = dict[str, Any]


class _NotByApi(Exception):
    """No write of the API makes this change."""


def creation(new: Item, recorded_at: int) -> Facts:
    """Return the `type` and the other fields of the event for a new item.

    `recorded_at` is the time of the stream record, in epoch seconds.
    """
    try:
        return _creation(new, recorded_at)
    except _NotByApi:
        return {"type": "tampered"} | changed_names({}, new)


def modification(old: Item, new: Item, recorded_at: int, not_before: int) -> Facts:
    """Return the `type` and the other fields of the event for a change of an item.

    `recorded_at` is the time of the stream record. Sessions that were created before `not_before`
    are dead. Both times are in epoch seconds.
    """
    changed = {name for name, value in new.items() if old.get(name) != value}
    changed |= old.keys() - new.keys()
    try:
        if "RequestId" not in changed or "RevokedAt" in old:
            raise _NotByApi
        _require(_names_its_writer(new))
        changed -= {"Actor", "RequestId"}
        if "RevokedAt" in changed:
            return _revocation(old, new, changed, recorded_at)
        if "TokenHash" in changed:
            return _rotation(old, new, changed, recorded_at, not_before)
        if "Version" in changed:
            return _update(old, new, changed, recorded_at, not_before)
        if "PreviousTokenGrace" in changed:
            return _confirmation(old, new, changed, recorded_at, not_before)
        return _renewal(old, new, changed, recorded_at, not_before)
    except _NotByApi:
        return {"type": "tampered"} | changed_names(old, new)


def _creation(new: Item, recorded_at: int) -> Facts:
    at, window = _integer(new, "CreatedAt"), _integer(new, "TtlSeconds")
    expires_at, end = _integer(new, "ExpirationTime"), _integer(new, "AbsoluteExpirationTime")
    _require(
        new.keys() - _CREATED_OPTIONALLY == _CREATED
        and SESSION_ID.fullmatch(new["SessionId"].get("S", ""))
        and new["SessionId"] != {"S": UNKNOWN_SESSION}
        and ("UserId" not in new or USER_ID.fullmatch(new["UserId"].get("S", "")))
        and ("Client" not in new or is_client(new["Client"], MAX_USER_AGENT))
        and _names_who_acts(new)
        and is_json(new["Data"])
        and "M" in new["Data"]
        and _names_its_writer(new)
        and digest(new, "TokenHash")
        and digest(new, "FamilyHash")
        and _integer(new, "Version") == 1
        and _integer(new, "RenewedAt") == at
        and _is_recent(at, recorded_at)
        and 1 <= window <= end - at <= MAX_LIFETIME_SECONDS
        and expires_at == at + window
        and _integer(new, "RenewableUntil") == end - window
    )
    return {"type": "created", "expires_at": expires_at}


def _revocation(old: Item, new: Item, changed: set[str], recorded_at: int) -> Facts:
    at, expired_at = _integer(new, "RevokedAt"), time_in(old, "ExpirationTime")
    reason = text(new, "RevokedReason") or ""
    _require(
        changed <= _REVOKED
        and not new.keys() & _REMOVED_BY_REVOCATION
        and REASON.fullmatch(reason)
        and _integer(new, "ExpirationTime") == at
        and _is_recent(at, recorded_at)
        and expired_at > at - WRITE_SECONDS
    )
    late = {"expired_at": expired_at} if expired_at <= at else {}
    return {"type": "revoked", "reason": reason} | late


def _rotation(old: Item, new: Item, changed: set[str], recorded_at: int, not_before: int) -> Facts:
    """Accepts the shifts of tokens that `sessions.rotation` makes, and no others."""
    until, grace = _integer(new, "PreviousTokenUntil"), 0
    if "PreviousTokenGrace" in new:
        grace = _integer(new, "PreviousTokenGrace")
        _require(_is_grace(grace))
    at = until - grace
    retired_seconds = _integer(new, "RetiredTokenUntil") - at
    # Without a grace period, the former token is refused at once, and is retired for as long as the
    # deployment's default grace period.
    is_retired_in_time = retired_seconds == grace if grace else _is_grace(retired_seconds)
    newest, former, retired = (
        _hash(old, name) for name in ("TokenHash", "PreviousTokenHash", "RetiredTokenHash")
    )
    _require(
        changed <= _ROTATED
        and newest
        and _hash(new, "TokenHash") not in (None, former, retired)
        and _hash(new, "FamilyHash")
        and _is_recent(at, recorded_at)
        and is_retired_in_time
    )
    _require_live(old, at, not_before)
    shift = _hash(new, "PreviousTokenHash"), _hash(new, "RetiredTokenHash")
    # Either the newest token was presented, which is allowed during a grace period too. Or the
    # newest token was lost on its way, and the holder of the former one gets a replacement.
    was_lost = "PreviousTokenGrace" in old and time_in(old, "PreviousTokenUntil") <= at
    by_newest = shift == (newest, former or newest)
    _require(by_newest or (former and was_lost and shift == (former, newest)))
    return _proof(old, new, at, by_newest=by_newest)


def _proof(old: Item, new: Item, at: int, *, by_newest: bool) -> Facts:
    """Accepts what a plain rotation or a step-up by the presented token leaves of the proofs."""
    after = tuple(new.get(name) for name in AUTHENTICATION_ATTRIBUTES)
    shown = old.get("AuthenticatedAt"), old.get("Methods")
    if not by_newest and has_previous(old):
        shown = old["PreviousAuthenticatedAt"], old["PreviousMethods"]
    if after == (*shown, None, None):
        return {"type": "rotated"}
    # A session may have been created before these attributes existed.
    previous = shown[0] or old["CreatedAt"], shown[1] or methods_attribute([])
    _require(
        "UserId" in new
        and "Impersonator" not in new
        and after == ({"N": str(at)}, new.get("Methods"), *previous)
        and _are_methods(new.get("Methods", {}))
    )
    return {"type": "authenticated", "methods": [name["S"] for name in new["Methods"]["L"]]}


def _update(old: Item, new: Item, changed: set[str], recorded_at: int, not_before: int) -> Facts:
    # The item does not contain the time of the write, so the earliest possible time is used.
    _require_live(old, recorded_at - WRITE_SECONDS, not_before)
    before, after = members(old, "Data"), members(new, "Data")
    _require(
        changed <= _UPDATED
        and _integer(new, "Version") == _integer(old, "Version") + 1
        and "M" in new.get("Data", {})
        and all(is_json(after[name]) for name in after if after[name] != before.get(name))
    )
    return {"type": "updated"} | changed_names(before, after)


def _confirmation(
    old: Item, new: Item, changed: set[str], recorded_at: int, not_before: int
) -> Facts:
    """The newest token was presented for the first time, possibly together with a renewal."""
    grace, renewal = _integer(old, "PreviousTokenGrace"), changed - _CONFIRMED
    at = _integer(new, "PreviousTokenUntil") - grace
    _require(
        "PreviousTokenGrace" not in new
        and _is_grace(grace)
        and renewal <= _RENEWED_BY_VERIFY
        and (not renewal or _integer(new, "RenewedAt") == at)
        and _is_recent(at, recorded_at)
    )
    _require_live(old, at, not_before)
    facts = _renewal(old, new, renewal, recorded_at, not_before) if renewal else {}
    return facts | {"type": "confirmed"}


def _renewal(old: Item, new: Item, changed: set[str], recorded_at: int, not_before: int) -> Facts:
    at, expires_at = _integer(new, "RenewedAt"), _integer(new, "ExpirationTime")
    window, end = _integer(new, "TtlSeconds"), _integer(new, "AbsoluteExpirationTime")
    _require(
        changed <= _RENEWED
        and _is_recent(at, recorded_at)
        and time_in(old, "RenewedAt") <= at
        and 1 <= window <= MAX_LIFETIME_SECONDS
        and expires_at == min(at + window, end)
        and _integer(new, "RenewableUntil") == end - window
    )
    _require_live(old, at, not_before)
    if "LastClient" in changed:
        _require(
            changed <= _RENEWED_BY_VERIFY
            and is_client(new.get("LastClient", {}), MAX_LAST_USER_AGENT)
        )
    if "AbsoluteExpirationTime" in changed:
        # This is the last window of an anonymous session, which can't be renewed any more.
        _require(
            "UserId" not in new
            and end == at + window
            and end < time_in(old, "AbsoluteExpirationTime")
        )
    bounds = sorted(changed & {"AbsoluteExpirationTime", "TtlSeconds"})
    changes = {"changed": bounds} if bounds else {}
    return {"type": "renewed", "expires_at": expires_at} | changes


def _require(condition: object) -> None:
    if not condition:
        raise _NotByApi


def _names_who_acts(new: Item) -> bool:
    """Whether a new session names its impersonator, or else when and how its user proved who they
    are. An earlier version of the service did not write the latter.
    """
    proof = new.keys() & {"AuthenticatedAt", "Methods"}
    if "Impersonator" in new:
        named = members(new, "Impersonator")
        agent, reason = (named.get(name, {}).get("S", "") for name in ("id", "reason"))
        return bool(
            "UserId" in new
            and not proof
            and len(named) == 2
            and USER_ID.fullmatch(agent)
            and REASON.fullmatch(reason)
        )
    if not proof:
        return True
    age = _integer(new, "CreatedAt") - _integer(new, "AuthenticatedAt")
    return (
        "UserId" in new
        and 0 <= age <= MAX_LIFETIME_SECONDS
        and _are_methods(new.get("Methods", {}))
    )


def _are_methods(attribute: Attribute) -> bool:
    names = [member.get("S", "") for member in attribute.get("L", [{}])]
    return len(names) == len(set(names)) <= MAX_METHODS and all(map(METHOD.fullmatch, names))


def _require_live(old: Item, at: int, not_before: int) -> None:
    """Check what the condition of every write except a revocation checks, at the time `at`."""
    _require(is_live(old, at, not_before) and "M" in old.get("Data", {}))


def _names_its_writer(new: Item) -> bool:
    return all(new.get(name, {}).get("S") for name in ("Actor", "RequestId"))


def _is_grace(grace_seconds: int) -> bool:
    return 1 <= grace_seconds <= MAX_GRACE_SECONDS


def _is_recent(at: int, recorded_at: int) -> bool:
    return abs(at - recorded_at) <= WRITE_SECONDS


def _integer(image: Item, name: str) -> int:
    value = number(image, name)
    if value is None:
        raise _NotByApi
    return value


def _hash(image: Item, name: str) -> bytes | None:
    """Return the 32 bytes of a hash, or None if the attribute is absent."""
    if name not in image:
        return None
    value = digest(image, name)
    _require(value)
    return value
