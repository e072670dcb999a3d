"""The sessions of the engine that an app used before, as `migrate_from` names it."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.sessions.backends import db, file, signed_cookies
from django.contrib.sessions.backends.base import SessionBase
from django.core import signing
from django.http import HttpRequest

from serverless_sessions._core import clock
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.token import Token
from serverless_sessions._web.migration import FormerSession, check_end, derive_token, is_over

logger = logging.getLogger(__name__)


class FormerStore:
    """The session that a request's former cookie names, in the former engine."""

    def __init__(self, engine: type[SessionBase], key: Secret[str], longest_seconds: int) -> None:
        self.token = derive_token(settings.SECRET_KEY, key)
        self._engine = engine
        self._key = key
        self._longest_seconds = longest_seconds
        self._is_signed_cookie = issubclass(engine, signed_cookies.SessionStore)

    def read(self) -> FormerSession | None:
        """Return the session, or None if its cookie cannot be read."""
        store = self._open()
        values = Secret(store.load())
        if not values.value:
            return None if self._is_signed_cookie else FormerSession(self.token, None)
        return FormerSession(
            self.token,
            values,
            max(min(self._seconds_left(store, values), self._longest_seconds), 1),
            self._longest_seconds,
        )

    def delete(self) -> None:
        """Delete the session from its store, if it is there."""
        try:
            store = self._open()
            # Unlike `delete`, `load` accepts every key that a browser may send.
            if not self._is_signed_cookie and store.load():
                store.delete()
        except Exception as error:  # noqa: BLE001  # engines raise errors of their own
            # The session of the service has its new token by now.
            logger.warning("a former session can't be deleted: %s", type(error).__name__)

    def _open(self) -> SessionBase:
        store = self._engine(self._key.value)
        if isinstance(store, file.SessionStore):
            # The names of the files start with the name of the cookie, which may have changed.
            store.file_prefix = former_cookie().name
        return store

    def _seconds_left(self, store: SessionBase, values: Secret[dict[str, Any]]) -> int:
        """Return the seconds until the session expires, at most those of a new session.

        The expiry of a session in a cache cannot be read. It gets its whole lifetime.
        """
        expiry = values.value.get("_session_expiry")
        whole = int(store.get_expiry_age(expiry=expiry))
        left: float | None = None
        if self._is_signed_cookie:
            signed_at = datetime.fromtimestamp(
                signing.b62_decode(self._key.value.split(":")[-2]), UTC
            )
            left = store.get_expiry_age(modification=signed_at, expiry=expiry)
            left -= clock.time() - signed_at.timestamp()
        elif isinstance(store, db.SessionStore):
            row = store.model.objects.filter(session_key=self._key.value).first()
            left = row and store.get_expiry_age(expiry=row.expire_date)
        elif isinstance(store, file.SessionStore):
            with suppress(OSError):  # another request has just deleted it
                expires_at = store._expiry_date(values.value)  # type: ignore[attr-defined]
                left = store.get_expiry_age(expiry=expires_at)
        return whole if left is None else min(whole, int(left))


class FormerCookie(NamedTuple):
    name: str
    domain: str | None
    path: str

    @property
    def is_replaced(self) -> bool:
        """Whether the cookie of the service takes its place in the browser."""
        return self == (
            settings.SESSION_COOKIE_NAME,
            settings.SESSION_COOKIE_DOMAIN,
            settings.SESSION_COOKIE_PATH,
        )


def former_cookie() -> FormerCookie:
    options = settings.SERVERLESS_SESSIONS
    return FormerCookie(
        options.get("migrate_cookie", "sessionid"),
        options.get("migrate_cookie_domain"),
        options.get("migrate_cookie_path", "/"),
    )


def check_options() -> None:
    """Raise `ValueError` if the options for the migration cannot be right."""
    # The middleware may run with another engine, without settings of its own.
    options = getattr(settings, "SERVERLESS_SESSIONS", {})
    if "migrate_from" in options:
        if options["migrate_from"] == __package__:
            raise ValueError("migrate_from must be the engine that the app used before")
        check_end(
            options.get("migrate_until"),
            is_required=issubclass(_engine(), signed_cookies.SessionStore),
        )


def former_store(request: HttpRequest, longest_seconds: int) -> FormerStore | None:
    """Return the store if the request has the cookie of a former session."""
    options = settings.SERVERLESS_SESSIONS
    if "migrate_from" not in options or is_over(options.get("migrate_until")):
        return None
    cookie = Secret(request.COOKIES.get(former_cookie().name, ""))
    if not cookie.value or Token.parse(cookie.value):
        return None
    return FormerStore(_engine(), cookie, longest_seconds)


def _engine() -> type[SessionBase]:
    engine: type[SessionBase] = import_module(
        settings.SERVERLESS_SESSIONS["migrate_from"]
    ).SessionStore
    return engine
