"""The objects that the client returns. All times are integers, in Unix epoch seconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from serverless_sessions._core.clock import now

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
class Impersonator:
    """Somebody who acts as the user of a session, for example a support agent, and the reason.

    A reason is 1 to 64 of a-z 0-9 _ . - and is None only in events other than `created`.
    """

    id: str
    reason: str | None = None


@dataclass(frozen=True)
class Session:
    """A session, as it was when the service answered.

    `user_id` is None for an anonymous visitor. `version` increases with every change of `data`.
    `data` is None in lists. `client` was recorded when the session was created, and `last_client`
    at the last renewal that included a client.

    `authenticated_at` and `methods` say when and how the user last proved who they are. The time is
    None in an anonymous session, and in one with an `impersonator`.
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
    authenticated_at: int | None = None
    methods: tuple[str, ...] = ()
    impersonator: Impersonator | None = None

    def authenticated_within(self, seconds: float, *, methods: Collection[str] = ()) -> bool:
        """Whether the user proved who they are within the last `seconds`, with all of `methods`.

        An anonymous session and an impersonated one are never recent. Use the session that `verify`
        has returned for the token of a request: calls by the session's id return what its newest
        token shows, and the token of the request may be an older one.
        """
        if self.authenticated_at is None or self.user_id is None or self.impersonator:
            return False
        is_recent = now() - self.authenticated_at <= seconds
        return is_recent and set(methods) <= set(self.methods)

    @classmethod
    def from_json(cls, document: Any) -> Session:
        """Parse a session of an answer. Raises `ValueError` if it is none."""
        return cls(
            session_id=member(document, "session_id", str),
            user_id=member(document, "user_id", str, NoneType),
            created_at=member(document, "created_at", int),
            renewed_at=member(document, "renewed_at", int),
            expires_at=member(document, "expires_at", int),
            absolute_expires_at=member(document, "absolute_expires_at", int),
            ttl_seconds=member(document, "ttl_seconds", int),
            version=member(document, "version", int),
            data=member(document, "data", dict) if "data" in document else None,
            client=_client(member(document, "client", dict)),
            last_client=_client(member(document, "last_client", dict)),
            # A service of version 0.1 does not have these members.
            authenticated_at=_optional(document, "authenticated_at", int),
            methods=_texts(document, "methods") or (),
            impersonator=_impersonator(document),
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
    methods: tuple[str, ...] | None = None
    impersonator: Impersonator | None = None

    @classmethod
    def from_json(cls, document: Any) -> Event:
        """Parse an event of an answer. Raises `ValueError` if it is none."""
        return cls(
            event_id=member(document, "event_id", str),
            type=member(document, "type", str),
            session_id=member(document, "session_id", str),
            user_id=member(document, "user_id", str, NoneType),
            at=member(document, "at", int),
            recorded_at=member(document, "recorded_at", int),
            actor=member(document, "actor", str, NoneType),
            request_id=member(document, "request_id", str, NoneType),
            reason=_optional(document, "reason", str),
            cause=_optional(document, "cause", str),
            removed_by=_optional(document, "removed_by", str),
            changed=_texts(document, "changed"),
            changed_count=_optional(document, "changed_count", int),
            expires_at=_optional(document, "expires_at", int),
            expired_at=_optional(document, "expired_at", int),
            ttl_lag_seconds=_optional(document, "ttl_lag_seconds", int),
            methods=_texts(document, "methods"),
            impersonator=_impersonator(document),
        )


@dataclass(frozen=True)
class PendingExpiry:
    """The session expired at `at`. Its `expired` event is recorded when the item is deleted.

    `expected_by` is the time by which prompt expiry promises this, in epoch seconds. It is None if
    nothing is promised. DynamoDB's TTL then deletes the item, usually within a few days.
    """

    at: int
    cause: str
    expected_by: int | None = None

    @classmethod
    def from_json(cls, document: Any) -> PendingExpiry:
        """Parse a pending expiry of an answer. Raises `ValueError` if it is none."""
        return cls(
            at=member(document, "at", int),
            cause=member(document, "cause", str),
            expected_by=_optional(document, "expected_by", int),
        )


_MISSING = object()


def member(document: Any, name: str, *types: type) -> Any:
    """Return a member of a JSON object.

    Raises `ValueError` if `document` is not an object, or if the member is missing or has none of
    the types. A bool is no int.
    """
    value = document.get(name, _MISSING) if isinstance(document, dict) else _MISSING
    if type(value) not in types:
        raise ValueError(f"{name} is missing or has another type")
    return value


def _optional(document: Any, name: str, kind: type) -> Any:
    """Return a member of a JSON object, or None if it is missing or null."""
    is_null = isinstance(document, dict) and document.get(name) is None
    return None if is_null else member(document, name, kind)


def _texts(document: Any, name: str) -> tuple[str, ...] | None:
    """Return a list of strings in a JSON object, or None if it is missing or null."""
    texts = _optional(document, name, list)
    if not all(isinstance(text, str) for text in texts or ()):
        raise ValueError(f"{name} has another type")
    return None if texts is None else tuple(texts)


def _impersonator(document: Any) -> Impersonator | None:
    named = _optional(document, "impersonator", dict)
    if named is None:
        return None
    return Impersonator(member(named, "id", str), _optional(named, "reason", str))


def _client(document: dict[str, Any]) -> Client:
    return Client(_optional(document, "ip", str), _optional(document, "user_agent", str))
