"""Which write of the API made one image of an item out of another: it may make no other change.

The rules are those of `sessions.store`. Whatever does not fit them was done behind the API's back.
"""

from __future__ import annotations

import base64
from typing import Any

from audit.images import members, names_of_changes, number, text
from sessions.dynamodb import Item
from sessions.limits import MAX_GRACE_SECONDS, WRITE_SECONDS
from sessions.table import TOKEN_ATTRIBUTES

# What each write may change beside `Actor` and `RequestId`; a revocation removes the second set.
_ROTATED = set(TOKEN_ATTRIBUTES)
_GONE = {"Data", "Client", "LastClient"} | _ROTATED
_REVOKED = {"ExpirationTime", "RevokedAt", "RevokedReason"} | _GONE
_UPDATED = {"Data", "Version"}
_RENEWED_BY_VERIFY = {"ExpirationTime", "RenewedAt", "LastClient"}
_RENEWED = _RENEWED_BY_VERIFY | {"TtlSeconds", "RenewableUntil"}
_CONFIRMED = {"PreviousTokenUntil", "PreviousTokenGrace"}

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
        if "PreviousTokenGrace" in changed:
            return _confirmation(old, new, changed, seconds)
        return _renewal(old, new, changed, seconds)
    except _Foreign:
        return {"type": "tampered"} | names_of_changes(old, new)


def _revocation(old: Item, new: Item, changed: set[str], seconds: int) -> Facts:
    at, expired_at = _whole(new, "RevokedAt"), _whole(old, "ExpirationTime")
    if not (
        changed <= _REVOKED
        and not new.keys() & _GONE
        and _whole(new, "ExpirationTime") == at
        and abs(at - seconds) <= WRITE_SECONDS
        and expired_at > at - WRITE_SECONDS
    ):
        raise _Foreign
    late = {"expired_at": expired_at} if expired_at <= at else {}
    return {"type": "revoked", "reason": text(new, "RevokedReason")} | late


def _rotation(old: Item, new: Item, changed: set[str], seconds: int) -> Facts:
    """The shifts that `sessions.rotation` makes, and no others."""
    hashes = [_hash(old, name) for name in ("TokenHash", "PreviousTokenHash", "RetiredTokenHash")]
    newest, former, _ = hashes
    shifts = [(newest, former or newest)]
    if "PreviousTokenGrace" in old and (
        _whole(old, "PreviousTokenUntil") <= seconds + WRITE_SECONDS
    ):
        # The newest token was lost on its way, and was replaced for the holder of the former one.
        shifts.append((former, newest))
    token, family = _hash(new, "TokenHash"), _hash(new, "FamilyHash")
    grace = _whole(new, "PreviousTokenGrace") if "PreviousTokenGrace" in new else 0
    refused_until = _whole(new, "RetiredTokenUntil") - seconds
    if not (
        changed <= _ROTATED
        and newest
        and token
        and family
        and token not in hashes
        and (_hash(new, "PreviousTokenHash"), _hash(new, "RetiredTokenHash")) in shifts
        and 0 <= grace <= MAX_GRACE_SECONDS
        and (grace > 0 or "PreviousTokenGrace" not in new)
        and abs(_whole(new, "PreviousTokenUntil") - seconds - grace) <= WRITE_SECONDS
        and max(grace, 1) - WRITE_SECONDS <= refused_until
        and refused_until <= (grace or MAX_GRACE_SECONDS) + WRITE_SECONDS
        and _whole(old, "ExpirationTime") > seconds - WRITE_SECONDS
    ):
        raise _Foreign
    return {"type": "rotated"}


def _confirmation(old: Item, new: Item, changed: set[str], seconds: int) -> Facts:
    """The newest token was presented for the first time; a renewal may come with it."""
    until, renewal = _whole(new, "PreviousTokenUntil"), changed - _CONFIRMED
    if not (
        "PreviousTokenGrace" not in new
        and renewal <= _RENEWED_BY_VERIFY
        and abs(until - seconds - _whole(old, "PreviousTokenGrace")) <= WRITE_SECONDS
        and _whole(old, "ExpirationTime") > seconds - WRITE_SECONDS
    ):
        raise _Foreign
    facts = _renewal(old, new, renewal, seconds) if renewal else {}
    return facts | {"type": "confirmed"}


def _update(old: Item, new: Item, changed: set[str], seconds: int) -> Facts:
    if not (
        changed <= _UPDATED
        and _whole(new, "Version") == _whole(old, "Version") + 1
        and "M" in new.get("Data", {})
        and _whole(old, "ExpirationTime") > seconds - WRITE_SECONDS
    ):
        raise _Foreign
    return {"type": "updated"} | names_of_changes(members(old, "Data"), members(new, "Data"))


def _renewal(old: Item, new: Item, changed: set[str], seconds: int) -> Facts:
    at, expires_at = _whole(new, "RenewedAt"), _whole(new, "ExpirationTime")
    window, end = _whole(new, "TtlSeconds"), _whole(new, "AbsoluteExpirationTime")
    is_final = "AbsoluteExpirationTime" in changed
    if is_final and not (
        "UserId" not in new and end == expires_at and end < _whole(old, "AbsoluteExpirationTime")
    ):
        raise _Foreign
    if not (
        changed - {"AbsoluteExpirationTime"} <= _RENEWED
        and abs(at - seconds) <= WRITE_SECONDS
        and _whole(old, "RenewedAt") <= at < _whole(old, "ExpirationTime")
        and window >= 1
        and expires_at == min(at + window, end)
        and _whole(new, "RenewableUntil") == end - window
        and ("LastClient" not in changed or "M" in new.get("LastClient", {}))
    ):
        raise _Foreign
    bounds = sorted(changed & {"AbsoluteExpirationTime", "TtlSeconds"})
    changes = {"changed": bounds} if bounds else {}
    return {"type": "renewed", "expires_at": expires_at} | changes


def _hash(image: Item, name: str) -> bytes | None:
    """The 32 bytes of a hash, None if there is none. Lambda delivers binary values as base64."""
    if name not in image:
        return None
    value = image[name].get("B")
    try:
        digest = value if isinstance(value, bytes) else base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise _Foreign from None
    if len(digest) != 32:
        raise _Foreign
    return digest


def _whole(image: Item, name: str) -> int:
    found = number(image, name)
    if found is None:
        raise _Foreign
    return found
