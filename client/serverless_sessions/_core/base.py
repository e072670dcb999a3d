"""The base of both clients: their constructor, and the documentation of their methods."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any, Generic, TypeVar

from botocore.credentials import Credentials

from serverless_sessions._core.background import Pending
from serverless_sessions._core.calls import Outcome, Plan, Request, Result, Wait
from serverless_sessions._core.checks import check_region, check_url
from serverless_sessions._core.direct import DirectReader
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.signing import Signer, find_region
from serverless_sessions.models import Client, Data, Impersonator

AnyTransport = TypeVar("AnyTransport")


class BaseSessions(Generic[AnyTransport]):
    """A client of the service.

    Numbers in `data` are returned as int if they are integers, and as float otherwise. A number
    that a float cannot represent exactly is returned as `Decimal`. All three types can be sent.
    """

    transport_class: Callable[[str | None], AnyTransport]

    def __init__(
        self,
        url: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        credentials: Credentials | None = None,
        deadline_seconds: float = 10.0,
        verify_deadline_seconds: float = 2.0,
        sign_out_deadline_seconds: float = 30.0,
        reader: DirectReader | None = None,
    ) -> None:
        """Create a client for the service at `url`, the stack's output `ApiUrl` or `FunctionUrl`.

        Calls are signed with `credentials`. Without them, botocore finds the credentials (of
        `profile`, if it is set). They are renewed before they expire. A call waits for them until
        its deadline. The region is the one in `url`, or else the one in the AWS configuration.
        Raises `ValueError` if the URL, the region or the credentials cannot be valid.

        A call that is not answered within `deadline_seconds`, retries included, raises
        `Unavailable`. For `verify` and `inspect`, `verify_deadline_seconds` applies instead. For
        each request of `revoke_all`, it is `sign_out_deadline_seconds`, since the service works on
        such a request for up to 20 seconds. With a `reader`, `verify` reads the table directly
        where possible.
        """
        url = check_url(url, "the URL of the service")
        # The adapters combine these plans into larger plans.
        self.operations = Operations(
            url,
            check_region(region or find_region(url, profile)),
            deadline_seconds=deadline_seconds,
            verify_deadline_seconds=verify_deadline_seconds,
            sign_out_deadline_seconds=sign_out_deadline_seconds,
            reader=reader,
        )
        self._signer = Signer(profile, credentials)
        self._transport = self.transport_class(profile)

    def steps(self, plan: Plan[Result]) -> Generator[Request | Wait | Pending, Outcome, Result]:
        """Return the steps of a plan with all requests signed.

        A `Pending` is awaited, a `Request` is sent, and its outcome is sent to the generator.
        """
        outcome: Outcome = None
        while True:
            try:
                step = plan.send(outcome)
            except StopIteration as done:
                result: Result = done.value
                return result
            if isinstance(step, Wait):
                outcome = yield step
            else:
                outcome = yield from self._signer.exchange(step)

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
    ) -> Any:
        """Create a session. Without `user_id` it is anonymous.

        With `max_sessions`, which requires `user_id`, the user's oldest sessions beyond this number
        end. The new session counts and does not end. If the service has a limit of its own, the
        lower one applies.

        `methods` are the ways in which the user has just proved who they are. Use the names of
        RFC 8176, such as "pwd", "otp" and "hwk". If that was not just now, for example after a
        log-in through another service, pass the time in epoch seconds as `authenticated_at` (the
        claim `auth_time` of OpenID Connect).

        With an `impersonator`, somebody else acts as the user. Such a session is short, and it can
        be neither renewed beyond that nor stepped up.
        """
        raise NotImplementedError

    def verify(self, token: str, *, renew: bool = True, client: Client | None = None) -> Any:
        """Return the session of `token`, or None if the token is not valid.

        Raises `Unavailable` during an outage, so that None always means an invalid token.
        """
        raise NotImplementedError

    def inspect(self, token: str) -> Any:
        """Return the session whose newest token is `token`, without the side effects of `verify`.

        Use this method for a token that did not come with a user's request, for example one that
        the app has stored. The session is not renewed. If the token has been replaced, the method
        returns None and does not end the session.
        """
        raise NotImplementedError

    def get(self, session_id: str) -> Any:
        """Return a session without renewing it. Raises `SessionNotFound`."""
        raise NotImplementedError

    def change(
        self, session_id: str, changes: Mapping[str, Any], *, version: int | None = None
    ) -> Any:
        """Set top-level keys of the data. A key whose value is None is removed.

        With `version`, raises `VersionMismatch` unless the data still has that version.
        """
        raise NotImplementedError

    def replace(
        self, session_id: str, data: Mapping[str, Any], *, version: int | None = None
    ) -> Any:
        """Replace all of the data. `version` works as in `change`."""
        raise NotImplementedError

    def update(self, session_id: str, function: Callable[[Data], Data | None]) -> Any:
        """Read the data, change it with `function`, and write it back.

        `function` gets the data. It returns the new data, or None if it changed its argument in
        place. If another writer changes the data in between, the method starts again with the new
        data, so `function` may be called more than once. Only the keys that differ are sent.
        """
        raise NotImplementedError

    def renew(self, session_id: str, *, ttl_seconds: int | None = None, final: bool = False) -> Any:
        """Extend a session by its idle timeout. `ttl_seconds` sets a new idle timeout.

        With `final`, the session ends when the new window is over, and nothing can extend it.
        Raises `NotAnonymous` if the session has a user: only an anonymous session can get a final
        window.
        """
        raise NotImplementedError

    def rotate(
        self, session_id: str, *, token: str | None = None, grace_seconds: int | None = None
    ) -> Any:
        """Replace the session's token with a new one.

        Pass the `token` that the end user presented. That token stays valid until the new one is
        presented for the first time, and for `grace_seconds` after that. Raises `RotationInGrace`
        if another request has just rotated the token: keep using the current token. Raises
        `InvalidToken` if `token` is no longer valid.

        Without `token`, the method raises `RotationInGrace` until the newest token has been
        presented and its grace period is over. Pass `grace_seconds=0` to rotate in any case.
        """
        raise NotImplementedError

    def authenticate(
        self,
        session_id: str,
        *,
        methods: Collection[str],
        token: str | None = None,
        grace_seconds: int | None = None,
    ) -> Any:
        """Record that the user has just proved who they are, and replace the token.

        Call this method after the app has checked a password or another factor of a user who is
        signed in. It sets `Session.authenticated_at` to the current time and replaces
        `Session.methods`. The former token keeps showing what it showed before. Everything else is
        as in `rotate`.

        Raises `AnonymousSession` if the session has no user, and `ImpersonatedSession` if somebody
        else acts as the user.
        """
        raise NotImplementedError

    def revoke(self, session_id: str, *, reason: str = "logout") -> Any:
        """End a session now. A session that does not exist, or has ended, is not an error."""
        raise NotImplementedError

    def revoke_all(self, user_id: str, *, keep: str | None = None, reason: str = "logout") -> Any:
        """End all sessions of a user except the one with the id `keep`. Return their number.

        Raises `OutcomeUnknown` if an answer is lost. The request is not sent again then, because
        the lost one may still be executed. Call the method again later: it ends only the sessions
        that still live.
        """
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

        `since` (inclusive) and `until` (exclusive) limit `Event.recorded_at`, in epoch seconds.
        """
        raise NotImplementedError

    def pending(self, session_id: str) -> Any:
        """Return the expiry of a session that is not in its trail yet, or None."""
        raise NotImplementedError
