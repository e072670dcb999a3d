"""The client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any

from botocore.credentials import Credentials

from serverless_sessions.direct import DirectReader
from serverless_sessions.session import Client, Data, Event, IssuedSession, PendingExpiry, Session


class AsyncSessions:
    """Calls the service at `url`, the stack's output `ApiUrl`. Safe to share
    between event loops, each of which gets a pool of its own.

    Credentials are `credentials`, or the ones that botocore finds (for `profile`, if given) and
    renews. The region is the one in `url`, else the one that AWS's configuration names. Every call
    ends within `deadline_seconds`, `verify` within `verify_deadline_seconds`, repetitions included;
    then it raises `Unavailable`.

    In `data` an integer is an int. Any other number is a float, or a `Decimal` where a float would
    have another value. All of them, `Decimal` too, can be sent.
    """

    def __init__(
        self,
        url: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        credentials: Credentials | None = None,
        deadline_seconds: float = 10.0,
        verify_deadline_seconds: float = 2.0,
        reader: DirectReader | None = None,
    ) -> None:
        self.url = url

    async def __aenter__(self) -> AsyncSessions:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. A later call opens new ones."""

    async def create(
        self,
        user_id: str | None = None,
        *,
        data: Mapping[str, Any] | None = None,
        ttl_seconds: int | None = None,
        absolute_ttl_seconds: int | None = None,
        client: Client | None = None,
    ) -> IssuedSession:
        """A new session; anonymous without `user_id`."""
        raise NotImplementedError

    async def verify(
        self, token: str, *, renew: bool = True, client: Client | None = None
    ) -> Session | None:
        """The session that `token` proves, None if it proves none. An outage raises."""
        raise NotImplementedError

    async def get(self, session_id: str) -> Session:
        """Read without extending. Raises `SessionNotFound`."""
        raise NotImplementedError

    async def change(
        self, session_id: str, changes: Mapping[str, Any], *, version: int | None = None
    ) -> Session:
        """Set top-level keys; remove those whose value is None.

        With `version`, only if the data is still that version: else `VersionMismatch`.
        """
        raise NotImplementedError

    async def replace(
        self, session_id: str, data: Mapping[str, Any], *, version: int | None = None
    ) -> Session:
        """Replace all of the data."""
        raise NotImplementedError

    async def update(self, session_id: str, function: Callable[[Data], Data | None]) -> Session:
        """Read, compute, write if nobody else wrote meanwhile; else again from the reading.

        `function` gets the data and answers the new data, or None if it changed the given one. It
        may be called more than once. Only the keys that differ are sent.
        """
        raise NotImplementedError

    async def renew(self, session_id: str, *, ttl_seconds: int | None = None) -> Session:
        """Extend by the sliding window; by a new one from now on with `ttl_seconds`."""
        raise NotImplementedError

    async def rotate(self, session_id: str, *, grace_seconds: int | None = None) -> IssuedSession:
        """A new token; the former one verifies for `grace_seconds` more."""
        raise NotImplementedError

    async def revoke(self, session_id: str, *, reason: str = "logout") -> None:
        """End a session now. No error where there is nothing to end."""
        raise NotImplementedError

    async def revoke_all(
        self, user_id: str, *, keep: str | None = None, reason: str = "logout"
    ) -> int:
        """End all sessions of a user, but for the one with the id `keep`; how many were ended."""
        raise NotImplementedError

    def list(self, user_id: str) -> AsyncIterator[Session]:
        """The user's live sessions without their data, newest first, page by page."""
        raise NotImplementedError

    def events(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        since: int | None = None,
        until: int | None = None,
        newest_first: bool = True,
    ) -> AsyncIterator[Event]:
        """The audit trail of a session or of a user, page by page.

        `since` (inclusive) and `until` (exclusive) compare the time of record.
        """
        raise NotImplementedError

    async def pending(self, session_id: str) -> PendingExpiry | None:
        """The expiry whose event TTL has yet to bring."""
        raise NotImplementedError
