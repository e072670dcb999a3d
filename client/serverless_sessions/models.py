"""What the service answers, as values. Every time is an integer of Unix epoch seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Data as a JSON object. See `Sessions` for what becomes of numbers.
Data = dict[str, Any]


@dataclass(frozen=True)
class Client:
    """Where the end user is, as the calling app sees it. Decoration: it decides nothing.

    Values that the service would refuse are made to fit when they are sent, or left out.
    """

    ip: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True)
class Session:
    """A session as of the answer that brought it.

    `user_id` is None for an anonymous visitor. `version` counts the changes of `data`. `data` is
    None in lists. `client` is from the creation, `last_client` from the last renewal that had one.
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
    """A session and its new token, the bearer credential of the end user. No answer repeats it."""

    session: Session
    token: str = field(repr=False)


@dataclass(frozen=True)
class Event:
    """An event of the audit trail; docs/audit-events.md tells the types.

    `recorded_at` is when the trail got it, `at` when it took effect. What a type does not have
    is None.
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
        known = {name: answer[name] for name in cls.__dataclass_fields__ if name in answer}
        changed = answer.get("changed")
        return cls(**known | {"changed": None if changed is None else tuple(changed)})


@dataclass(frozen=True)
class PendingExpiry:
    """The session expired at `at`; its `expired` event comes when TTL removes it."""

    at: int
    cause: str
