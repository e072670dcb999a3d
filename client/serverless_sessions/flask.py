"""Flask's sessions.

    app.config["SERVERLESS_SESSIONS"] = {"url": os.environ["SESSIONS_URL"]}
    ServerlessSessions(app)

`app.config["SERVERLESS_SESSIONS"]` holds what `Sessions` takes, and three more:

- `user_key`: where the session has the user's id, by default Flask-Login's `_user_id`
- `absolute_ttl_seconds`: the longest life of a permanent session, by default 400 days
- `insecure_cookie`: for development over HTTP; the cookie loses `Secure` and `__Host-`

All other attributes of the cookie, and its lifetime, are in Flask's own settings.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, cast

from flask import Flask, Request, Response, current_app
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import ServiceUnavailable

from serverless_sessions.errors import Unavailable
from serverless_sessions.session import Client
from serverless_sessions.sessions import Sessions
from serverless_sessions.web import (
    LONGEST_SECONDS,
    RETRY_AFTER_SECONDS,
    WebSession,
    cookie_name,
    run,
)

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


class FlaskSession(WebSession, SessionMixin):
    """`flask.session`. An outage is Flask's own 503, `werkzeug.exceptions.ServiceUnavailable`."""

    _outage: Unavailable | None = None

    def __contains__(self, name: object) -> bool:
        if name == "_remember" and not self.is_loaded:
            # Flask-Login asks after every request for what log-in or log-out left there for it
            # within the same request. That need not load the session.
            return False
        return super().__contains__(name)

    def load_now(self) -> None:
        try:
            # Whatever renders the 503 may touch the session once more.
            if self._outage:
                raise self._outage
            run(self.loading())
        except Unavailable as error:
            self._outage = error
            raise _service_unavailable(error) from error


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
    def client(self) -> Sessions:
        """The current app's client, for lists, the trail and ending other sessions."""
        client: Sessions = current_app.extensions[_EXTENSION]
        return client

    def get_cookie_name(self, app: Flask) -> str:
        return cookie_name(
            super().get_cookie_name(app),
            secure=self.get_cookie_secure(app),
            domain=self.get_cookie_domain(app),
            path=self.get_cookie_path(app),
        )

    def get_cookie_secure(self, app: Flask) -> bool:
        return super().get_cookie_secure(app) or not _option(app, "insecure_cookie", False)

    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        return FlaskSession(
            app.extensions[_EXTENSION],
            request.cookies.get(self.get_cookie_name(app)),
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
            run(session.saving(ttl_seconds=seconds, absolute_ttl_seconds=seconds and longest))
        except Unavailable as error:
            _answer_instead(app, response, error)
            return
        name = self.get_cookie_name(app)
        attributes: dict[str, Any] = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }
        is_new = session.token != session.held
        if session.token and (is_new or (session.stored and self.should_set_cookie(app, session))):
            response.set_cookie(name, session.token, max_age=seconds, **attributes)
        elif session.held and not session.token:
            response.delete_cookie(name, **attributes)


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
