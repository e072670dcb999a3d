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
        and seconds(item, "ExpirationTime") > now
        and seconds(item, "CreatedAt") >= not_before
    )


def seconds(item: Item, name: str) -> int:
    """A time in `item`, in epoch seconds; -1 if there is none, or none that the service writes."""
    text = item.get(name, {}).get("N", "")
    return int(text) if text.isdigit() else -1
