"""Flask's sessions.

    app.config["SERVERLESS_SESSIONS"] = {"url": os.environ["SESSIONS_URL"]}
    ServerlessSessions(app)

`app.config["SERVERLESS_SESSIONS"]` holds what `Sessions` takes, and three more:

- `user_key`: where the session has the user's id, by default Flask-Login's `_user_id`
- `absolute_ttl_seconds`: the longest life of a permanent session, by default 400 days
- `insecure_cookie`: for development over HTTP; the cookie loses `Secure` and `__Host-`

All other attributes of the cookie, and its lifetime, are in Flask's own settings. Visitors who have
not logged in have a cookie of their own, `visitor` in place of `session`.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import Any, cast

from flask import Flask, Request, Response, current_app
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import ServiceUnavailable

from serverless_sessions._core.sessions import Sessions
from serverless_sessions._web.cookies import CookieChange, cookie_name, read_tokens
from serverless_sessions._web.mapping import SessionValues
from serverless_sessions._web.session import LONGEST_SECONDS, RETRY_AFTER_SECONDS
from serverless_sessions.errors import Unavailable
from serverless_sessions.models import Client

_EXTENSION = "serverless_sessions"
_OWN_OPTIONS = {"user_key", "absolute_ttl_seconds", "insecure_cookie"}
logger = logging.getLogger(__name__)

# What a header of the view's response says of a body or a cookie that is not sent.
_OF_THE_VIEW = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Expires",
    "Last-Modified",
    "Location",
    "Set-Cookie",
)


class FlaskSession(SessionValues, SessionMixin):
    """`flask.session`. An outage is Flask's own 503, `werkzeug.exceptions.ServiceUnavailable`."""

    def __init__(self, sessions: Sessions, *tokens: list[str], **options: Any) -> None:
        super().__init__(sessions.operations, *tokens, **options)
        self._sessions = sessions
        self._outage: Unavailable | None = None
        # Threads that the app starts may touch the session of the request.
        self._loading = threading.RLock()

    def __contains__(self, name: object) -> bool:
        if name == "_remember" and not self.is_loaded:
            # Flask-Login looks after every request for what log-in or log-out left there for it
            # within the same request. That need not load the session.
            return False
        return super().__contains__(name)

    def load_now(self) -> None:
        with self._loading:
            if self.is_loaded:
                return
            try:
                # Whatever renders the 503 may touch the session once more.
                if self._outage:
                    raise self._outage
                self._sessions.run(self.load_plan())
            except Unavailable as error:
                self._outage = error
                raise _service_unavailable(error) from error

    def save_now(self, *, ttl_seconds: int | None, absolute_ttl_seconds: int | None) -> None:
        self._sessions.run(
            self.save_plan(ttl_seconds=ttl_seconds, absolute_ttl_seconds=absolute_ttl_seconds)
        )


class ServerlessSessions(SessionInterface):
    """The extension, and Flask's interface to sessions. One serves any number of apps."""

    serializer = TaggedJSONSerializer()

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        options = dict(app.config["SERVERLESS_SESSIONS"])
        for name in _OWN_OPTIONS:
            options.pop(name, None)
        app.extensions[_EXTENSION] = Sessions(**options)
        if app.config["SESSION_COOKIE_SAMESITE"] is None:
            app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
        app.session_interface = self

    @property
    def sessions(self) -> Sessions:
        """The current app's client, for lists, the trail and ending other sessions."""
        sessions: Sessions = current_app.extensions[_EXTENSION]
        return sessions

    def get_cookie_name(self, app: Flask) -> str:
        return self._prefixed(app, super().get_cookie_name(app))

    def get_visitor_cookie_name(self, app: Flask) -> str:
        """The name of the cookie for visitors: `visitor`, or `<name>_visitor` beside another name
        than Flask's own.
        """
        name = super().get_cookie_name(app)
        return self._prefixed(app, "visitor" if name == "session" else f"{name}_visitor")

    def get_cookie_secure(self, app: Flask) -> bool:
        return super().get_cookie_secure(app) or not _option(app, "insecure_cookie", False)

    def _prefixed(self, app: Flask, name: str) -> str:
        return cookie_name(
            name,
            secure=self.get_cookie_secure(app),
            domain=self.get_cookie_domain(app),
            path=self.get_cookie_path(app),
        )

    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        header = request.headers.get("Cookie", "")
        return FlaskSession(
            app.extensions[_EXTENSION],
            read_tokens(header, self.get_cookie_name(app)),
            read_tokens(header, self.get_visitor_cookie_name(app)),
            client=Client(request.remote_addr, request.user_agent.string or None),
            user_key=_option(app, "user_key", "_user_id"),
            dumps=self.serializer.dumps,
            loads=self.serializer.loads,
        )

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        session = cast(FlaskSession, session)
        if session.accessed:
            response.vary.add("Cookie")
        if not session.is_loaded:
            return
        longest = _option(app, "absolute_ttl_seconds", LONGEST_SECONDS)
        lifetime = int(app.permanent_session_lifetime.total_seconds())
        seconds = min(lifetime, longest) if session.permanent else None
        try:
            session.save_now(ttl_seconds=seconds, absolute_ttl_seconds=seconds and longest)
        except Unavailable as error:
            _answer_instead(app, response, error)
            return
        for change in session.web.cookie_changes():
            self._change_cookie(app, response, change, is_permanent=session.permanent)

    def _change_cookie(
        self, app: Flask, response: Response, change: CookieChange, *, is_permanent: bool
    ) -> None:
        name = (
            self.get_visitor_cookie_name(app) if change.for_visitor else self.get_cookie_name(app)
        )
        attributes: dict[str, Any] = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }
        if change.token is None:
            response.delete_cookie(name, **attributes)
        else:
            max_age = change.max_age if is_permanent else None
            response.set_cookie(name, change.token, max_age=max_age, **attributes)


def _answer_instead(app: Flask, response: Response, error: Unavailable) -> None:
    """Make the app's own 503 of a response that Flask lets nobody replace any more."""
    answer = app.make_response(app.handle_user_exception(_service_unavailable(error)))
    with suppress(AttributeError):
        response.response.close()  # type: ignore[union-attr]
    for name in _OF_THE_VIEW:
        response.headers.pop(name, None)
    response.headers.update(answer.headers)
    response.status = answer.status
    response.response = answer.response
    response.direct_passthrough = answer.direct_passthrough


def _option(app: Flask, name: str, default: Any) -> Any:
    return app.config["SERVERLESS_SESSIONS"].get(name, default)


def _service_unavailable(error: Unavailable) -> ServiceUnavailable:
    logger.warning("the session can not be had: %s", error)
    return ServiceUnavailable(retry_after=RETRY_AFTER_SECONDS)
