"""How long an item of the `Sessions` table counts as a session, and why it ended.

Anybody with access to the table may have written an item. So the rules here are those that a
write's condition can express: what is a session to readers is one to writers too.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from sessions.dynamodb import Item
from sessions.limits import MAX_LIFETIME_SECONDS, MAX_SECONDS

if TYPE_CHECKING:
    from decimal import Decimal

# The numbers of every session. They are at least 1, and at most what ten digits hold. The service
# writes whole ones only, but no condition can ask for that.
NUMBERS = (
    "ExpirationTime",
    "AbsoluteExpirationTime",
    "RenewableUntil",
    "TtlSeconds",
    "CreatedAt",
    "RenewedAt",
    "Version",
)


def is_live(item: Item, now: int, not_before: int) -> bool:
    """Whether `item` holds a session that is neither expired nor revoked at `now`, nor older than
    `not_before`; both in epoch seconds.

    DynamoDB deletes expired items up to days late, so every reader decides for itself. An item
    without one of the numbers that every session has is no session.
    """
    if "RevokedAt" in item:
        return False
    numbers = [number(item, name) for name in NUMBERS]
    expires_at, _, _, window, created_at, _, _ = numbers
    return (
        expires_at > now
        and created_at >= not_before
        and min(numbers) >= 1
        and max(numbers) <= MAX_SECONDS
        and window <= MAX_LIFETIME_SECONDS
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
    """A time in `item`, in epoch seconds; -1 if there is none.

    A fraction is rounded up: a whole `now` is before the one if it is before the other.
    """
    return ceil(number(item, name))


def number(item: Item, name: str) -> int | Decimal:
    """A number of `item` as DynamoDB compares it, -1 if there is none."""
    try:
        text: str = item[name]["N"]
    except KeyError:
        return -1
    if text.isdecimal():
        return int(text)
    # Not at the top of the module: the service writes no such number, and every cold start of the
    # authorizer would pay for the import.
    from decimal import Decimal

    return Decimal(text)
