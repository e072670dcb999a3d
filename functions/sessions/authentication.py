"""When and how the user of a session last proved who they are, or who acts in their place.

A step-up keeps the values from before it, because the former token still shows those. Otherwise the
step-up of a user would also raise the copy of the former token that a thief has.
"""

from __future__ import annotations

from sessions.dynamodb import Attribute, Item
from sessions.lifetime import seconds
from sessions.limits import MAX_METHODS, MAX_SECONDS, METHOD

# A revocation removes all of these attributes.
AUTHENTICATION_ATTRIBUTES = (
    "AuthenticatedAt",
    "Methods",
    "PreviousAuthenticatedAt",
    "PreviousMethods",
)


def authentication(item: Item, *, former: bool) -> tuple[int | None, list[str]]:
    """Return the time in epoch seconds and the methods that a token of a live session shows.

    `former` says whether it is the former token rather than the newest one. An anonymous and an
    impersonated session show no time. A session that was created before these attributes existed,
    or whose time is malformed, shows its creation.
    """
    if "UserId" not in item or "Impersonator" in item:
        return None, []
    prefix = "Previous" if former and has_previous(item) else ""
    at = seconds(item, f"{prefix}AuthenticatedAt")
    if not 0 <= at <= MAX_SECONDS:
        at = seconds(item, "CreatedAt")
    return at, _methods(item, f"{prefix}Methods")


def has_previous(item: Item) -> bool:
    """Whether the newest token was made by a step-up, so that the former one shows other values."""
    return "PreviousAuthenticatedAt" in item and "PreviousMethods" in item


def methods_attribute(methods: list[str]) -> Attribute:
    """Return the attribute `Methods` for these methods."""
    return {"L": [{"S": method} for method in methods]}


def impersonator(item: Item) -> dict[str, str] | None:
    """Return the `id` of who acts as the user and the `reason`, or None if it is the user."""
    if "Impersonator" not in item:
        return None
    members = item["Impersonator"].get("M", {})
    return {name: members.get(name, {}).get("S", "") for name in ("id", "reason")}


def _methods(item: Item, name: str) -> list[str]:
    """Return the methods in a list, and ignore anything that the service does not store."""
    names = [member.get("S", "") for member in item.get(name, {}).get("L", [])]
    return [name for name in names if METHOD.fullmatch(name)][:MAX_METHODS]
