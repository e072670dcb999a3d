"""Django's sessions, kept by the service: `SESSION_ENGINE = "serverless_sessions.django"`.

The session key is the session's token. The session's user is `_auth_user_id`, in which
django.contrib.auth keeps who is logged in. Without it the session is anonymous. A session never
changes its user, so a log-in makes a new session.

| | calls |
| --- | --- |
| first look at a session | `verify` |
| save | `change` with what changed, key by key; `create` for a new session |
| save after a log-in | `create` with all values, then a last window for the visitor's session |
| `cycle_key` | `rotate`; for a visitor, the next save is one as after a log-in |

The key of a new session is made here, before the service knows of it. The next save stores it. If
the request fails in between, nothing has changed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache, cached_property
from typing import Any, TypeVar

from django.conf import settings
from django.contrib import auth
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth import SESSION_KEY as USER_ID
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils import timezone

from serverless_sessions._core.async_sessions import AsyncSessions
from serverless_sessions._core.calls import Plan
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.sessions import Sessions
from serverless_sessions._core.token import Token
from serverless_sessions._web.cookies import CookieChange
from serverless_sessions._web.session import LONGEST_SECONDS, Values, WebSession
from serverless_sessions.errors import SessionNotFound, SessionsError, Unavailable
from serverless_sessions.models import Client

Result = TypeVar("Result")

_EXPIRY = "_session_expiry"  # what `set_expiry` was given; Django's name for it

logger = logging.getLogger(__name__)


class SessionStore(SessionBase):
    """The session of a request. In an outage each call raises `Unavailable`, and is `outage`.

    `client`, if it is known, is recorded with a new session and with a renewal by `load`.
    `other_keys` are tried after the session key: a cookie name can come more than once.
    `has_foreign_cookie` says that the request's cookie is none of ours, and can't be a key.
    """

    client: Client | None = None
    other_keys: Sequence[str] = ()
    has_foreign_cookie = False
    outage: Unavailable | None = None

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        # The session is loaded once, from however many threads and tasks.
        self._loading = threading.RLock()
        self._loading_async = asyncio.Lock()
        self._is_deleted = False
        # Of the values that were loaded or saved last.
        self._saved_expiry: Any = None

    @cached_property
    def _web(self) -> WebSession:
        keys = [self.session_key or "", *self.other_keys]
        serializer = self.serializer()
        return WebSession(
            _calls(),
            [key for key in keys if Token.parse(key)],
            client=self.client,
            user_of=_user_of,
            dumps=serializer.dumps,
            loads=lambda dumped: serializer.loads(
                dumped.encode() if isinstance(dumped, str) else dumped
            ),
        )

    def cookie_changes(self) -> list[CookieChange]:
        """What the answer to the request does to the session cookie."""
        changes = self._web.cookie_changes() if "_web" in self.__dict__ else []
        if not changes and self._is_deleted and self.has_foreign_cookie:
            changes = [CookieChange(for_visitor=False, token=None)]
        return changes

    def load(self) -> Values:
        """The values. If the key proves no live session there are none, and no key any more."""
        return self._run(self._load())

    async def aload(self) -> Values:
        return await self._arun(self._load())

    def exists(self, session_key: str | None) -> bool:
        """Whether this is the present key of a live session, other than one that the next save
        replaces. Apps ask for keys that they have noted, so a former key is no theft here.
        """
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
        """End the session whose present key this is; by default this one."""
        self._run(self._delete(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        await self._arun(self._delete(session_key))

    def flush(self) -> None:
        """End the session, and go on without one.

        Django's `get_user` does so for a session that does not fit the user's password. If another
        request is changing the password, the session is its own, and stays.
        """
        if _is_called_by_get_user():
            self._run(self._end_if_current())
        else:
            super().flush()

    async def aflush(self) -> None:
        if _is_called_by_get_user():
            await self._arun(self._end_if_current())
        else:
            await super().aflush()

    def cycle_key(self) -> None:
        """Go on under a new key. For a visitor, the next save stores it.

        The former key stays good for the requests that are under way. If another request has
        changed the key at the same time, this one stays.
        """
        self._run(self._cycle_key())

    async def acycle_key(self) -> None:
        await self._arun(self._cycle_key())

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing: DynamoDB's TTL does it."""

    @classmethod
    async def aclear_expired(cls) -> None:
        """Nothing: DynamoDB's TTL does it."""

    def _get_session(self, no_load: bool = False) -> Values:
        with self._loading:
            values: Values = super()._get_session(no_load)  # type: ignore[misc]
            return values

    async def _aget_session(self, no_load: bool = False) -> Values:
        async with self._loading_async:
            values: Values = await super()._aget_session(no_load)  # type: ignore[misc]
            return values

    _session = property(_get_session)

    def _load(self) -> Plan[Values]:
        if self._web.is_prepared:
            return {}
        try:
            values = yield from self._web.load()
        except SessionsError:
            raise
        except Exception:
            # SESSION_SERIALIZER can't read what is there.
            session_id = self._web.stored and self._web.stored.session_id
            logger.warning("the data of session %s can't be read", session_id)
            self._web.forget()
            values = {}
        if self._web.stored and self._seconds_left(values) <= 0:
            # `set_expiry` named a moment. The service knows windows, which move.
            yield from _calls().revoke(self._web.stored.session_id, reason="expired")
            self._web.forget()
            values = {}
        self._session_key = self._web.token
        self._saved_expiry = values.get(_EXPIRY)
        return values

    def _exists(self, session_key: str | None) -> Plan[bool]:
        if self._web.is_prepared and session_key == self._web.token:
            return False
        token = Token.parse(session_key or "")
        if not token:
            return False
        return (yield from _calls().inspect(token.text)) is not None

    def _create(self) -> Plan[None]:
        self._web.forget()
        self._session_key = self._web.prepare_session()
        yield from self._save(must_create=True)
        self.modified = True

    def _save(self, must_create: bool) -> Plan[None]:
        if self.session_key is None:
            yield from self._create()
            return
        if must_create and not self._web.is_prepared:
            # The key is another session's, or came in a cookie: it becomes nobody's.
            raise CreateError
        values = yield from self._values()
        yield from self._find()
        web = self._web
        if web.stored is None and not web.is_prepared:
            raise UpdateError
        seconds = self._seconds_left(values)
        if seconds <= 0:
            if web.stored:
                yield from web.end(reason="expired")
            self._session_key = web.prepare_session()
            return
        expiry, saved = values.get(_EXPIRY), self._saved_expiry
        if web.stored and _ends_with_browser(expiry) != _ends_with_browser(saved):
            # The cookie changes its kind, and is set with a new token only.
            web.prepare_rotation()
        try:
            yield from web.save(
                values,
                ttl_seconds=seconds,
                absolute_ttl_seconds=_max_seconds(),
                is_new_window=expiry != saved,
            )
        except SessionNotFound as ended:
            raise UpdateError from ended
        self._session_key, self._saved_expiry = web.token, expiry

    def _delete(self, session_key: str | None) -> Plan[None]:
        """The key must prove its session: the session id in it is no secret."""
        if session_key in (None, self.session_key):
            yield from self._find()
            yield from self._web.end(reason="logout")
            self._is_deleted = True
        elif session_key:
            session = yield from _calls().inspect(session_key)
            if session:
                yield from _calls().revoke(session.session_id, reason="logout")

    def _end_if_current(self) -> Plan[None]:
        """End the session if its key and its user's hash are still those that were loaded."""
        loaded, token = (yield from self._values()).get(HASH_SESSION_KEY), self._web.token
        current = (yield from _calls().inspect(token)) if token else None
        if current and (current.data or {}).get(HASH_SESSION_KEY) == loaded:
            yield from self._web.end(reason="logout")
            self._is_deleted = True
        self._web.forget()
        self.clear()
        self._session_key = None

    def _find(self) -> Plan[None]:
        """Find out which session the key proves, where its values are of no interest."""
        if not self._web.is_loaded and not self._web.is_prepared:
            try:
                yield from self._web.load()
            except SessionsError:
                raise
            except Exception:
                logger.info("the data of a session that ends or is replaced can't be read")

    def _cycle_key(self) -> Plan[None]:
        yield from self._values()
        stored = self._web.stored
        if stored and stored.user_id is not None:
            # At once, as with Django's own stores: apps end the session of the former key next.
            try:
                yield from self._web.rotate()
            except SessionNotFound:
                return  # the save raises UpdateError
            self._session_key = self._web.token
        else:
            # A visitor's key changes at a log-in, which makes a new session. This is its key.
            self._session_key = self._web.prepare_session()
        self.modified = True

    def _values(self) -> Plan[Values]:
        """The values as they stand, loaded if they were not yet."""
        self.accessed = True
        if not hasattr(self, "_session_cache"):
            self._session_cache: Values = (yield from self._load()) if self.session_key else {}
        return self._session_cache

    def _seconds_left(self, values: Values) -> int:
        """Until the session expires, unless it is renewed; 0 or less if it has expired."""
        expiry = values.get(_EXPIRY)
        if isinstance(expiry, datetime | str):
            left = (self.get_expiry_date(expiry=expiry) - timezone.now()).total_seconds()
        else:
            left = self.get_expiry_age(expiry=expiry)
        return min(math.ceil(left), _max_seconds())

    def _run(self, plan: Plan[Result]) -> Result:
        try:
            return _sessions().run(plan)
        except Unavailable as error:
            self.outage = error
            raise

    async def _arun(self, plan: Plan[Result]) -> Result:
        try:
            return await _async_sessions().run(plan)
        except Unavailable as error:
            self.outage = error
            raise


def _is_called_by_get_user() -> bool:
    """Whether Django ends a session because the password of its user has changed."""
    caller = sys._getframe(2)
    return caller.f_code in (auth.get_user.__code__, auth.aget_user.__code__)


def _user_of(values: Mapping[Any, Any]) -> str | None:
    user = values.get(USER_ID)
    return None if user is None else str(user)


def _ends_with_browser(expiry: Any) -> bool:
    """What `get_expire_at_browser_close` says of a session with this expiry."""
    return bool(settings.SESSION_EXPIRE_AT_BROWSER_CLOSE) if expiry is None else expiry == 0


def _max_seconds() -> int:
    """From the creation to the absolute end, which never moves; `set_expiry` may ask for less."""
    longest: int = settings.SERVERLESS_SESSIONS.get("absolute_ttl_seconds", LONGEST_SECONDS)
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
    return _sessions().operations


@receiver(setting_changed)
def _forget_clients(*, setting: str, **_: Any) -> None:
    """A test has overridden settings."""
    if setting == "SERVERLESS_SESSIONS":
        _sessions.cache_clear()
        _async_sessions.cache_clear()
