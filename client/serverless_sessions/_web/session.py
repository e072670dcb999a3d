"""The session of one web request, as plans of calls.

The session is loaded once, when it is first needed. At the end of the request the values are
compared with the loaded ones, and only the top-level keys that differ are written. Requests that
run at the same time therefore keep each other's changes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from serverless_sessions._core import clock
from serverless_sessions._core.calls import Plan
from serverless_sessions._core.checks import check_methods, check_reason
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.token import Token, new_session_id
from serverless_sessions._web.cookies import Cookie, CookieChange
from serverless_sessions._web.migration import GRACE_SECONDS, FormerSession, store_former
from serverless_sessions._web.packing import Dumps, changes, pack, parts, unpack
from serverless_sessions.errors import (
    AnonymousSession,
    BodyTooLarge,
    DataTooLarge,
    ImpersonatedSession,
    InvalidRequest,
    InvalidToken,
    NotAnonymous,
    RotationInGrace,
    SessionExists,
    SessionNotFound,
    TokenSuperseded,
    Unavailable,
)
from serverless_sessions.models import Client, Impersonator, IssuedSession, Session

Values = dict[str, Any]

# The maximum lifetime of a session in the service, and of a cookie in browsers.
LONGEST_SECONDS = 400 * 24 * 3600
# The value of `Retry-After` in the 503 during an outage.
RETRY_AFTER_SECONDS = 1
# How long a visitor's session remains after the log-in. The second request of a double click, and
# other requests in progress, still need the session and its CSRF token.
_LAST_WINDOW_SECONDS = 60

logger = logging.getLogger(__name__)


def is_passive(path: str, patterns: Collection[str]) -> bool:
    """Whether a request for this path does not count as use of the session.

    A pattern matches the whole path. `*` stands for any characters, also for slashes, `?` for one
    character, and `[…]` for one of several.
    """
    if isinstance(patterns, str):
        patterns = [patterns]
    return any(fnmatchcase(path, pattern) for pattern in patterns)


class WebSession:
    """Loads, saves and ends the session of one request.

    `tokens` come from the session cookie. If visitors have a cookie of their own, `visitor_tokens`
    come from that cookie. The session cookie is then valid only for sessions with a user, and the
    visitors' cookie only for anonymous sessions. If `visitor_tokens` is None, one cookie is used
    for both.

    `impersonator_tokens` come from the cookie in which the token of an impersonator waits. An
    impersonated session is only valid together with a live session of its impersonator, so it does
    not outlast that session.

    `user_of` returns the id of the user to whom the given values belong. No new session is
    stored for values whose names are all in `trivial`. `authentication` returns how and when the
    user of a new session proved who they are, as arguments of `create`.

    The creation of a user's session ends the user's oldest sessions beyond `max_sessions`.

    A request that `is_passive` does not count as use: it loads the session without renewing it.

    `token` and `session` are the current token and session. Both are None while there is no
    session.

    `former`, if it is set before the session is loaded, is continued if the request has no session
    of a user.
    """

    former: FormerSession | None = None

    def __init__(
        self,
        operations: Operations,
        tokens: Sequence[str],
        visitor_tokens: Sequence[str] | None = None,
        *,
        impersonator_tokens: Sequence[str] = (),
        client: Client | None,
        user_of: Callable[[Mapping[Any, Any]], str | None],
        dumps: Dumps,
        loads: Callable[[Any], Any],
        trivial: Collection[str] = (),
        max_sessions: int | None = None,
        authentication: Callable[[], Mapping[str, Any] | None] | None = None,
        is_passive: bool = False,
    ) -> None:
        self.client = client
        self.token: str | None = None
        self.session: Session | None = None
        self.is_loaded = False
        self._operations = operations
        self._tokens = [*map(Secret, tokens)]
        self._visitor_tokens = None if visitor_tokens is None else [*map(Secret, visitor_tokens)]
        self._impersonator_tokens = [*map(Secret, impersonator_tokens)]
        self._user_of = user_of
        self._dumps = dumps
        self._loads = loads
        self._trivial = frozenset(trivial)
        self._max_sessions = max_sessions
        self._authentication = authentication
        self._is_passive = is_passive
        # The data and the user at the last load or save.
        self._saved: Values = {}
        self._user_id: str | None = None
        # Generated before the save, so that a repeated save creates the same session or makes the
        # same rotation.
        self._new_token: Token | None = None
        self._is_token_issued = False
        self._has_ended_users_session = False
        # The user who has just proved who they are, and the methods.
        self._proof: tuple[str, Collection[str]] | None = None
        # The session of the impersonator that waits, and its token.
        self._waiting: tuple[Secret[str], Session] | None = None
        self._is_waiting_issued = False
        self._has_ended_waiting = False
        self._has_ended_impersonator = False
        self._is_log_out = False
        self._former_token: str | None = None
        # The values of a former visitor.
        self._adopted: Secret[Values] | None = None
        self._has_former_ended = False
        # The impersonator of the new session that the next save will store.
        self._new_impersonator: Impersonator | None = None

    def load(self) -> Plan[Secret[Values]]:
        """Verify the request's tokens and return the values of the session, or {} without one.

        Raises whatever `loads` raises if it cannot read the data.
        """
        if not self.is_loaded:
            yield from self._find()
            if self.former and (self.session is None or self.session.user_id is None):
                yield from self._continue(self.former)
            self.is_loaded = True
        if self._adopted and self.is_adopted:
            values = self._adopted.map(dict)
        else:
            data = Secret(self.session.data or {} if self.session else {})
            values = data.map(lambda members: unpack(members, self._loads))
        self._saved = self._pack(values).value
        self._user_id = values.map(self._user_of).value
        return values

    def _find(self) -> Plan[None]:
        is_shared = self._visitor_tokens is None
        for tokens, for_visitor in ((self._tokens, False), (self._visitor_tokens or (), True)):
            for token in tokens:
                session = yield from self._verify(token)
                if not session or not (is_shared or (session.user_id is None) == for_visitor):
                    continue
                if session.impersonator or session.user_id is None:
                    yield from self._find_waiting(session.impersonator)
                if self._waiting or not session.impersonator:
                    self.token, self.session = token.value, session
                return
        yield from self._find_waiting(None)

    def _find_waiting(self, impersonator: Impersonator | None) -> Plan[None]:
        """Find the session of the impersonator.

        Once the impersonated session has ended, `impersonator` is None, and the session may be
        anybody's.
        """
        for token in self._impersonator_tokens:
            session = yield from self._verify(token)
            if (
                session
                and session.user_id is not None
                and session.impersonator is None
                and (impersonator is None or impersonator.id == session.user_id)
            ):
                self._waiting = token, session
                return

    def _verify(self, token: Secret[str]) -> Plan[Session | None]:
        return self._operations.verify(token, renew=not self._is_passive, client=self.client)

    def make_passive(self) -> None:
        """Load the session without renewing it. Raises `RuntimeError` if it is already loaded."""
        if self.is_loaded:
            raise RuntimeError(
                "the session has already been read: call passive() earlier in the request, or add "
                "the path to the option `passive`"
            )
        self._is_passive = True

    @property
    def has_former_token(self) -> bool:
        """Whether the token is still the one that was derived from the key of a former session."""
        return self._former_token is not None and self.token == self._former_token

    @property
    def is_adopted(self) -> bool:
        """Whether the values are those of a former visitor, and are not stored yet."""
        return self._adopted is not None and self.session is None

    @property
    def is_former_over(self) -> bool:
        """Whether the response deletes the cookie of a former session, and the session itself.

        A former cookie must not sign anybody in once the user has a session of the service, or has
        logged out. Until a response has replaced the derived token, the browser needs it.
        """
        if self.has_former_token:
            return False
        has_user = self.session is not None and self.session.user_id is not None
        is_continued = self._former_token is not None or self._adopted is not None
        return (
            has_user
            or self._has_ended_users_session
            or self._has_former_ended
            or (is_continued and bool(self.cookie_changes()))
        )

    def _continue(self, former: FormerSession) -> Plan[None]:
        """Find or create the session that continues a former one of a user.

        The values of a former visitor are only stored once they change.
        """
        user_id, data = None, None
        if former.values is not None:
            try:
                user_id = former.values.map(self._user_of).value
                data = self._pack(former.values)
            except Exception as error:  # noqa: BLE001  # whatever `dumps` raises
                logger.warning("a former session can't be stored: %s", type(error).__name__)
                return
            if user_id is None:
                self._adopted = None if self.session else former.values
                return
        session = yield from self._verify(Secret(former.token.text))
        if data is not None:
            try:
                session = yield from store_former(
                    self._operations, former, user_id, data, session, client=self.client
                )
            except (SessionExists, SessionNotFound):
                logger.info("the session that continued a former one has ended")
                self._has_former_ended = True
                return
            except (DataTooLarge, BodyTooLarge, InvalidRequest) as error:
                logger.warning("a former session can't be stored: %s", error.code)
                return
        if session:
            self.session = session
            self.token = self._former_token = former.token.text

    @property
    def impersonator(self) -> Impersonator | None:
        """Who acts as the user, or None if the user does."""
        if self.makes_session:
            return self._new_impersonator
        return self.session.impersonator if self.session else None

    @property
    def waiting_values(self) -> Secret[Values] | None:
        """The values of the impersonator's session that waits, or None without one."""
        if self._waiting is None:
            return None
        data = Secret(self._waiting[1].data or {})
        return data.map(lambda members: unpack(members, self._loads))

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

    def authenticate(self, user_id: str | None, methods: Collection[str]) -> bool:
        """Record with the next save that this user has just proved who they are.

        Return whether this is a step-up, which is a rotation. At a log-in, the new session gets the
        methods.
        """
        if user_id is None:
            raise AnonymousSession("Nobody is logged in who could prove who they are.")
        if self.impersonator and user_id == self._user_id:
            raise ImpersonatedSession("Somebody else acts as the user of the session.")
        self._proof = user_id, check_methods(methods)
        is_step_up = bool(self.session) and user_id == self._user_id and not self.makes_session
        if is_step_up:
            self.prepare_rotation()
        return is_step_up

    def begin_log_in(self) -> None:
        """Let the next save store a session that nobody else acts in, even for the same user."""
        self._new_impersonator = None
        if self.session and self.session.impersonator:
            self.prepare_session()

    def begin_log_out(self) -> None:
        """Let the next save end the impersonator's session too, unless a log-in follows.

        The impersonated session may have expired, or may not be stored yet.
        """
        self._is_log_out, self._new_impersonator = True, None
        if self.makes_session:
            self._new_token = None

    def impersonate(self, user_id: str, *, by: str | None, reason: str) -> None:
        """Let the next save store an impersonated session of this user, beside the current one."""
        check_reason(reason)
        agent = self.session
        if self.impersonator:
            raise ImpersonatedSession("Stop impersonating before you impersonate another user.")
        if agent is None or agent.user_id is None or self.token is None:
            raise AnonymousSession("Nobody is logged in who could impersonate a user.")
        if by not in (None, agent.user_id):
            raise ValueError("by is not the user of the session")
        self._waiting = Secret(self.token), agent
        self._new_impersonator = Impersonator(agent.user_id, reason)
        self.forget()
        self._user_id = user_id
        self.prepare_session()

    def stop_impersonating(self) -> Plan[Secret[Values] | None]:
        """End the impersonated session and return the values of the impersonator's session.

        If the impersonated session has expired, its impersonator returns as well. Return None, and
        change nothing, if nobody is impersonated.
        """
        if self._waiting is None:
            return None
        if self.session and self.session.impersonator:
            yield from self._operations.revoke(
                self.session.session_id, reason="impersonation_stopped"
            )
        self.forget()
        token, self.session = self._waiting
        self.token, self._waiting, self._new_impersonator = token.value, None, None
        self._is_token_issued = self._has_ended_waiting = True
        return (yield from self.load())

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
        if self.has_former_token:
            self.prepare_rotation()
        if self._is_log_out and user_id is None:
            yield from self._end_waiting("logout")
        if former_session and user_id == self._user_id and not self.makes_session:
            yield from self._update(former_session, data, ttl_seconds if is_new_window else None)
        elif self.is_adopted and not self.makes_session and data.value == self._saved:
            return
        elif self.makes_session or data.value.keys() - self._trivial:
            issued = yield from self._create(data, user_id, ttl_seconds, absolute_ttl_seconds)
            if former_session:
                # End the former session last, so that nothing is lost if an earlier call fails.
                yield from self._end_former(former_session, user_id)
            if issued.session.impersonator:
                yield from self._rotate_waiting()
                self._is_waiting_issued = True
            elif user_id is not None:
                yield from self._end_waiting("signed_in")
            self._accept_token(issued)
        elif former_session:
            yield from self._end_former(former_session, None)
            self.token = self.session = self._new_token = None
        elif self.is_adopted:
            self._has_former_ended = True
        self._saved, self._user_id = data.value, user_id

    def end(self, *, reason: str, with_impersonator: bool = False) -> Plan[None]:
        """End the session now, and the impersonator's session as well if it is a log-out."""
        if self.session:
            yield from self._operations.revoke(self.session.session_id, reason=reason)
            self._has_ended_users_session |= self.session.user_id is not None
        if with_impersonator:
            yield from self._end_waiting(reason)
        self.token = self.session = self._new_token = None

    def end_impersonation(self, *, reason: str) -> Plan[None]:
        """End the impersonator's session, and the impersonated one if it is still live."""
        if self.session and self.session.impersonator:
            yield from self.end(reason=reason)
        yield from self._end_waiting(reason)

    def cookie_changes(self) -> list[CookieChange]:
        """Return the changes that the response makes to the cookies. The list may be empty."""
        changes: list[CookieChange] = []
        is_visitor = bool(self.session and self.session.user_id is None)
        signs_in_or_out = self._has_ended_users_session
        if self._is_token_issued and self.session and self.token:
            has_own_cookie = is_visitor and self._visitor_tokens is not None
            cookie = Cookie.VISITOR if has_own_cookie else Cookie.USER
            changes.append(_set_cookie(cookie, Secret(self.token), self.session))
            signs_in_or_out |= not is_visitor
        if self._is_waiting_issued and self._waiting:
            changes.append(_set_cookie(Cookie.IMPERSONATOR, *self._waiting))
        deletions = {
            # Without a session, the cookie may contain a token of the impersonator who logged out.
            Cookie.USER: self._has_ended_users_session
            or (self._has_ended_impersonator and not self.session),
            Cookie.VISITOR: self._visitor_tokens and signs_in_or_out,
            Cookie.IMPERSONATOR: self._impersonator_tokens and self._has_ended_waiting,
        }
        cookies_set = {change.cookie for change in changes}
        changes += [
            CookieChange(cookie, None)
            for cookie, is_deleted in deletions.items()
            if is_deleted and cookie not in cookies_set
        ]
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
        proof: Mapping[str, Any] = {}
        if user_id is not None and self._new_impersonator:
            proof = {"impersonator": self._new_impersonator}
            # The timeouts of the app may be longer than an impersonated session may last.
            ttl_seconds = absolute_ttl_seconds = None
        elif user_id is not None:
            methods = self._proven_methods(user_id)
            authentication = self._authentication or dict
            proof = (authentication() or {}) if methods is None else {"methods": methods}
        first, *rest = _parts(data) or [Secret({})]
        issued = yield from self._operations.create(
            user_id,
            data=first,
            ttl_seconds=ttl_seconds,
            absolute_ttl_seconds=absolute_ttl_seconds,
            client=self.client,
            max_sessions=None if user_id is None else self._max_sessions,
            token=token,
            **proof,
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
            self._has_former_ended = self.has_former_token
            self.token = self.session = self._new_token = None
            raise

    def _rotate(self, session: Session, successor: Token) -> Plan[None]:
        methods = self._proven_methods(session.user_id)
        rotate = self._operations.rotate
        if methods is not None:
            rotate = partial(self._operations.authenticate, methods=methods)
        try:
            issued = yield from rotate(
                session.session_id,
                token=Secret(self.token) if self.token else None,
                grace_seconds=GRACE_SECONDS if self.has_former_token else None,
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
        self._proof = self._new_impersonator = None

    def _proven_methods(self, user_id: str | None) -> Collection[str] | None:
        """Return the methods of this user's new proof, or None without one."""
        prover, methods = self._proof or (None, None)
        return methods if prover == user_id else None

    def _end_former(self, former_session: Session, user_id: str | None) -> Plan[None]:
        """End the former session after a log-in or a log-out."""
        if former_session.user_id is not None:
            reason = "logout" if user_id is None else "signed_in"
            yield from self._operations.revoke(former_session.session_id, reason=reason)
            self._has_ended_users_session = True
            yield from self._end_waiting(reason)
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

    def _rotate_waiting(self) -> Plan[None]:
        """Replace the token that waits if it was derived from the key of a former session."""
        if self._waiting is None or self._waiting[0].value != self._former_token:
            return
        token, session = self._waiting
        try:
            issued = yield from self._operations.rotate(
                session.session_id, token=token, grace_seconds=GRACE_SECONDS
            )
        except (RotationInGrace, TokenSuperseded, InvalidToken):
            return  # another request has just done so
        self._waiting = Secret(issued.token), issued.session

    def _end_waiting(self, reason: str) -> Plan[None]:
        """End the impersonator's session: nobody waits behind a log-in or a log-out."""
        if not self.is_loaded:
            yield from self._find_waiting(None)
        if self._waiting:
            yield from self._operations.revoke(self._waiting[1].session_id, reason=reason)
            self._waiting = None
            self._has_ended_impersonator = True
        self._has_ended_waiting = True

    def _pack(self, values: Secret[Mapping[Any, Any]]) -> Secret[Values]:
        return values.map(lambda members: pack(_with_json_names(members), self._dumps))


def _set_cookie(cookie: Cookie, token: Secret[str], session: Session) -> CookieChange:
    seconds_left = session.absolute_expires_at - max(clock.now(), session.created_at)
    return CookieChange(cookie, token, max(seconds_left, 1))


def _parts(members: Secret[Values]) -> list[Secret[Values]]:
    return [*map(Secret, members.map(parts).value)]


def _with_json_names(values: Mapping[Any, Any]) -> Values:
    return {name if isinstance(name, str) else _json_name(name): values[name] for name in values}


def _json_name(name: object) -> str:
    """Return a name as JSON would write it. The frameworks' own sessions do the same."""
    [text] = json.loads(json.dumps({name: None}))
    return str(text)
