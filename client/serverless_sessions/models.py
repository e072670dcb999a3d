"""The objects that the client returns. All times are integers, in Unix epoch seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A JSON object. `BaseSessions` documents the types of its numbers.
Data = dict[str, Any]


@dataclass(frozen=True)
class Client:
    """The end user's address and browser, as the app sees them.

    They are recorded for people to read, and never affect a decision. Before a call is sent,
    values that the service would reject are shortened, cleaned or left out.
    """

    ip: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True)
class Session:
    """A session, as it was when the service answered.

    `user_id` is None for an anonymous visitor. `version` increases with every change of `data`.
    `data` is None in lists. `client` was recorded when the session was created, and `last_client`
    at the last renewal that included a client.
    """

    session_id: str
    user_id: str | None
    created_at: int
    renewed_at: int
    expires_at: int
    absolute_expires_at: int
    ttl_seconds: int
    version: int
    data: Data | None = field(repr=False)
    client: Client
    last_client: Client

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Session:
        return cls(
            session_id=answer["session_id"],
            user_id=answer["user_id"],
            created_at=answer["created_at"],
            renewed_at=answer["renewed_at"],
            expires_at=answer["expires_at"],
            absolute_expires_at=answer["absolute_expires_at"],
            ttl_seconds=answer["ttl_seconds"],
            version=answer["version"],
            data=answer.get("data"),
            client=Client(**answer["client"]),
            last_client=Client(**answer.get("last_client", {})),
        )


@dataclass(frozen=True)
class IssuedSession:
    """A session and its new token, which is the end user's credential and cannot be read again."""

    session: Session
    token: str = field(repr=False)


@dataclass(frozen=True)
class Event:
    """An event of the audit trail. docs/audit-events.md describes the types.

    `at` is the time at which the event took effect, `recorded_at` the time at which it was
    recorded. A field that events of this type do not have is None.
    """

    event_id: str
    type: str
    session_id: str
    user_id: str | None
    at: int
    recorded_at: int
    actor: str | None
    request_id: str | None
    reason: str | None = None
    cause: str | None = None
    removed_by: str | None = None
    changed: tuple[str, ...] | None = None
    changed_count: int | None = None
    expires_at: int | None = None
    expired_at: int | None = None
    ttl_lag_seconds: int | None = None

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Event:
        fields = {name: answer[name] for name in cls.__dataclass_fields__ if name in answer}
        changed = answer.get("changed")
        return cls(**fields | {"changed": None if changed is None else tuple(changed)})


@dataclass(frozen=True)
class PendingExpiry:
    """The session expired at `at`. Its `expired` event is recorded when TTL removes the item."""

    at: int
    cause: str
