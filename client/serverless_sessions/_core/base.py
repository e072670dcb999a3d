"""What both clients share: how they are made, and what each of their methods is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from botocore.credentials import Credentials

from serverless_sessions._core.direct import DirectReader
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.signing import Signer, find_region
from serverless_sessions.models import Client, Data

AnyTransport = TypeVar("AnyTransport")


class BaseSessions(Generic[AnyTransport]):
    """A client of the service.

    In `data` an integer is an int. Any other number is a float, or a `Decimal` where a float would
    have another value. All of them, `Decimal` too, can be sent.
    """

    transport_class: type[AnyTransport]

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
        """Make a client of the service at `url`, the stack's output `ApiUrl`.

        Credentials are `credentials`, or the ones that botocore finds (for `profile`, if it is set)
        and renews. The region is the one in `url`, else the one that AWS's configuration names.
        Every call ends within `deadline_seconds`, `verify` within `verify_deadline_seconds`,
        repetitions included; then it raises `Unavailable`. `reader` lets `verify` read the table.
        """
        # The calls as plans, of which the adapters make larger ones.
        self.operations = Operations(
            url,
            region or find_region(url, profile),
            deadline_seconds=deadline_seconds,
            verify_deadline_seconds=verify_deadline_seconds,
            reader=reader,
        )
        self._signer = Signer(profile, credentials)
        self._transport = self.transport_class()

    def create(
        self,
        user_id: str | None = None,
        *,
        data: Mapping[str, Any] | None = None,
        ttl_seconds: int | None = None,
        absolute_ttl_seconds: int | None = None,
        client: Client | None = None,
    ) -> Any:
        """Create a session; an anonymous one without `user_id`."""
        raise NotImplementedError

    def verify(self, token: str, *, renew: bool = True, client: Client | None = None) -> Any:
        """Return the session that `token` proves, or None if it proves none. An outage raises."""
        raise NotImplementedError

    def inspect(self, token: str) -> Any:
        """Return the session whose newest token this is, without the consequences of `verify`.

        Use it for a token that no user has just presented, such as one that an app has noted. The
        session is not renewed. For a token that has been replaced since it returns None, and ends
        nothing.
        """
        raise NotImplementedError

    def get(self, session_id: str) -> Any:
        """Read a session without extending it. Raises `SessionNotFound`."""
        raise NotImplementedError

    def change(
        self, session_id: str, changes: Mapping[str, Any], *, version: int | None = None
    ) -> Any:
        """Set top-level keys of the data, and remove those whose value is None.

        With `version`, only if the data is still that version: else `VersionMismatch`.
        """
        raise NotImplementedError

    def replace(
        self, session_id: str, data: Mapping[str, Any], *, version: int | None = None
    ) -> Any:
        """Replace all of the data. `version` is as for `change`."""
        raise NotImplementedError

    def update(self, session_id: str, function: Callable[[Data], Data | None]) -> Any:
        """Read the data, let `function` change it, and write it unless somebody else wrote before.

        If somebody did, it starts again from the reading, so `function` may be called more than
        once. It gets the data and returns the new data, or None if it changed its argument. Only
        the keys that differ are sent.
        """
        raise NotImplementedError

    def renew(self, session_id: str, *, ttl_seconds: int | None = None, final: bool = False) -> Any:
        """Extend a session by its sliding window, or by a new window of `ttl_seconds`.

        With `final`, the new window is the session's last: nothing extends it afterwards. Only an
        anonymous session can get one, else this raises `NotAnonymous`.
        """
        raise NotImplementedError

    def rotate(
        self, session_id: str, *, token: str | None = None, grace_seconds: int | None = None
    ) -> Any:
        """Give the session a new token.

        Pass the `token` that the end user presented. The former token stays good until the new one
        has been presented, and for `grace_seconds` after that. Raises `RotationInGrace` if another
        request has just rotated: keep the token at hand. Raises `InvalidToken` for a token that is
        not good any more.

        Without `token` it raises `RotationInGrace` until the last new token has been presented and
        its grace period is over; `grace_seconds=0` rotates all the same.
        """
        raise NotImplementedError

    def revoke(self, session_id: str, *, reason: str = "logout") -> Any:
        """End a session now. It is no error if there is nothing to end."""
        raise NotImplementedError

    def revoke_all(self, user_id: str, *, keep: str | None = None, reason: str = "logout") -> Any:
        """End all sessions of a user, except the one with the id `keep`; return how many."""
        raise NotImplementedError

    def list(self, user_id: str) -> Any:
        """Iterate over the user's live sessions, newest first, without their data."""
        raise NotImplementedError

    def events(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        since: int | None = None,
        until: int | None = None,
        newest_first: bool = True,
    ) -> Any:
        """Iterate over the audit trail of a session or of a user.

        `since` (inclusive) and `until` (exclusive) compare the time of record, in epoch seconds.
        """
        raise NotImplementedError

    def pending(self, session_id: str) -> Any:
        """Return the expiry whose event TTL has yet to bring, or None."""
        raise NotImplementedError
