"""The synchronous client.

A method that gets a token or data removes it from its own variables before it runs the plan, since
reports of errors show them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import wait
from types import TracebackType
from typing import Any

from serverless_sessions._core import clock
from serverless_sessions._core.background import Pending
from serverless_sessions._core.base import BaseSessions
from serverless_sessions._core.calls import Outcome, Plan, Result, Wait
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.transport import Transport
from serverless_sessions.models import (
    Client,
    Data,
    Event,
    Impersonator,
    IssuedSession,
    PendingExpiry,
    Session,
)


class Sessions(BaseSessions[Transport]):
    """The synchronous client. Threads can share one instance."""

    transport_class = Transport

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        self._transport.close()

    def create(
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
        return self.run(plan)

    def verify(
        self, token: str, *, renew: bool = True, client: Client | None = None
    ) -> Session | None:
        plan = self.operations.verify(Secret(token), renew=renew, client=client)
        del token
        return self.run(plan)

    def inspect(self, token: str) -> Session | None:
        plan = self.operations.inspect(Secret(token))
        del token
        return self.run(plan)

    def get(self, session_id: str) -> Session:
        return self.run(self.operations.get(session_id))

    def change(
        self, session_id: str, changes: Mapping[str, Any], *, version: int | None = None
    ) -> Session:
        plan = self.operations.change(session_id, Secret(changes), version=version)
        del changes
        return self.run(plan)

    def replace(
        self, session_id: str, data: Mapping[str, Any], *, version: int | None = None
    ) -> Session:
        plan = self.operations.replace(session_id, Secret(data), version=version)
        del data
        return self.run(plan)

    def update(self, session_id: str, function: Callable[[Data], Data | None]) -> Session:
        return self.run(self.operations.update(session_id, function))

    def renew(
        self, session_id: str, *, ttl_seconds: int | None = None, final: bool = False
    ) -> Session:
        return self.run(self.operations.renew(session_id, ttl_seconds=ttl_seconds, final=final))

    def rotate(
        self, session_id: str, *, token: str | None = None, grace_seconds: int | None = None
    ) -> IssuedSession:
        plan = self.operations.rotate(
            session_id,
            token=None if token is None else Secret(token),
            grace_seconds=grace_seconds,
        )
        del token
        return self.run(plan)

    def authenticate(
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
        return self.run(plan)

    def revoke(self, session_id: str, *, reason: str = "logout") -> None:
        self.run(self.operations.revoke(session_id, reason=reason))

    def revoke_all(self, user_id: str, *, keep: str | None = None, reason: str = "logout") -> int:
        return self.run(self.operations.revoke_all(user_id, keep=keep, reason=reason))

    def list(self, user_id: str) -> Iterator[Session]:
        cursor = None
        while True:
            page = self.run(self.operations.list_page(user_id, cursor))
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def events(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        since: int | None = None,
        until: int | None = None,
        newest_first: bool = True,
    ) -> Iterator[Event]:
        query = {
            "session_id": session_id,
            "user_id": user_id,
            "since": since,
            "until": until,
            "order": "desc" if newest_first else "asc",
        }
        cursor = None
        while True:
            page = self.run(self.operations.events_page(query, cursor))
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def pending(self, session_id: str) -> PendingExpiry | None:
        return self.run(self.operations.pending(session_id))

    def run(self, plan: Plan[Result]) -> Result:
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
                clock.sleep(step.seconds)
            elif isinstance(step, Pending):
                wait([step.future], step.seconds)
            else:
                outcome = self._transport.send(step)
