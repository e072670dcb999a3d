"""The session of one web request, as plans of calls.

The session is loaded once, when it is first needed. At the end of the request the values are
compared with the loaded ones, and only the top-level keys that differ are written. Requests that
run at the same time therefore keep each other's changes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from serverless_sessions._core import clock
from serverless_sessions._core.calls import Plan
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.secret import Secret
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

# The maximum lifetime of a session in the service, and of a cookie in browsers.
LONGEST_SECONDS = 400 * 24 * 3600
# The value of `Retry-After` in the 503 during an outage.
RETRY_AFTER_SECONDS = 1
# How long a visitor's session remains after the log-in. The second request of a double click, and
# other requests in progress, still need the session and its CSRF token.
_LAST_WINDOW_SECONDS = 60

logger = logging.getLogger(__name__)


class WebSession:
    """Loads, saves and ends the session of one request.

    `tokens` come from the session cookie. If visitors have a cookie of their own, `visitor_tokens`
    come from that cookie. The session cookie is then valid only for sessions with a user, and the
    visitors' cookie only for anonymous sessions. If `visitor_tokens` is None, one cookie is used
    for both.

    `user_of` returns the id of the user to whom the given values belong. No new session is
    stored for values whose names are all in `trivial`.

    The creation of a user's session ends the user's oldest sessions beyond `max_sessions`.

    `token` and `session` are the current token and session. Both are None while there is no
    session.
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
        max_sessions: int | None = None,
    ) -> None:
        self.client = client
        self.token: str | None = None
        self.session: Session | None = None
        self.is_loaded = False
        self._operations = operations
        self._tokens = [*map(Secret, tokens)]
        self._visitor_tokens = None if visitor_tokens is None else [*map(Secret, visitor_tokens)]
        self._user_of = user_of
        self._dumps = dumps
        self._loads = loads
        self._trivial = frozenset(trivial)
        self._max_sessions = max_sessions
        # The data and the user at the last load or save.
        self._saved: Values = {}
        self._user_id: str | None = None
        # Generated before the save, so that a repeated save creates the same session or makes the
        # same rotation.
        self._new_token: Token | None = None
        self._is_token_issued = False
        self._has_ended_users_session = False

    def load(self) -> Plan[Secret[Values]]:
        """Verify the request's tokens and return the values of the session, or {} without one.

        Raises whatever `loads` raises if it cannot read the data.
        """
        if not self.is_loaded:
            yield from self._find()
            self.is_loaded = True
        data = Secret(self.session.data or {} if self.session else {})
        values = data.map(lambda members: unpack(members, self._loads))
        self._saved = self._pack(values).value
        self._user_id = values.map(self._user_of).value
        return values

    def _find(self) -> Plan[None]:
        is_shared = self._visitor_tokens is None
        for tokens, for_visitor in ((self._tokens, False), (self._visitor_tokens or (), True)):
            for token in tokens:
                session = yield from self._operations.verify(token, renew=True, client=self.client)
                if session and (is_shared or (session.user_id is None) == for_visitor):
                    self.token, self.session = token.value, session
                    return

    @property
    def is_prepared(self) -> bool:
        """Whether there is a new token that the next save will store."""
        return self._new_token is not None

    @property
    def makes_session(self) -> bool:
        """Whether there is a new token, and the next save will store it in a new session."""
        session_id = self.session.session_id if self.session else None
        return self._new_token is not None and self._new_token.session_id != session_id

    def forget(self) -> None:
        """Continue without the session. The stored session and its cookie do not change."""
        self.token = self.session = self._new_token = None
        self._saved, self._user_id = {}, None

    def prepare_rotation(self) -> str:
        """Generate the token to which the next save will rotate, and return it."""
        if self._new_token is None and self.token:
            token = Token.parse(self.token)
            assert token  # noqa: S101  # the token has been verified or was generated here
            self._new_token = token.successor()
        elif self._new_token is None:
            return self.prepare_session()
        return self._new_token.text

    def prepare_session(self) -> str:
        """Generate the token of the new session that the next save will store, and return it."""
        if self._new_token is None or not self.makes_session:
            self._new_token = Token.issue(new_session_id())
        return self._new_token.text

    def rotate(self) -> Plan[None]:
        """Rotate the token now instead of with the next save.

        The token does not change if another request has just rotated it. Raises `SessionNotFound`
        if the session has ended.
        """
        self.prepare_rotation()
        if self.session and self._new_token:
            try:
                yield from self._rotate(self.session, self._new_token)
            except SessionNotFound:
                self.token = self.session = self._new_token = None
                raise

    def save(
        self,
        values: Secret[Mapping[Any, Any]],
        *,
        ttl_seconds: int | None,
        absolute_ttl_seconds: int | None = None,
        is_new_window: bool = False,
    ) -> Plan[None]:
        """Write the values that have changed since the last load or save.

        If the values belong to another user, they move to a new session with a new token, and the
        former session ends. This also happens at a log-out, when the values have no user any more.

        `ttl_seconds` and `absolute_ttl_seconds` apply to new sessions. With `is_new_window`, the
        existing session is renewed with `ttl_seconds` as its new idle timeout.

        Raises `SessionNotFound` if the session has ended since it was loaded. The changes of the
        request are lost. The cookie is left alone, because it may already contain the token of a
        newer session.
        """
        data, user_id = self._pack(values), values.map(self._user_of).value
        former_session = self.session
        if former_session and user_id == self._user_id and not self.makes_session:
            yield from self._update(former_session, data, ttl_seconds if is_new_window else None)
        elif self.makes_session or data.value.keys() - self._trivial:
            issued = yield from self._create(data, user_id, ttl_seconds, absolute_ttl_seconds)
            if former_session:
                # End the former session last, so that nothing is lost if an earlier call fails.
                yield from self._end_former(former_session, user_id)
            self._accept_token(issued)
        elif former_session:
            yield from self._end_former(former_session, None)
            self.token = self.session = self._new_token = None
        self._saved, self._user_id = data.value, user_id

    def end(self, *, reason: str) -> Plan[None]:
        """End the session now."""
        if self.session:
            yield from self._operations.revoke(self.session.session_id, reason=reason)
            self._has_ended_users_session |= self.session.user_id is not None
        self.token = self.session = self._new_token = None

    def cookie_changes(self) -> list[CookieChange]:
        """Return the changes that the response makes to the cookies. The list may be empty."""
        changes: list[CookieChange] = []
        is_visitor = bool(self.session and self.session.user_id is None)
        with_visitors = self._visitor_tokens is not None
        if self._is_token_issued and self.session:
            seconds_left = self.session.absolute_expires_at - max(
                clock.now(), self.session.created_at
            )
            changes.append(
                CookieChange(
                    with_visitors and is_visitor,
                    Secret(self.token) if self.token else None,
                    max(seconds_left, 1),
                )
            )
        sets_users_cookie = any(not change.for_visitor for change in changes)
        sets_visitors_cookie = any(change.for_visitor for change in changes)
        if self._has_ended_users_session and not sets_users_cookie:
            changes.append(CookieChange(False, None))
        signs_in_or_out = self._has_ended_users_session or (
            self._is_token_issued and not is_visitor
        )
        if self._visitor_tokens and signs_in_or_out and not sets_visitors_cookie:
            changes.append(CookieChange(True, None))
        return changes

    def _create(
        self,
        data: Secret[Values],
        user_id: str | None,
        ttl_seconds: int | None,
        absolute_ttl_seconds: int | None,
    ) -> Plan[IssuedSession]:
        self.prepare_session()
        token = self._new_token
        first, *rest = _parts(data) or [Secret({})]
        issued = yield from self._operations.create(
            user_id,
            data=first,
            ttl_seconds=ttl_seconds,
            absolute_ttl_seconds=absolute_ttl_seconds,
            client=self.client,
            max_sessions=None if user_id is None else self._max_sessions,
            token=token,
        )
        for part in rest:
            yield from self._operations.change(issued.session.session_id, part, version=None)
        return issued

    def _update(
        self, session: Session, data: Secret[Values], new_ttl_seconds: int | None
    ) -> Plan[None]:
        try:
            for part in _parts(data.map(lambda members: changes(self._saved, members))):
                yield from self._operations.change(session.session_id, part, version=None)
            if new_ttl_seconds is not None:
                session = yield from self._operations.renew(
                    session.session_id, ttl_seconds=new_ttl_seconds
                )
                self.session = session
            if self._new_token:
                # Rotate last. If another call came after the rotation and failed, the new token
                # would be lost.
                yield from self._rotate(session, self._new_token)
        except SessionNotFound:
            self.token = self.session = self._new_token = None
            raise

    def _rotate(self, session: Session, successor: Token) -> Plan[None]:
        try:
            issued = yield from self._operations.rotate(
                session.session_id,
                token=Secret(self.token) if self.token else None,
                grace_seconds=None,
                successor=successor,
            )
        except (RotationInGrace, TokenSuperseded, InvalidToken) as error:
            # Another request has given the browser a newer token. The current token is still valid
            # for the rest of this request.
            logger.info("session %s keeps its token: %s", session.session_id, error.code)
            self._new_token = None
        else:
            self._accept_token(issued)

    def _accept_token(self, issued: IssuedSession) -> None:
        self.token, self.session = issued.token, issued.session
        self._is_token_issued, self._new_token = True, None

    def _end_former(self, former_session: Session, user_id: str | None) -> Plan[None]:
        """End the former session after a log-in or a log-out."""
        if former_session.user_id is not None:
            reason = "logout" if user_id is None else "signed_in"
            yield from self._operations.revoke(former_session.session_id, reason=reason)
            self._has_ended_users_session = True
            return
        try:
            yield from self._operations.renew(
                former_session.session_id, ttl_seconds=_LAST_WINDOW_SECONDS, final=True
            )
        except (SessionNotFound, NotAnonymous):
            pass  # the session has already ended
        except Unavailable as error:
            # A visitor's session signs nobody in, and the log-in that has just succeeded must not
            # fail because of it.
            logger.warning(
                "session %s could not be shortened and remains until it expires: %s",
                former_session.session_id,
                error,
            )

    def _pack(self, values: Secret[Mapping[Any, Any]]) -> Secret[Values]:
        return values.map(lambda members: pack(_with_json_names(members), self._dumps))


def _parts(members: Secret[Values]) -> list[Secret[Values]]:
    return [*map(Secret, members.map(parts).value)]


def _with_json_names(values: Mapping[Any, Any]) -> Values:
    return {name if isinstance(name, str) else _json_name(name): values[name] for name in values}


def _json_name(name: object) -> str:
    """Return a name as JSON would write it. The frameworks' own sessions do the same."""
    [text] = json.loads(json.dumps({name: None}))
    return str(text)
