"""One line of the audit trail."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

# Stands in for the session id of a record that does not even tell whose it is. It has the shape of
# one, so that such events can be read, and no session may have it.
UNKNOWN_SESSION = "unreadable__"


class AuditEvent(Struct, frozen=True):
    """One immutable line of a session's history; encoding one gives the API's JSON.

    `recorded_at` is the time of the stream record, `at` when it took effect, in epoch seconds.
    """

    event_id: str
    type: str
    session_id: str
    user_id: str | None
    at: int
    recorded_at: int
    actor: str | None = None
    request_id: str | None = None
    reason: str | UnsetType = UNSET
    cause: str | UnsetType = UNSET
    removed_by: str | UnsetType = UNSET
    changed: list[str] | UnsetType = UNSET
    changed_count: int | UnsetType = UNSET
    expires_at: int | UnsetType = UNSET
    expired_at: int | UnsetType = UNSET
    ttl_lag_seconds: int | UnsetType = UNSET


def event_id(seconds: int, sequence_number: str) -> str:
    """Sorts by time of record, then by the stream's order; the same for a repeated record."""
    return f"{seconds:010d}#{sequence_number.zfill(40)}"
