"""The asyncio client. Like those of `Sessions`, its methods do not keep tokens and data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from types import TracebackType
from typing import Any

from serverless_sessions._core.background import Pending, wait_async
from serverless_sessions._core.base import BaseSessions
from serverless_sessions._core.calls import Outcome, Plan, Result, Wait
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.transport import AsyncTransport
from serverless_sessions.models import (
    Client,
    Data,
    Event,
    Impersonator,
    IssuedSession,
    PendingExpiry,
    Session,
)


class AsyncSessions(BaseSessions[AsyncTransport]):
    """The asyncio client. Event loops can share one instance.

    The connections of an event loop are closed when the loop shuts down, at the end of
    `asyncio.run` for example.
    """

    transport_class = AsyncTransport

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
        await self._transport.aclose()

    async def create(
        self,
        user_id: str | None = None,
        *,
        data: Mapping[str, Any] | None = None,
        ttl_seconds: int | None = None,
        absolute_ttl_seconds: int | None = None,
        client: Client | None = None,
        max_sessions: int | None = None,
        methods: Collection[str] | None = None,
        authenticated_at: int | None = None,
        impersonator: Impersonator | None = None,
    ) -> IssuedSession:
        plan = self.operations.create(
            user_id,
            data=Secret(data),
            ttl_seconds=ttl_seconds,
            absolute_ttl_seconds=absolute_ttl_seconds,
            client=client,
            max_sessions=max_sessions,
            methods=methods,
            authenticated_at=authenticated_at,
            impersonator=impersonator,
        )
        del data
        return await self.run(plan)

    async def verify(
        self, token: str, *, renew: bool = True, client: Client | None = None
    ) -> Session | None:
        plan = self.operations.verify(Secret(token), renew=renew, client=client)
        del token
        return await self.run(plan)

    async def inspect(self, token: str) -> Session | None:
        plan = self.operations.inspect(Secret(token))
        del token
        return await self.run(plan)

    async def get(self, session_id: str) -> Session:
        return await self.run(self.operations.get(session_id))

    async def change(
        self, session_id: str, changes: Mapping[str, Any], *, version: int | None = None
    ) -> Session:
        plan = self.operations.change(session_id, Secret(changes), version=version)
        del changes
        return await self.run(plan)

    async def replace(
        self, session_id: str, data: Mapping[str, Any], *, version: int | None = None
    ) -> Session:
        plan = self.operations.replace(session_id, Secret(data), version=version)
        del data
        return await self.run(plan)

    async def update(self, session_id: str, function: Callable[[Data], Data | None]) -> Session:
        return await self.run(self.operations.update(session_id, function))

    async def renew(
        self, session_id: str, *, ttl_seconds: int | None = None, final: bool = False
    ) -> Session:
        return await self.run(
            self.operations.renew(session_id, ttl_seconds=ttl_seconds, final=final)
        )

    async def rotate(
        self, session_id: str, *, token: str | None = None, grace_seconds: int | None = None
    ) -> IssuedSession:
        plan = self.operations.rotate(
            session_id,
            token=None if token is None else Secret(token),
            grace_seconds=grace_seconds,
        )
        del token
        return await self.run(plan)

    async def authenticate(
        self,
        session_id: str,
        *,
        methods: Collection[str],
        token: str | None = None,
        grace_seconds: int | None = None,
    ) -> IssuedSession:
        plan = self.operations.authenticate(
            session_id,
            methods=methods,
            token=None if token is None else Secret(token),
            grace_seconds=grace_seconds,
        )
        del token
        return await self.run(plan)

    async def revoke(self, session_id: str, *, reason: str = "logout") -> None:
        await self.run(self.operations.revoke(session_id, reason=reason))

    async def revoke_all(
        self, user_id: str, *, keep: str | None = None, reason: str = "logout"
    ) -> int:
        return await self.run(self.operations.revoke_all(user_id, keep=keep, reason=reason))

    async def list(self, user_id: str) -> AsyncIterator[Session]:
        cursor = None
        while True:
            page = await self.run(self.operations.list_page(user_id, cursor))
            for session in page.items:
                yield session
            cursor = page.cursor
            if cursor is None:
                return

    async def events(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        since: int | None = None,
        until: int | None = None,
        newest_first: bool = True,
    ) -> AsyncIterator[Event]:
        query = {
            "session_id": session_id,
            "user_id": user_id,
            "since": since,
            "until": until,
            "order": "desc" if newest_first else "asc",
        }
        cursor = None
        while True:
            page = await self.run(self.operations.events_page(query, cursor))
            for event in page.items:
                yield event
            cursor = page.cursor
            if cursor is None:
                return

    async def pending(self, session_id: str) -> PendingExpiry | None:
        return await self.run(self.operations.pending(session_id))

    async def run(self, plan: Plan[Result]) -> Result:
        """Execute a plan step by step and return its result. The adapters use this method too."""
        steps = self.steps(plan)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: Result = done.value
                return result
            outcome = None
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Pending):
                await wait_async(step.future, step.seconds)
            else:
                outcome = await self._transport.send(step)
