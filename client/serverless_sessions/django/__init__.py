"""Django's sessions, kept by the service: `SESSION_ENGINE = "serverless_sessions.django"`.

The session key is the session's token. The session's user is `_auth_user_id`, in which
django.contrib.auth keeps who is logged in. Without it the session is anonymous. A session never
changes its user, so a log-in makes a new session. `cycle_key` does too.

| | calls |
| --- | --- |
| first look at a session | `verify` |
| save | `change` with what changed, key by key; `create` for a new session |
| save after a log-in | `create` with all values, then `revoke` of the session from before |

A new key is made here, before the service knows of it. The next save stores the new session and
ends the one from before. If the request fails in between, nothing has changed.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth import SESSION_KEY as USER_ID
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils import timezone

from serverless_sessions.async_sessions import AsyncSessions
from serverless_sessions.calls import Plan
from serverless_sessions.document import changes, pack, parts, unpack
from serverless_sessions.errors import SessionNotFound, Unavailable
from serverless_sessions.operations import Operations
from serverless_sessions.secret import Token, new_session_id
from serverless_sessions.session import Client, Session
from serverless_sessions.sessions import Sessions

Values = dict[str, Any]
Result = TypeVar("Result")

_EXPIRY = "_session_expiry"  # what `set_expiry` was given; Django's name for it
_MAX_SECONDS = 400 * 24 * 3600  # the service's

logger = logging.getLogger(__name__)


class SessionStore(SessionBase):
    """The session of a request. In an outage each call raises `Unavailable`, and is `outage`.

    `client`, if it is known, is recorded with a new session and with a renewal by `load`.
    """

    client: Client | None = None
    outage: Unavailable | None = None

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        # What the service holds under the key, with the data that the values were last equal to.
        self._stored: Session | None = None
        # The token in a key that the service does not know yet.
        self._new: Token | None = None
        # The session that ends once the new one is stored.
        self._former: Session | None = None

    def load(self) -> Values:
        """The values. If the key proves no live session there are none, and no key any more."""
        return self._run(self._load())

    async def aload(self) -> Values:
        return await self._arun(self._load())

    def exists(self, session_key: str | None) -> bool:
        """Whether the key proves a live session, other than one that the next save ends."""
        return self._run(self._exists(session_key))

    async def aexists(self, session_key: str | None) -> bool:
        return await self._arun(self._exists(session_key))

    def create(self) -> None:
        """Store a new session, whatever this one was."""
        self._run(self._create())

    async def acreate(self) -> None:
        await self._arun(self._create())

    def save(self, must_create: bool = False) -> None:
        """Store a new session, or what changed of the values and of their expiry.

        Keys that others changed meanwhile stay as they are. The session key changes if the user
        does. Raises `UpdateError` if the session has ended.
        """
        self._run(self._save(must_create))

    async def asave(self, must_create: bool = False) -> None:
        await self._arun(self._save(must_create))

    def delete(self, session_key: str | None = None) -> None:
        """End the session that the key proves; by default this one."""
        self._run(self._delete(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        await self._arun(self._delete(session_key))

    def cycle_key(self) -> None:
        """Go on under a new key. The next save stores it, and ends the session of the old one."""
        self._run(self._cycle_key())

    async def acycle_key(self) -> None:
        await self._arun(self._cycle_key())

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing: DynamoDB's TTL does it."""

    @classmethod
    async def aclear_expired(cls) -> None:
        """Nothing: DynamoDB's TTL does it."""

    def _load(self) -> Plan[Values]:
        if self._new:
            return {}
        self._stored = None
        session = yield from self._read()
        values = self._unpacked(session) if session else None
        if session and values is not None and self._seconds_left(values) <= 0:
            # `set_expiry` named a moment. The service knows windows, which move.
            yield from _calls().revoke(session.session_id, reason="expired")
            values = None
        if values is None:
            self._session_key = self._stored = None
            return {}
        return values

    def _exists(self, session_key: str | None) -> Plan[bool]:
        token = Token.parse(session_key or "")
        if not token or (self._former and self._former.session_id == token.session_id):
            return False
        return (yield from _calls().verify(token.text, renew=False, client=None)) is not None

    def _create(self) -> Plan[None]:
        self._former = None
        self._make_key()
        yield from self._save(must_create=True)
        self.modified = True

    def _save(self, must_create: bool) -> Plan[None]:
        if self.session_key is None:
            yield from self._create()
            return
        if must_create and not self._new:
            # The key is another session's, or came in a cookie: it becomes nobody's.
            raise CreateError
        values = yield from self._values()
        try:
            yield from self._store(self._new, values) if self._new else self._change(values)
        except SessionNotFound as ended:
            raise UpdateError from ended

    def _delete(self, session_key: str | None) -> Plan[None]:
        """The key must prove its session: the session id in it is no secret."""
        if session_key in (None, self.session_key):
            found = [(yield from self._read()), self._former]
            self._stored = self._former = self._new = None
        else:
            found = [(yield from _calls().verify(session_key, renew=False, client=None))]
        for session in filter(None, found):
            yield from _calls().revoke(session.session_id, reason="logout")

    def _cycle_key(self) -> Plan[None]:
        yield from self._values()
        self._former = (yield from self._read()) or self._former
        self._make_key()
        self.modified = True

    def _values(self) -> Plan[Values]:
        """The values as they stand, loaded if they were not yet."""
        self.accessed = True
        if not hasattr(self, "_session_cache"):
            self._session_cache: Values = yield from self._load()
        return self._session_cache

    def _read(self) -> Plan[Session | None]:
        """What the service holds under the key; read once."""
        if self._stored is None and self.session_key and not self._new:
            self._stored = yield from _calls().verify(
                self.session_key, renew=True, client=self.client
            )
        return self._stored

    def _store(self, token: Token, values: Values) -> Plan[None]:
        """Store a new session, then end the one from before.

        If this fails and is done again, it is the same session: the token is the same.
        """
        data, seconds = self._packed(values), self._seconds_left(values)
        user_id = None if values.get(USER_ID) is None else str(values[USER_ID])
        stored = None
        if seconds > 0:
            first, *rest = parts(data) or [{}]
            issued = yield from _calls().create(
                user_id,
                data=first,
                ttl_seconds=seconds,
                absolute_ttl_seconds=_max_seconds(),
                client=self.client,
                token=token,
            )
            for part in rest:
                yield from _calls().change(token.session_id, part, version=None)
            stored = replace(issued.session, data=data)
        if self._former:
            yield from self._end_former(self._former, user_id)
        self._stored, self._former = stored, None
        self._new = None if stored else token

    def _end_former(self, former: Session, user_id: str | None) -> Plan[None]:
        reason = "signed_in" if user_id else "logout"
        if user_id == former.user_id:
            reason = "key_cycled"
        try:
            yield from _calls().revoke(former.session_id, reason=reason)
        except Unavailable as error:
            if former.user_id:
                raise
            # It signs nobody in. Who has just logged in is not to lose that over it.
            logger.warning("an anonymous session is left to expire: %s", error)

    def _change(self, values: Values) -> Plan[None]:
        """Store what is no longer as it was read."""
        stored = yield from self._read()
        if stored is None:
            raise UpdateError
        before, data = self._packed(self._unpacked(stored) or {}), self._packed(values)
        if before.get(USER_ID) != data.get(USER_ID):
            self._former = stored
            yield from self._store(self._make_key(), values)
            return
        seconds = self._seconds_left(values)
        if seconds <= 0:
            yield from _calls().revoke(stored.session_id, reason="expired")
            self._make_key()
            return
        changed = changes(before, data)
        for part in parts(changed):
            yield from _calls().change(stored.session_id, part, version=None)
        # The time left until a given moment is shorter at each save. That is no new window.
        is_new_window = _EXPIRY in changed if _is_moment(values) else seconds != stored.ttl_seconds
        if is_new_window:
            yield from _calls().renew(stored.session_id, ttl_seconds=seconds)
        self._stored = replace(stored, data=data, ttl_seconds=seconds)

    def _make_key(self) -> Token:
        self._stored, self._new = None, Token.issue(new_session_id())
        self._session_key = self._new.text
        return self._new

    def _seconds_left(self, values: Values) -> int:
        """Until the session expires, unless it is renewed; 0 or less if it has expired."""
        expiry = values.get(_EXPIRY)
        if _is_moment(values):
            left = (self.get_expiry_date(expiry=expiry) - timezone.now()).total_seconds()
        else:
            left = self.get_expiry_age(expiry=expiry)
        return min(math.ceil(left), _max_seconds())

    def _packed(self, values: Values) -> Values:
        named = {name if isinstance(name, str) else _text(name): values[name] for name in values}
        return pack(named, self.serializer().dumps)

    def _unpacked(self, session: Session) -> Values | None:
        """None if SESSION_SERIALIZER can't read what is there."""
        loads = self.serializer().loads
        try:
            return unpack(
                session.data or {},
                lambda dumped: loads(dumped.encode() if isinstance(dumped, str) else dumped),
            )
        except Exception:
            logger.warning("the data of session %s can't be read", session.session_id)
            return None

    def _run(self, plan: Plan[Result]) -> Result:
        try:
            return _sessions()._run(plan)
        except Unavailable as error:
            self.outage = error
            raise

    async def _arun(self, plan: Plan[Result]) -> Result:
        try:
            return await _async_sessions()._run(plan)
        except Unavailable as error:
            self.outage = error
            raise


def _is_moment(values: Values) -> bool:
    """Whether `set_expiry` was given a date or a timedelta."""
    return isinstance(values.get(_EXPIRY), datetime | str)


def _text(name: object) -> str:
    """What JSON, and so Django's own stores, make of a name that is no text."""
    [text] = json.loads(json.dumps({name: None}))
    return str(text)


def _max_seconds() -> int:
    """From the creation to the absolute end, which never moves; `set_expiry` may ask for less."""
    longest: int = settings.SERVERLESS_SESSIONS.get("absolute_ttl_seconds", _MAX_SECONDS)
    return longest


def _options() -> dict[str, Any]:
    """What `Sessions` is made with."""
    options = settings.SERVERLESS_SESSIONS
    return {name: options[name] for name in options if name != "absolute_ttl_seconds"}


@cache
def _sessions() -> Sessions:
    return Sessions(**_options())


@cache
def _async_sessions() -> AsyncSessions:
    return AsyncSessions(**_options())


def _calls() -> Operations:
    """The calls as plans, of which each method makes its own: one for threads and asyncio."""
    return _sessions()._operations


@receiver(setting_changed)
def _forget_clients(*, setting: str, **_: Any) -> None:
    """A test has overridden settings."""
    if setting == "SERVERLESS_SESSIONS":
        _sessions.cache_clear()
        _async_sessions.cache_clear()
