"""How long an item of the `Sessions` table counts as a session, and why it ended."""

from __future__ import annotations

from typing import Any

from sessions.dynamodb import Item


def is_live(item: Item, now: int, not_before: int) -> bool:
    """Whether `item` holds a session that is neither expired nor revoked at `now`, nor older than
    `not_before`; both in epoch seconds.

    DynamoDB deletes expired items up to days late, so every reader asks. A time that is no whole
    Number counts as none: TTL would ignore it, and no API call stores it.
    """
    return (
        "RevokedAt" not in item
        and seconds(item, "ExpirationTime") > now
        and seconds(item, "CreatedAt") >= not_before
    )


def expiry(item: Item, not_before: int) -> dict[str, Any] | None:
    """When the session in `item` expires or did, as `at` and `cause`; None without a time.

    One that `not_before` cut off ended then, though its item stays until its own time.
    """
    expires_at, created_at = seconds(item, "ExpirationTime"), seconds(item, "CreatedAt")
    if expires_at < 0:
        return None
    if 0 <= created_at < not_before < expires_at:
        return {"at": not_before, "cause": "not_before"}
    is_absolute = expires_at == seconds(item, "AbsoluteExpirationTime")
    return {"at": expires_at, "cause": "absolute" if is_absolute else "idle"}


def seconds(item: Item, name: str) -> int:
    """A time in `item`, in epoch seconds; -1 if there is none, or none that the service writes."""
    text = item.get(name, {}).get("N", "")
    return int(text) if text.isdecimal() else -1
