"""The client for threads and plain functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from botocore.credentials import Credentials

from serverless_sessions.aws import Signer, find_region
from serverless_sessions.calls import Outcome, Plan, Result, Wait
from serverless_sessions.direct import DirectReader
from serverless_sessions.operations import Operations
from serverless_sessions.session import Client, Data, Event, IssuedSession, PendingExpiry, Session
from serverless_sessions.transport import Transport


class Sessions:
    """Calls the service at `url`, the stack's output `ApiUrl`. Safe to share between threads.

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
        self._operations = Operations(
            url,
            region or find_region(url, profile),
            deadline_seconds=deadline_seconds,
            verify_deadline_seconds=verify_deadline_seconds,
            reader=reader,
        )
        self._signer = Signer(profile, credentials)
        self._transport = Transport()

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
    ) -> IssuedSession:
        """A new session; anonymous without `user_id`."""
        return self._run(
            self._operations.create(
                user_id,
                data=data,
                ttl_seconds=ttl_seconds,
                absolute_ttl_seconds=absolute_ttl_seconds,
                client=client,
            )
        )

    def verify(
        self, token: str, *, renew: bool = True, client: Client | None = None
    ) -> Session | None:
        """The session that `token` proves, None if it proves none. An outage raises."""
        return self._run(self._operations.verify(token, renew=renew, client=client))

    def inspect(self, token: str) -> Session | None:
        """The session whose newest token this is, without the consequences of `verify`.

        For a token that no user has just presented, such as one that an app has noted: nothing is
        renewed, and a token that has been replaced since ends nothing. It returns None for that.
        """
        return self._run(self._operations.inspect(token))

    def get(self, session_id: str) -> Session:
        """Read without extending. Raises `SessionNotFound`."""
        return self._run(self._operations.get(session_id))

    def change(
        self, session_id: str, changes: Mapping[str, Any], *, version: int | None = None
    ) -> Session:
        """Set top-level keys; remove those whose value is None.

        With `version`, only if the data is still that version: else `VersionMismatch`.
        """
        return self._run(self._operations.change(session_id, changes, version=version))

    def replace(
        self, session_id: str, data: Mapping[str, Any], *, version: int | None = None
    ) -> Session:
        """Replace all of the data."""
        return self._run(self._operations.replace(session_id, data, version=version))

    def update(self, session_id: str, function: Callable[[Data], Data | None]) -> Session:
        """Read, compute, write if nobody else wrote meanwhile; else again from the reading.

        `function` gets the data and answers the new data, or None if it changed the given one. It
        may be called more than once. Only the keys that differ are sent.
        """
        return self._run(self._operations.update(session_id, function))

    def renew(
        self, session_id: str, *, ttl_seconds: int | None = None, final: bool = False
    ) -> Session:
        """Extend by the sliding window; by a new one from now on with `ttl_seconds`.

        With `final`, the new window is the session's last: nothing extends it afterwards. Only an
        anonymous session can get one, else this raises `NotAnonymous`.
        """
        return self._run(self._operations.renew(session_id, ttl_seconds=ttl_seconds, final=final))

    def rotate(
        self, session_id: str, *, token: str | None = None, grace_seconds: int | None = None
    ) -> IssuedSession:
        """Give the session a new token.

        Pass the `token` that the end user presented. The former token stays good until the new one
        has been presented, and for `grace_seconds` after that. Raises `RotationInGrace` if another
        request has just rotated: keep the token at hand. Raises `InvalidToken` for a token that is
        not good any more.

        Without `token` it raises `RotationInGrace` until the last new token has been presented and
        its grace period is over; `grace_seconds=0` rotates all the same.
        """
        return self._run(
            self._operations.rotate(session_id, token=token, grace_seconds=grace_seconds)
        )

    def revoke(self, session_id: str, *, reason: str = "logout") -> None:
        """End a session now. No error where there is nothing to end."""
        self._run(self._operations.revoke(session_id, reason=reason))

    def revoke_all(self, user_id: str, *, keep: str | None = None, reason: str = "logout") -> int:
        """End all sessions of a user, but for the one with the id `keep`; how many were ended."""
        return self._run(self._operations.revoke_all(user_id, keep=keep, reason=reason))

    def list(self, user_id: str) -> Iterator[Session]:
        """The user's live sessions without their data, newest first, page by page."""
        cursor = None
        while True:
            page = self._run(self._operations.list_page(user_id, cursor))
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
        """The audit trail of a session or of a user, page by page.

        `since` (inclusive) and `until` (exclusive) compare the time of record.
        """
        query = {
            "session_id": session_id,
            "user_id": user_id,
            "since": since,
            "until": until,
            "order": "desc" if newest_first else "asc",
        }
        cursor = None
        while True:
            page = self._run(self._operations.events_page(query, cursor))
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def pending(self, session_id: str) -> PendingExpiry | None:
        """The expiry whose event TTL has yet to bring."""
        return self._run(self._operations.pending(session_id))

    def _run(self, plan: Plan[Result]) -> Result:
        """Do what the plan says, step by step."""
        outcome: Outcome = None
        while True:
            try:
                step = plan.send(outcome)
            except StopIteration as done:
                result: Result = done.value
                return result
            if isinstance(step, Wait):
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._transport.send(step, self._signer.sign(step))
