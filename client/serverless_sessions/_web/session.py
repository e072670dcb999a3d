"""The session of one web request, as plans of calls.

The session is loaded once, when it is first needed. At the end of the request the values are
compared with the loaded ones, and only the top-level keys that differ are written, so that requests
side by side keep the changes of one another.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from serverless_sessions._core.calls import Plan
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.token import Token, new_session_id
from serverless_sessions._web.cookies import CookieChange
from serverless_sessions._web.packing import Dumps, changes, pack, parts, unpack
from serverless_sessions.errors import (
    InvalidToken,
    NotAnonymous,
    RotationInGrace,
    SessionNotFound,
    TokenSuperseded,
    Unavailable,
)
from serverless_sessions.models import Client, IssuedSession, Session

Values = dict[str, Any]

# The longest that the service lets a session live, and browsers a cookie.
LONGEST_SECONDS = 400 * 24 * 3600
# With an outage's 503.
RETRY_AFTER_SECONDS = 1
# What is left of a visitor's session after the log-in: the other half of a double click, and the
# requests that are under way, still find it and its CSRF token.
_LAST_WINDOW_SECONDS = 60

logger = logging.getLogger(__name__)


class WebSession:
    """The session that a request brings, and what becomes of it.

    `tokens` are those of the session cookie. Where visitors have a cookie of their own,
    `visitor_tokens` are those of that one: the session cookie then proves sessions with a user
    alone, and the visitor's cookie only sessions without one. With None, one cookie serves both.

    `token` and `stored` are the credential and the session as far as they are known; both are None
    for a request without a session. The values of a session are what its data holds. `user_of`
    tells the user whom values belong to. Names in `trivial` are no reason to store a session.
    """

    def __init__(
        self,
        operations: Operations,
        tokens: Sequence[str],
        visitor_tokens: Sequence[str] | None = None,
        *,
        client: Client | None,
        user_of: Callable[[Mapping[Any, Any]], str | None],
        dumps: Dumps,
        loads: Callable[[Any], Any],
        trivial: Collection[str] = (),
    ) -> None:
        self.client = client
        self.token: str | None = None
        self.stored: Session | None = None
        self.is_loaded = False
        self._operations = operations
        self._tokens = tokens
        self._visitor_tokens = visitor_tokens
        self._user_of = user_of
        self._dumps = dumps
        self._loads = loads
        self._trivial = frozenset(trivial)
        # The data and the user that the values were last equal to.
        self._saved: Values = {}
        self._user_id: str | None = None
        # Made beforehand, so that a save that is repeated makes the same session or rotation.
        self._next: Token | None = None
        self._is_issued = False
        self._has_ended_users_session = False

    def load(self) -> Plan[Values]:
        """Find the session that the request proves, and return its values; {} without a session.

        Raises what `loads` raises for data that it can't read.
        """
        if not self.is_loaded:
            yield from self._find()
            self.is_loaded = True
        values: Values = {}
        if self.stored:
            values = unpack(self.stored.data or {}, self._loads)
        self._saved, self._user_id = self._packed(values), self._user_of(values)
        return values

    def _find(self) -> Plan[None]:
        shares = self._visitor_tokens is None
        for tokens, for_visitor in ((self._tokens, False), (self._visitor_tokens or (), True)):
            for token in tokens:
                session = yield from self._operations.verify(token, renew=True, client=self.client)
                if session and (shares or (session.user_id is None) == for_visitor):
                    self.token, self.stored = token, session
                    return

    @property
    def is_prepared(self) -> bool:
        """Whether there is a new token that the next save stores."""
        return self._next is not None

    @property
    def makes_session(self) -> bool:
        """Whether that token is one of a new session."""
        stored_id = self.stored.session_id if self.stored else None
        return self._next is not None and self._next.session_id != stored_id

    def forget(self) -> None:
        """Go on without the session. It stays as it is, and so does its cookie."""
        self.token = self.stored = self._next = None
        self._saved, self._user_id = {}, None

    def prepare_rotation(self) -> str:
        """Make the token that the next save rotates to, and return it."""
        if self._next is None and self.token:
            presented = Token.parse(self.token)
            assert presented  # noqa: S101  # it was verified, or made here
            self._next = presented.successor()
        elif self._next is None:
            return self.prepare_session()
        return self._next.text

    def prepare_session(self) -> str:
        """Make the token of the new session that the next save stores, and return it."""
        if self._next is None or not self.makes_session:
            self._next = Token.issue(new_session_id())
        return self._next.text

    def rotate(self) -> Plan[None]:
        """Rotate at once, rather than with the next save. The token stays if another request has
        just rotated. Raises `SessionNotFound` if the session has ended.
        """
        self.prepare_rotation()
        if self.stored and self._next:
            try:
                yield from self._rotate(self.stored, self._next)
            except SessionNotFound:
                self.token = self.stored = self._next = None
                raise

    def save(
        self,
        values: Mapping[Any, Any],
        *,
        ttl_seconds: int | None,
        absolute_ttl_seconds: int | None = None,
        is_new_window: bool = False,
    ) -> Plan[None]:
        """Write what is no longer as it was loaded or saved.

        Values of another user move to a new session with a new token, and the session from before
        ends. The same happens when the user goes, which is a log-out.

        `ttl_seconds` and `absolute_ttl_seconds` count for new sessions. With `is_new_window`, the
        session gets this window from now on.

        Raises `SessionNotFound` if the session has ended since it was loaded; it takes along what
        the request wrote. The cookie stays, for it may be a newer session's by now.
        """
        data, user_id, former = self._packed(values), self._user_of(values), self.stored
        if former and user_id == self._user_id and not self.makes_session:
            yield from self._go_on(former, data, ttl_seconds if is_new_window else None)
        elif self.makes_session or data.keys() - self._trivial:
            issued = yield from self._start(data, user_id, ttl_seconds, absolute_ttl_seconds)
            if former:
                # Last, so that a failure in between costs nobody anything.
                yield from self._leave(former, user_id)
            self._take(issued)
        elif former:
            yield from self._leave(former, None)
            self.token = self.stored = self._next = None
        self._saved, self._user_id = data, user_id

    def end(self, *, reason: str) -> Plan[None]:
        """End the session now."""
        if self.stored:
            yield from self._operations.revoke(self.stored.session_id, reason=reason)
            self._has_ended_users_session |= self.stored.user_id is not None
        self.token = self.stored = self._next = None

    def cookie_changes(self) -> list[CookieChange]:
        """What the answer does to the cookies; nothing if it knows nothing new."""
        changes: list[CookieChange] = []
        is_visitor = bool(self.stored and self.stored.user_id is None)
        with_visitors = self._visitor_tokens is not None
        if self._is_issued and self.stored:
            left = self.stored.absolute_expires_at - max(int(time.time()), self.stored.created_at)
            changes.append(CookieChange(with_visitors and is_visitor, self.token, max(left, 1)))
        is_set = {change.for_visitor for change in changes}
        if self._has_ended_users_session and False not in is_set:
            changes.append(CookieChange(False, None))
        signs_in_or_out = self._has_ended_users_session or (self._is_issued and not is_visitor)
        if self._visitor_tokens and signs_in_or_out and True not in is_set:
            changes.append(CookieChange(True, None))
        return changes

    def _start(
        self,
        data: Values,
        user_id: str | None,
        ttl_seconds: int | None,
        absolute_ttl_seconds: int | None,
    ) -> Plan[IssuedSession]:
        self.prepare_session()
        token = self._next
        first, *rest = parts(data) or [{}]
        issued = yield from self._operations.create(
            user_id,
            data=first,
            ttl_seconds=ttl_seconds,
            absolute_ttl_seconds=absolute_ttl_seconds,
            client=self.client,
            token=token,
        )
        for part in rest:
            yield from self._operations.change(issued.session.session_id, part, version=None)
        return issued

    def _go_on(self, stored: Session, data: Values, new_window: int | None) -> Plan[None]:
        try:
            for part in parts(changes(self._saved, data)):
                yield from self._operations.change(stored.session_id, part, version=None)
            if new_window is not None:
                stored = yield from self._operations.renew(
                    stored.session_id, ttl_seconds=new_window
                )
                self.stored = stored
            if self._next:
                # Last: if anything failed after it, the new token would be lost.
                yield from self._rotate(stored, self._next)
        except SessionNotFound:
            self.token = self.stored = self._next = None
            raise

    def _rotate(self, stored: Session, successor: Token) -> Plan[None]:
        try:
            issued = yield from self._operations.rotate(
                stored.session_id, token=self.token, grace_seconds=None, successor=successor
            )
        except (RotationInGrace, TokenSuperseded, InvalidToken) as error:
            # Another request has given the browser a newer token. The one at hand does, for now.
            logger.info("session %s keeps its token: %s", stored.session_id, error.code)
            self._next = None
        else:
            self._take(issued)

    def _take(self, issued: IssuedSession) -> None:
        self.token, self.stored = issued.token, issued.session
        self._is_issued, self._next = True, None

    def _leave(self, former: Session, user_id: str | None) -> Plan[None]:
        """End the session from before the log-in or log-out."""
        if former.user_id is not None:
            reason = "logout" if user_id is None else "signed_in"
            yield from self._operations.revoke(former.session_id, reason=reason)
            self._has_ended_users_session = True
            return
        try:
            yield from self._operations.renew(
                former.session_id, ttl_seconds=_LAST_WINDOW_SECONDS, final=True
            )
        except (SessionNotFound, NotAnonymous):
            pass  # it has ended by itself
        except Unavailable as error:
            # It signs nobody in, and whoever has just logged in is to stay so.
            logger.warning("session %s is left to its expiry: %s", former.session_id, error)

    def _packed(self, values: Mapping[Any, Any]) -> Values:
        named = {name if isinstance(name, str) else _text(name): values[name] for name in values}
        return pack(named, self._dumps)


def _text(name: object) -> str:
    """What JSON, and so the frameworks' own sessions, make of a name that is no text."""
    [text] = json.loads(json.dumps({name: None}))
    return str(text)
