"""A session: a user's login or an anonymous visit, live until it expires or is revoked."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from sessions.authentication import authentication, impersonator, methods_attribute
from sessions.document import from_attributes, to_attributes
from sessions.dynamodb import Attribute, Item
from sessions.errors import InvalidField
from sessions.lifetime import is_live, seconds
from sessions.limits import (
    MAX_LAST_USER_AGENT,
    MAX_LIFETIME_SECONDS,
    MAX_USER_AGENT,
    SESSION_ID,
    USER_ID,
    WRITE_SECONDS,
)


def new_session_id() -> str:
    """Return 72 random bits from the system's CSPRNG. A session id is a handle, not a secret."""
    return secrets.token_urlsafe(9)


class Limits(Struct, frozen=True):
    """The bounds that a deployment sets, in seconds and bytes."""

    default_ttl_seconds: int
    default_absolute_ttl_seconds: int
    max_absolute_ttl_seconds: int
    max_impersonation_seconds: int
    max_data_bytes: int


class Session(Struct, frozen=True):
    """A live session as callers see it. Encoded, it is the JSON of the API.

    Times are Unix epoch seconds. `user_id` is None in an anonymous session, and `data` is unset if
    it was not read, as in lists. `authenticated_at` and `methods` say when and how the user last
    proved who they are. Nobody has done so in an anonymous session, nor in one with an
    `impersonator`, in which somebody else acts as the user: there the time is None.
    """

    session_id: str
    user_id: str | None
    created_at: int
    renewed_at: int
    expires_at: int
    absolute_expires_at: int
    ttl_seconds: int
    version: int
    client: dict[str, str]
    last_client: dict[str, str]
    authenticated_at: int | None
    methods: list[str]
    impersonator: dict[str, str] | None
    data: dict[str, Any] | UnsetType = UNSET

    @classmethod
    def start(
        cls,
        user_id: str | None,
        *,
        session_id: str,
        data: dict[str, Any],
        client: dict[str, str],
        ttl_seconds: int | UnsetType,
        absolute_ttl_seconds: int | UnsetType,
        authenticated_at: int | UnsetType = UNSET,
        methods: list[str] | None = None,
        impersonator: dict[str, str] | None = None,
        limits: Limits,
        now: int,
    ) -> Session:
        """Return a new session. Raises `InvalidField`.

        `ttl_seconds` defaults to the default window, or to the absolute timeout if that is shorter.
        `authenticated_at` defaults to `now`. The absolute timeout of an impersonated session has a
        limit of its own.
        """
        if user_id is not None:
            check_user_id(user_id)
        most, absolute = limits.max_absolute_ttl_seconds, absolute_ttl_seconds
        if impersonator:
            most = min(most, limits.max_impersonation_seconds)
        if absolute is UNSET:
            absolute = min(limits.default_absolute_ttl_seconds, most)
        if not 1 <= absolute <= most:
            raise InvalidField("/absolute_ttl_seconds", f"1 to {most} seconds")
        sliding = ttl_seconds
        if sliding is UNSET:
            sliding = min(limits.default_ttl_seconds, absolute)
        if not 1 <= sliding <= absolute:
            raise InvalidField("/ttl_seconds", f"1 to {absolute} seconds, the absolute timeout")
        proves_user = user_id is not None and impersonator is None
        return cls(
            session_id=session_id,
            user_id=user_id,
            created_at=now,
            renewed_at=now,
            expires_at=now + sliding,
            absolute_expires_at=now + absolute,
            ttl_seconds=sliding,
            version=1,
            client=client,
            last_client={},
            authenticated_at=_authenticated_at(authenticated_at, now) if proves_user else None,
            methods=methods or [],
            impersonator=impersonator,
            data=data,
        )

    def to_item(self) -> Item:
        """Return the item of the `Sessions` table. Raises `InvalidField` for data that can't be
        stored.
        """
        item: Item = {
            "SessionId": {"S": self.session_id},
            "ExpirationTime": {"N": str(self.expires_at)},
            "AbsoluteExpirationTime": {"N": str(self.absolute_expires_at)},
            "RenewableUntil": {"N": str(self.absolute_expires_at - self.ttl_seconds)},
            "TtlSeconds": {"N": str(self.ttl_seconds)},
            "CreatedAt": {"N": str(self.created_at)},
            "RenewedAt": {"N": str(self.renewed_at)},
            "Version": {"N": str(self.version)},
            "Data": {"M": to_attributes(self.data or {}, "/data")},
        }
        if self.user_id is not None:
            item["UserId"] = {"S": self.user_id}
        if self.authenticated_at is not None:
            item["AuthenticatedAt"] = {"N": str(self.authenticated_at)}
            item["Methods"] = methods_attribute(self.methods)
        if self.impersonator:
            item["Impersonator"] = {"M": to_attributes(self.impersonator, "/impersonator")}
        if self.client:
            item["Client"] = {"M": to_attributes(self.client, "/client")}
        return item

    @classmethod
    def from_item(
        cls,
        item: Item,
        now: int,
        not_before: int,
        *,
        with_data: bool = True,
        former: bool = False,
    ) -> Session | None:
        """Return the session in `item`, or None if it is not live by `now` and `not_before`.

        Also returns None if the session id is malformed or, `with_data`, if `Data` is missing.
        `former` says whether the session is shown to its former token.
        """
        if not is_live(item, now, not_before) or not SESSION_ID.fullmatch(item["SessionId"]["S"]):
            return None
        if with_data and "M" not in item.get("Data", {}):
            return None
        authenticated_at, methods = authentication(item, former=former)
        return cls(
            session_id=item["SessionId"]["S"],
            user_id=item["UserId"]["S"] if "UserId" in item else None,
            created_at=seconds(item, "CreatedAt"),
            renewed_at=seconds(item, "RenewedAt"),
            expires_at=seconds(item, "ExpirationTime"),
            absolute_expires_at=seconds(item, "AbsoluteExpirationTime"),
            ttl_seconds=seconds(item, "TtlSeconds"),
            version=seconds(item, "Version"),
            client=_client(item, "Client"),
            last_client=_client(item, "LastClient"),
            authenticated_at=authenticated_at,
            methods=methods,
            impersonator=impersonator(item),
            data=from_attributes(item["Data"]["M"]) if with_data else UNSET,
        )


def _client(item: Item, name: str) -> dict[str, str]:
    """Return what the service stores of a client, and ignore anything else in the attribute."""
    members = item.get(name, {}).get("M", {})
    texts = {member: members.get(member, {}).get("S", "") for member in ("ip", "user_agent")}
    return {member: text[:MAX_USER_AGENT] for member, text in texts.items() if text}


def last_client(client: Mapping[str, str]) -> Attribute:
    """Return the attribute `LastClient` for a client that was reported with a token."""
    texts = {name: text[:MAX_LAST_USER_AGENT] for name, text in client.items()}
    return {"M": to_attributes(texts, "/client")}


def _authenticated_at(reported: int | UnsetType, now: int) -> int:
    """Return when the user has proved who they are, according to the caller, or else `now`.

    A time in the near future means that the caller's clock is ahead.
    """
    if reported is UNSET:
        return now
    if not now - MAX_LIFETIME_SECONDS <= reported <= now + WRITE_SECONDS:
        raise InvalidField("/authenticated_at", "a time of the last 400 days")
    return min(reported, now)


def check_user_id(user_id: str, pointer: str = "/user_id") -> None:
    """Raise `InvalidField` unless `user_id` has 1 to 256 characters and no control characters."""
    if not USER_ID.fullmatch(user_id):
        raise InvalidField(pointer, "1 to 256 characters, none of them a control character")
