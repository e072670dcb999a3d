"""Whether an item of the `Sessions` table still counts."""

from __future__ import annotations

from sessions.dynamodb import Item


def is_live(item: Item, now: int, not_before: int) -> bool:
    """Whether `item` holds a session that is neither expired nor revoked at `now`, nor older than
    `not_before`; both in epoch seconds.

    DynamoDB deletes expired items up to days late, so every reader asks. A time that is no whole
    Number counts as none: TTL would ignore it, and no API call stores it.
    """
    return (
        "RevokedAt" not in item
        and _seconds(item, "ExpirationTime") > now
        and _seconds(item, "CreatedAt") >= not_before
    )


def _seconds(item: Item, name: str) -> int:
    text = item.get(name, {}).get("N", "")
    return int(text) if text.isdigit() else -1
