"""How long an item of the `Sessions` table counts as a session, and why it ended.

Anybody with access to the table may have written an item. The rules here are therefore limited to
those that the condition of a write can express, so that readers and writers always agree on what a
session is.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from sessions.dynamodb import Item
from sessions.limits import MAX_LIFETIME_SECONDS, MAX_SECONDS

if TYPE_CHECKING:
    from decimal import Decimal

# With prompt expiry, an expiry is on record this long after the end of the session, or this long
# after its creation if that is later.
_RECORDED_AFTER_END_SECONDS = 120
_RECORDED_AFTER_CREATION_SECONDS = 200
# The numeric attributes of every session. Each is at least 1 and has at most ten digits. The
# service writes only whole numbers, but a condition cannot require that.
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
    `not_before`. Both times are in epoch seconds.

    DynamoDB deletes expired items up to days late, so every reader has to check. An item that lacks
    one of `NUMBERS` is not a session.
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
    """Return when and why the session in `item` expires or expired, as `at` and `cause`.

    Returns None if the item has no expiration time. A session that is older than `not_before` ended
    at that time, although its item stays until its own expiration time.
    """
    expires_at, created_at = seconds(item, "ExpirationTime"), seconds(item, "CreatedAt")
    if expires_at < 0:
        return None
    if 0 <= created_at < not_before < expires_at:
        return {"at": not_before, "cause": "not_before"}
    is_absolute = expires_at == seconds(item, "AbsoluteExpirationTime")
    return {"at": expires_at, "cause": "absolute" if is_absolute else "idle"}


def recorded_by(item: Item, end: dict[str, Any]) -> int | None:
    """Return by when prompt expiry records this `expiry`, in epoch seconds, while nothing is late.

    Returns None if it promises nothing. An item that `not_before` has ended stays until its own
    expiration time, and one that was created after its end was not written by the service.
    """
    at: int = end["at"]
    created_at = seconds(item, "CreatedAt")
    if end["cause"] == "not_before" or created_at > at:
        return None
    return max(at + _RECORDED_AFTER_END_SECONDS, created_at + _RECORDED_AFTER_CREATION_SECONDS)


def seconds(item: Item, name: str) -> int:
    """Return a time in `item` in epoch seconds, or -1 if there is none.

    A fraction is rounded up, which makes no difference when the time is compared with a whole
    `now`.
    """
    return ceil(number(item, name))


def number(item: Item, name: str) -> int | Decimal:
    """Return a number in `item` as DynamoDB compares it, or -1 if there is none."""
    try:
        text: str = item[name]["N"]
    except KeyError:
        return -1
    if text.isdecimal():
        return int(text)
    # The import is not at the top because it would slow down every cold start of the authorizer,
    # although the service never writes such a number.
    from decimal import Decimal

    return Decimal(text)
