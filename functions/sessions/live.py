"""Whether an item of the `Sessions` table still counts."""

from __future__ import annotations

from sessions.dynamodb import Item


def is_live(item: Item, now: int) -> bool:
    """Whether `item` holds a session that is neither expired nor revoked at `now`, epoch seconds.

    DynamoDB deletes expired items up to days late, so every reader asks. An `ExpirationTime` that
    is no whole Number counts as none: TTL would ignore it, and no API call stores it.
    """
    expiration_time = item.get("ExpirationTime", {}).get("N", "")
    return "RevokedAt" not in item and expiration_time.isdigit() and int(expiration_time) > now
