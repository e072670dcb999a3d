"""Which write of the API made one image of an item out of another: it may make no other change.

The rules are those of `sessions.store`. Whatever does not fit them was done behind the API's back.
"""

from __future__ import annotations

from typing import Any

from sessions.dynamodb import Item
from sessions.images import members, names_of_changes, number, text

# What each write may change beside `Actor` and `RequestId`; a revocation takes the second six away.
_GONE = {
    "Data",
    "Client",
    "LastClient",
    "TokenHash",
    "PreviousTokenHash",
    "PreviousTokenUntil",
}
_REVOKED = {"ExpirationTime", "RevokedAt", "RevokedReason"} | _GONE
_ROTATED = {"TokenHash", "PreviousTokenHash", "PreviousTokenUntil"}
_UPDATED = {"Data", "Version"}
_RENEWED = {"ExpirationTime", "RenewedAt", "TtlSeconds", "RenewableUntil", "LastClient"}
# The time of a write and that of its record differ by what a request takes and by hosts' clocks.
_MOMENT_SECONDS = 60
_MAX_GRACE_SECONDS = 3600

Facts = dict[str, Any]


class _Foreign(Exception):
    """No write of the API does this."""


def modification(old: Item, new: Item, seconds: int) -> Facts:
    """Type and facts of the event, for a change that was recorded at `seconds`, epoch seconds."""
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    try:
        if "RequestId" not in changed or "RevokedAt" in old:
            raise _Foreign
        changed -= {"Actor", "RequestId"}
        if "RevokedAt" in new:
            return _revocation(old, new, changed, seconds)
        if "TokenHash" in changed:
            return _rotation(old, new, changed, seconds)
        if "Version" in changed:
            return _update(old, new, changed, seconds)
        return _renewal(old, new, changed, seconds)
    except _Foreign:
        return {"type": "tampered"} | names_of_changes(old, new)


def _revocation(old: Item, new: Item, changed: set[str], seconds: int) -> Facts:
    at, expired_at = _whole(new, "RevokedAt"), _whole(old, "ExpirationTime")
    if not (
        changed <= _REVOKED
        and not new.keys() & _GONE
        and _whole(new, "ExpirationTime") == at
        and abs(at - seconds) <= _MOMENT_SECONDS
        and expired_at > at - _MOMENT_SECONDS
    ):
        raise _Foreign
    late = {"expired_at": expired_at} if expired_at <= at else {}
    return {"type": "revoked", "reason": text(new, "RevokedReason")} | late


def _rotation(old: Item, new: Item, changed: set[str], seconds: int) -> Facts:
    grace = _whole(new, "PreviousTokenUntil") - seconds
    if not (
        changed <= _ROTATED
        and "B" in new.get("TokenHash", {})
        and new.get("PreviousTokenHash") == old.get("TokenHash")
        and -_MOMENT_SECONDS <= grace <= _MAX_GRACE_SECONDS + _MOMENT_SECONDS
        and _whole(old, "ExpirationTime") > seconds - _MOMENT_SECONDS
    ):
        raise _Foreign
    return {"type": "rotated"}


def _update(old: Item, new: Item, changed: set[str], seconds: int) -> Facts:
    if not (
        changed <= _UPDATED
        and _whole(new, "Version") == _whole(old, "Version") + 1
        and "M" in new.get("Data", {})
        and _whole(old, "ExpirationTime") > seconds - _MOMENT_SECONDS
    ):
        raise _Foreign
    return {"type": "updated"} | names_of_changes(members(old, "Data"), members(new, "Data"))


def _renewal(old: Item, new: Item, changed: set[str], seconds: int) -> Facts:
    at, expires_at = _whole(new, "RenewedAt"), _whole(new, "ExpirationTime")
    window, end = _whole(new, "TtlSeconds"), _whole(new, "AbsoluteExpirationTime")
    if not (
        changed <= _RENEWED
        and abs(at - seconds) <= _MOMENT_SECONDS
        and _whole(old, "RenewedAt") <= at < _whole(old, "ExpirationTime")
        and window >= 1
        and expires_at == min(at + window, end)
        and _whole(new, "RenewableUntil") == end - window
        and ("LastClient" not in changed or "M" in new.get("LastClient", {}))
    ):
        raise _Foreign
    changes = {"changed": ["TtlSeconds"]} if "TtlSeconds" in changed else {}
    return {"type": "renewed", "expires_at": expires_at} | changes


def _whole(image: Item, name: str) -> int:
    found = number(image, name)
    if found is None:
        raise _Foreign
    return found
