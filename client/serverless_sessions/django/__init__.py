"""A session engine for Django: `SESSION_ENGINE = "serverless_sessions.django"`.

The session key is the session's token. The user of a session is the value of `_auth_user_id`, which
django.contrib.auth sets at a log-in. A session without it is anonymous. A session never changes its
user, so a log-in creates a new session.

| | calls |
| --- | --- |
| first access to a session | `verify` |
| save | `change` with the values that have changed; `create` for a new session |
| save after a log-in | `create` with all values, then a final `renew` of the visitor's session |
| `cycle_key` | `rotate`; for a visitor, the next save works as after a log-in |
| `authenticate` | `authenticate`; after a log-in, the next save passes the methods to `create` |
| `impersonate` | none; the next save creates the impersonated session |
| `stop_impersonating` | `revoke` |

The key of a new session is generated in this process, and the next save stores it in the service.
If the request fails before that save, nothing has changed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import auth
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth import SESSION_KEY as USER_ID
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone
from django.utils.asyncio import async_unsafe
from django.utils.module_loading import import_string

from serverless_sessions._core.async_sessions import AsyncSessions
from serverless_sessions._core.calls import Plan
from serverless_sessions._core.checks import check_max_sessions
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.sessions import Sessions
from serverless_sessions._core.token import Token
from serverless_sessions._core.transport import Transport
from serverless_sessions._web.cookies import Cookie, CookieChange
from serverless_sessions._web.session import LONGEST_SECONDS, Values, WebSession, is_passive
from serverless_sessions.django.migration import FormerStore, former_store
from serverless_sessions.errors import SessionNotFound, SessionsError, Unavailable
from serverless_sessions.models import Client, Impersonator

Result = TypeVar("Result")

# Options of SERVERLESS_SESSIONS that are no arguments of `Sessions`.
_ADAPTER_OPTIONS = {
    "absolute_ttl_seconds",
    "max_sessions",
    "passive",
    "step_up_url",
    "authentication",
    "migrate_from",
    "migrate_cookie",
    "migrate_cookie_domain",
    "migrate_cookie_path",
    "migrate_until",
}
_EXPIRY = "_session_expiry"  # Django's key for the argument of `set_expiry`
# What an impersonated session takes over. The values of its user come after these.
_KEPT = (_EXPIRY, auth.BACKEND_SESSION_KEY)

logger = logging.getLogger(__name__)


class SessionStore(SessionBase):
    """The session of a request.

    During an outage every call raises `Unavailable`, and `outage` is set to that error.

    `client`, if it is set, is recorded when a session is created and when `load` renews it.
    `other_keys` are tried after the session key, because a cookie can occur more than once.
    `impersonator_keys` come from the cookie in which the key of an impersonator waits. `request` is
    passed to the app's function `authentication`.
    `former_store` has the session of the engine that the app used before.
    `has_foreign_cookie` is true if the request has a session cookie whose value cannot be a key.
    """

    client: Client | None = None
    other_keys: Sequence[str] = ()
    impersonator_keys: Sequence[str] = ()
    request: HttpRequest | None = None
    former_store: FormerStore | None = None
    _session_cache: Values
    has_foreign_cookie = False
    outage: Unavailable | None = None

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        # Several threads or tasks may access the session, but it is loaded only once.
        self._load_lock = threading.RLock()
        self._async_load_lock = asyncio.Lock()
        self._is_deleted = False
        self._is_former_read = False
        self._is_agent_checked = False
        # The expiry at the last load or save.
        self._saved_expiry: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> SessionStore:
        """Return another store with the same values, and the same key if it is stored."""
        is_stored = "_web" not in self.__dict__ or not self._web.is_prepared
        store = type(self)(self.session_key if is_stored else None)
        store.request, store.client = self.request, self.client
        if hasattr(self, "_session_cache"):
            store._session_cache = deepcopy(self._session_cache, memo)
        return store

    @cached_property
    def _web(self) -> WebSession:
        serializer = self.serializer()
        return WebSession(
            _operations(),
            [key for key in [self.session_key or "", *self.other_keys] if self._is_token(key)],
            impersonator_tokens=self.impersonator_keys,
            client=self.client,
            max_sessions=settings.SERVERLESS_SESSIONS.get("max_sessions"),
            authentication=self._authentication,
            is_passive=self.request is not None
            and is_passive(self.request.path, settings.SERVERLESS_SESSIONS.get("passive", ())),
            user_of=_user_of,
            dumps=serializer.dumps,
            loads=lambda content: serializer.loads(
                content.encode() if isinstance(content, str) else content
            ),
        )

    @property
    def has_former_token(self) -> bool:
        """Whether the key is still the one that was derived from the key of a former session."""
        return "_web" in self.__dict__ and self._web.has_former_token

    def find_former(self, request: HttpRequest) -> None:
        """Use the request's session of the former engine if it has no session of the service."""
        self.former_store = former_store(request, _max_seconds())
        if self.former_store and self._session_key is None:
            # Without a key, Django would not load the session.
            self._session_key = self.former_store.token.text

    def delete_former(self) -> bool:
        """Delete the request's former session if it is over. Return whether this is so."""
        if self.former_store is None or "_web" not in self.__dict__:
            return False
        # A former visitor may have removed all values.
        is_over = self._web.is_former_over or (self._web.is_adopted and self.is_empty())
        if is_over:
            self.former_store.delete()
        return is_over

    def cookie_changes(self) -> list[CookieChange]:
        """Return the changes that the response makes to the session cookie."""
        changes = self._web.cookie_changes() if "_web" in self.__dict__ else []
        if not changes and self._is_deleted and self.has_foreign_cookie:
            changes = [CookieChange(Cookie.USER, token=None)]
        return changes

    def load(self) -> Values:
        """Return the values. Without a live session, they are empty and the key becomes None."""
        return self._run(self._load()).value

    async def aload(self) -> Values:
        return (await self._arun(self._load())).value

    def exists(self, session_key: str | None) -> bool:
        """Return whether this is the current key of a live session.

        It is false for a key that the next save will replace. Apps call this method with keys that
        they have stored, so a former key is not treated as a theft.
        """
        plan = self._exists(Secret(session_key))
        del session_key
        return self._run(plan)

    async def aexists(self, session_key: str | None) -> bool:
        plan = self._exists(Secret(session_key))
        del session_key
        return await self._arun(plan)

    def create(self) -> None:
        """Store a new session, independent of the current one."""
        self._run(self._create())

    async def acreate(self) -> None:
        await self._arun(self._create())

    def save(self, must_create: bool = False) -> None:
        """Store a new session, or the changes of the values and of the expiry.

        Values that only other requests have changed are not overwritten. The session key changes if
        the user changes. Raises `UpdateError` if the session has ended.
        """
        self._run(self._save(must_create))

    async def asave(self, must_create: bool = False) -> None:
        await self._arun(self._save(must_create))

    def delete(self, session_key: str | None = None) -> None:
        """End the session whose current key is `session_key`. If it is None, end this session."""
        plan = self._delete(Secret(session_key))
        del session_key
        self._run(plan)

    async def adelete(self, session_key: str | None = None) -> None:
        plan = self._delete(Secret(session_key))
        del session_key
        await self._arun(plan)

    def flush(self) -> None:
        """End the session, and continue without one.

        Django's `get_user` calls this method if the session does not match the user's password. One
        possible cause is another request that is changing the password at the same time. That
        request still uses the session, so the session is not ended in this case.
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

    def passive(self) -> None:
        """Do not count this request as use: the session is read without renewing it.

        Use it for requests that a page makes on its own, such as polling. Changes of the session
        are stored, but they do not renew it either. Raises `RuntimeError` if the request has
        already read the session.
        """
        self._web.make_passive()

    def cycle_key(self) -> None:
        """Give the session a new key. For a visitor, the next save stores it.

        The former key stays valid for requests in progress. If another request has changed the key
        at the same time, the key of this session does not change.
        """
        self._run(self._cycle_key())

    async def acycle_key(self) -> None:
        await self._arun(self._cycle_key())

    def authenticate(self, methods: Collection[str]) -> None:
        """Record that the user has just proved who they are, by `methods` such as "otp".

        The session gets a new key, as with `cycle_key`. At a log-in, call it after `login`. Raises
        `AnonymousSession` if nobody is logged in, and `ImpersonatedSession` if somebody else acts
        as the user.
        """
        self._run(self._authenticate(methods))

    async def aauthenticate(self, methods: Collection[str]) -> None:
        await self._arun(self._authenticate(methods))

    def begin_log_in(self) -> None:
        """Let the next save end an impersonation, even if the user who logs in is the same."""
        self._web.begin_log_in()
        if self._web.makes_session:
            self._session_key = self._web.prepare_session()

    def authenticated_within(self, seconds: float, *, methods: Collection[str] = ()) -> bool:
        """Whether the user proved who they are within the last `seconds`, with all of `methods`.

        This is never true in an impersonated session.
        """
        values, session = self._run(self._values()), self._web.session
        return (
            session is not None
            and session.user_id == _user_of(values.value)
            and session.authenticated_within(seconds, methods=methods)
        )

    @property
    def impersonator(self) -> Impersonator | None:
        """Who acts as the user, and why. None if the user does."""
        self._run(self._values())
        return self._web.impersonator

    def impersonate(self, values: Secret[Values], *, by: object, reason: str) -> None:
        """Continue with a new session that has these values; see `guard.impersonate`."""
        self._run(self._impersonate(values, by, reason))

    async def aimpersonate(self, values: Secret[Values], *, by: object, reason: str) -> None:
        await self._arun(self._impersonate(values, by, reason))

    def stop_impersonating(self) -> bool:
        """End the impersonated session and return to the impersonator's."""
        return self._run(self._stop_impersonating())

    async def astop_impersonating(self) -> bool:
        return await self._arun(self._stop_impersonating())

    @classmethod
    def clear_expired(cls) -> None:
        """Do nothing: DynamoDB's TTL removes expired sessions."""

    @classmethod
    async def aclear_expired(cls) -> None:
        """Do nothing: DynamoDB's TTL removes expired sessions."""

    def _get_session(self, no_load: bool = False) -> Values:
        with self._load_lock:
            values: Values = super()._get_session(no_load)  # type: ignore[misc]
            return values

    async def _aget_session(self, no_load: bool = False) -> Values:
        async with self._async_load_lock:
            values: Values = await super()._aget_session(no_load)  # type: ignore[misc]
            return values

    _session = property(_get_session)

    def _load(self) -> Plan[Secret[Values]]:
        if self._web.is_prepared:
            return Secret({})
        # The page that renders the error may read the session again.
        if self.request and self.outage:
            raise self.outage
        try:
            values = yield from self._web.load()
        except SessionsError:
            raise
        except Exception:
            # SESSION_SERIALIZER cannot read the stored data.
            session_id = self._web.session and self._web.session.session_id
            logger.warning("the data of session %s can't be read", session_id)
            self._web.forget()
            values = Secret({})
        if self._web.session and self._seconds_left(values) <= 0:
            # `set_expiry` set a fixed time. The service only knows an idle timeout, which every
            # renewal extends.
            yield from _operations().revoke(self._web.session.session_id, reason="expired")
            self._web.forget()
            values = Secret({})
        self._session_key = self._web.token
        self._saved_expiry = values.value.get(_EXPIRY)
        return values

    def _exists(self, session_key: Secret[str | None]) -> Plan[bool]:
        if self._web.is_prepared and session_key.value == self._web.token:
            return False
        return (yield from _operations().inspect(Secret(session_key.value or ""))) is not None

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
            # The key belongs to another session or came from a cookie. Such a key is never used for
            # a new session.
            raise CreateError
        values = yield from self._values()
        yield from self._ensure_loaded()
        web = self._web
        if web.is_adopted and not web.is_prepared:
            yield from self._create()
            return
        if web.session is None and not web.is_prepared:
            raise UpdateError
        seconds = self._seconds_left(values)
        if seconds <= 0:
            if web.session:
                yield from web.end(reason="expired")
            self._session_key = web.prepare_session()
            return
        expiry, saved = values.value.get(_EXPIRY), self._saved_expiry
        if web.session and _ends_with_browser(expiry) != _ends_with_browser(saved):
            # The cookie's expiry date is added or removed. A cookie is only set with a new token.
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

    def _delete(self, session_key: Secret[str | None]) -> Plan[None]:
        """End a session. The whole key must be valid, because the session id in it is no secret."""
        if session_key.value in (None, self.session_key):
            yield from self._ensure_loaded()
            yield from self._web.end(reason="logout", with_impersonator=True)
            self._is_deleted = True
        else:
            session = yield from _operations().inspect(Secret(session_key.value or ""))
            if session:
                yield from _operations().revoke(session.session_id, reason="logout")

    def _end_if_current(self) -> Plan[None]:
        """End the session if its key and its user's hash have not changed since the load."""
        loaded = yield from self._values()
        current = yield from _operations().inspect(Secret(self._web.token or ""))
        if current and _password_hash(current.data or {}) == _password_hash(loaded.value):
            yield from self._web.end(reason="logout")
            self._is_deleted = True
        self._web.forget()
        self.clear()
        self._session_key = None

    def _ensure_loaded(self) -> Plan[None]:
        """Load the session for a caller that does not need its values."""
        if not self._web.is_loaded and not self._web.is_prepared:
            try:
                yield from self._web.load()
            except SessionsError:
                raise
            except Exception:
                logger.info("the data of a session that ends or is replaced can't be read")

    def _cycle_key(self) -> Plan[None]:
        yield from self._values()
        session = self._web.session
        if session and session.user_id is not None and not self._web.makes_session:
            # The rotation happens now, as in Django's own stores, because apps may end the session
            # of the former key next.
            try:
                yield from self._web.rotate()
            except SessionNotFound:
                return  # the next save raises UpdateError
            self._session_key = self._web.token
        else:
            # Django changes a visitor's key at a log-in, which creates a new session. This is the
            # key of that session.
            self._session_key = self._web.prepare_session()
        self.modified = True

    def _authenticate(self, methods: Collection[str]) -> Plan[None]:
        values = yield from self._values()
        if self._web.authenticate(_user_of(values.value), methods):
            # If the session has ended, the next save raises UpdateError.
            with suppress(SessionNotFound):
                yield from self._web.rotate()
                self._session_key = self._web.token
        self.modified = True

    def _authentication(self) -> Mapping[str, Any] | None:
        """Return what the app knows of how and when the user of this request has logged in."""
        function = settings.SERVERLESS_SESSIONS.get("authentication")
        if isinstance(function, str):
            function = import_string(function)
        proof: Mapping[str, Any] | None = None
        if function and self.request:
            proof = function(self.request)
        return proof

    def _impersonate(self, values: Secret[Values], by: object, reason: str) -> Plan[None]:
        current = yield from self._values()
        user_id = values.map(_user_of).value
        self._web.impersonate(str(user_id), by=None if by is None else str(by), reason=reason)
        kept = {name: current.value[name] for name in _KEPT if name in current.value}
        self._session_cache = kept | values.value
        self._session_key = self._web.prepare_session()
        self.modified = True

    def _stop_impersonating(self) -> Plan[bool]:
        yield from self._values()
        yield from self._ensure_loaded()  # the session cookie may have expired in the browser
        values = yield from self._web.stop_impersonating()
        if values is None:
            return False
        self._session_cache = values.value
        self._session_key, self._saved_expiry = self._web.token, values.value.get(_EXPIRY)
        return True

    def _values(self) -> Plan[Secret[Values]]:
        """Return the current values. They are loaded if necessary."""
        self.accessed = True
        if not hasattr(self, "_session_cache"):
            values = (yield from self._load()) if self.session_key else Secret({})
            self._session_cache = values.value
        return Secret(self._session_cache)

    def _seconds_left(self, values: Secret[Values]) -> int:
        """Return the seconds until the session expires; 0 or less if it has expired."""
        expiry = values.value.get(_EXPIRY)
        if isinstance(expiry, datetime | str):
            seconds = (self.get_expiry_date(expiry=expiry) - timezone.now()).total_seconds()
        else:
            seconds = self.get_expiry_age(expiry=expiry)
        return min(math.ceil(seconds), _max_seconds())

    def _is_token(self, key: str) -> bool:
        """Whether the key is a token of the service that comes from the cookie."""
        token = Token.parse(key)
        return token is not None and token != (self.former_store and self.former_store.token)

    def _read_former(self) -> None:
        if self.former_store and not self._is_former_read:
            self._web.former = self.former_store.read()
            self._is_former_read = True

    def _check_agent(self) -> None:
        """End an impersonation, also an expired one, if Django would sign the impersonator out."""
        if self.impersonator_keys and not self._is_agent_checked:
            _sessions().run(self._ensure_loaded())
            if not _is_signed_in(self._waiting_values()):
                _sessions().run(self._web.end_impersonation(reason="impersonator_signed_out"))
            self._is_agent_checked = True

    async def _acheck_agent(self) -> None:
        if self.impersonator_keys and not self._is_agent_checked:
            run = _async_sessions().run
            await run(self._ensure_loaded())
            if not await sync_to_async(_is_signed_in)(self._waiting_values()):
                await run(self._web.end_impersonation(reason="impersonator_signed_out"))
            self._is_agent_checked = True

    def _waiting_values(self) -> Secret[Values] | None:
        try:
            return self._web.waiting_values
        except Exception:
            logger.warning("the data of an impersonator's session can't be read")
            return Secret({})

    def _run(self, plan: Plan[Result]) -> Result:
        self._read_former()
        try:
            self._check_agent()
            return _sessions().run(plan)
        except Unavailable as error:
            self.outage = error
            raise

    async def _arun(self, plan: Plan[Result]) -> Result:
        if isinstance(self.request, WSGIRequest):
            # Under WSGI, every async view has an event loop of its own. The connections of the
            # asyncio client would not outlast it.
            return await sync_to_async(self._run)(plan)
        if self.former_store and not self._is_former_read:
            await sync_to_async(self._read_former)()
        try:
            await self._acheck_agent()
            return await _async_sessions().run(plan)
        except Unavailable as error:
            self.outage = error
            raise


class _WaitingValues(dict[str, Any]):
    """The values of a session that waits. `get_user` may not change the stored ones."""

    def cycle_key(self) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""


def _is_signed_in(values: Secret[Values] | None) -> bool:
    """Return whether Django accepts the user of these values. It does if there are no values."""
    if values is None:
        return True
    request = SimpleNamespace(session=values.map(_WaitingValues).value)
    return auth.get_user(cast(HttpRequest, request)).is_authenticated


def _is_called_by_get_user() -> bool:
    """Return whether `get_user` is the caller. It calls if the user's password has changed."""
    caller = sys._getframe(2)
    return caller.f_code in (auth.get_user.__code__, auth.aget_user.__code__)


def _password_hash(values: Mapping[Any, Any]) -> Any:
    return values.get(HASH_SESSION_KEY)


def _user_of(values: Mapping[Any, Any]) -> str | None:
    user = values.get(USER_ID)
    return None if user is None else str(user)


def _ends_with_browser(expiry: Any) -> bool:
    """Return what `get_expire_at_browser_close` returns for a session with this expiry."""
    return bool(settings.SESSION_EXPIRE_AT_BROWSER_CLOSE) if expiry is None else expiry == 0


def _max_seconds() -> int:
    """Return a session's maximum lifetime in seconds. `set_expiry` can set a shorter one."""
    longest: int = settings.SERVERLESS_SESSIONS.get("absolute_ttl_seconds", LONGEST_SECONDS)
    return longest


def _options() -> dict[str, Any]:
    """Return the arguments for `Sessions`."""
    options = settings.SERVERLESS_SESSIONS
    check_max_sessions(options.get("max_sessions"))
    return {name: options[name] for name in options if name not in _ADAPTER_OPTIONS}


class _SyncTransport(Transport):
    """Refuses to block an event loop, as Django's database does.

    A session that is already loaded makes no calls, so sync code can still read its values.
    """

    send = async_unsafe(
        "You cannot call the session service from an async context: use the async methods of the "
        "session, such as aget, or sync_to_async."
    )(Transport.send)


class _SyncSessions(Sessions):
    transport_class = _SyncTransport


@cache
def _sessions() -> Sessions:
    return _SyncSessions(**_options())


@cache
def _async_sessions() -> AsyncSessions:
    return AsyncSessions(**_options())


def _operations() -> Operations:
    """Return the calls as plans, which both the synchronous and the asyncio client can run."""
    return _sessions().operations


@receiver(auth.user_logged_in)
def _begin_log_in(*, request: HttpRequest | None = None, **_: Any) -> None:
    """Without this, a log-in as the user of the session would leave the session as it is."""
    session = getattr(request, "session", None)
    if isinstance(session, SessionStore):
        session.begin_log_in()


@receiver(setting_changed)
def _forget_clients(*, setting: str, **_: Any) -> None:
    """Create new clients when a test has overridden the settings."""
    if setting == "SERVERLESS_SESSIONS":
        _sessions.cache_clear()
        _async_sessions.cache_clear()
