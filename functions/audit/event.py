"""An event of the audit trail."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

# The session id of events whose stream record does not name a session. No session can have this id,
# but it has the form of one, so that the API can return these events.
UNKNOWN_SESSION = "unreadable__"


class AuditEvent(Struct, frozen=True):
    """One event in a session's history, which never changes. Encoded, it is the JSON of the API.

    `recorded_at` is the time of the stream record, and `at` is when the change took effect, both in
    epoch seconds.
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
    methods: list[str] | UnsetType = UNSET
    impersonator: dict[str, str] | UnsetType = UNSET


def event_id(seconds: int, sequence_number: str) -> str:
    """Return an id that sorts by the time of record and then by the order of the stream.

    It is the same whenever the record is delivered again.
    """
    return f"{seconds:010d}#{sequence_number.zfill(40)}"
