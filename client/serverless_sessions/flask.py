"""Sessions for Flask.

    app.config["SERVERLESS_SESSIONS"] = {"url": os.environ["SESSIONS_URL"]}
    ServerlessSessions(app)

`app.config["SERVERLESS_SESSIONS"]` contains the arguments of `Sessions`, and these options:

- `user_key`: the key of `flask.session` for the user's id, by default Flask-Login's `_user_id`
- `absolute_ttl_seconds`: the maximum lifetime of a permanent session, by default 400 days
- `max_sessions`: how many sessions a user may have; a log-in ends the oldest ones beyond it
- `passive`: patterns such as `/poll/*` for the paths of requests that do not count as use
- `step_up_url`: the page to which `require_recent` sends users who have to prove who they are
- `authentication`: a function that is called with the request when a user has logged in. It returns
  the arguments `methods` and `authenticated_at` of `Sessions.create`
- `insecure_cookie`: for development over HTTP; removes `Secure` and `__Host-` from the cookie
- `migrate_from`: the session interface that the app used before. Its sessions are continued
- `migrate_until`: the date at which that ends

Flask's own settings determine all other attributes of the cookie, and its lifetime. Visitors who
have not logged in have a separate cookie, `visitor` instead of `session`. While somebody acts as a
user, the token of their own session is in the cookie `impersonator`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial, wraps
from typing import Any, cast
from weakref import WeakSet

import flask
from flask import Flask, Request, Response, abort, current_app, redirect, request
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SecureCookieSessionInterface, SessionInterface, SessionMixin
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Response as BaseResponse

from serverless_sessions._core import clock
from serverless_sessions._core.checks import check_max_sessions, check_methods
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.sessions import Sessions
from serverless_sessions._core.token import Token
from serverless_sessions._web.cookies import Cookie, CookieChange, cookie_name, read_tokens
from serverless_sessions._web.guard import PROBLEM_TYPE, refusal
from serverless_sessions._web.guard import local_path as local_path
from serverless_sessions._web.mapping import PERMANENT, SessionValues
from serverless_sessions._web.migration import FormerSession, check_end, derive_token, is_over
from serverless_sessions._web.session import LONGEST_SECONDS, RETRY_AFTER_SECONDS, is_passive
from serverless_sessions.errors import SessionsError, Unavailable
from serverless_sessions.models import Client

_EXTENSION = "serverless_sessions"
_ADAPTER_OPTIONS = {
    "user_key",
    "absolute_ttl_seconds",
    "max_sessions",
    "passive",
    "step_up_url",
    "authentication",
    "insecure_cookie",
    "migrate_from",
    "migrate_until",
}
logger = logging.getLogger(__name__)

# Headers of the view's response that describe its body or set its cookies. They are removed when
# the response to an error replaces it.
_VIEW_HEADERS = (
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
    """`flask.session`. During an outage it raises `werkzeug.exceptions.ServiceUnavailable`."""

    def __init__(
        self,
        sessions: Sessions,
        *tokens: list[str],
        former: Callable[[], FormerSession | None],
        **options: Any,
    ) -> None:
        super().__init__(sessions.operations, *tokens, **options)
        self._sessions = sessions
        self._former = former
        self._outage: Unavailable | None = None
        # The app may access the request's session from several threads.
        self._load_lock = threading.RLock()

    def __contains__(self, name: object) -> bool:
        if name == "_remember" and not self.is_loaded:
            # After every request, Flask-Login looks for a key that only a log-in or log-out in the
            # same request can have set. The session need not be loaded for that.
            return False
        return super().__contains__(name)

    def stop_impersonating(self) -> bool:
        """End the impersonated session now, and return to the impersonator's own session.

        The impersonator also returns if the impersonated session has expired. Return whether they
        are signed in again.
        """
        self.before_change()
        self.touch()
        try:
            return self._sessions.run(self.stop_plan())
        except Unavailable as error:
            raise _service_unavailable(error) from error

    def load_now(self) -> None:
        with self._load_lock:
            if self.is_loaded:
                return
            try:
                # The error handler that renders the 503 may access the session again.
                if self._outage:
                    raise self._outage
                self.web.former = self._former()
                self._sessions.run(self.load_plan())
            except Unavailable as error:
                self._outage = error
                raise _service_unavailable(error) from error

    def save_now(self, *, ttl_seconds: int | None, absolute_ttl_seconds: int | None) -> None:
        self._sessions.run(
            self.save_plan(ttl_seconds=ttl_seconds, absolute_ttl_seconds=absolute_ttl_seconds)
        )


# `flask.session`, whose type does not have the methods of `FlaskSession`.
session = cast(FlaskSession, flask.session)


class ServerlessSessions(SessionInterface):
    """The Flask extension and its session interface. One instance can serve several apps."""

    serializer = TaggedJSONSerializer()

    def __init__(self, app: Flask | None = None) -> None:
        self._clients: WeakSet[Sessions] = WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        options = dict(app.config["SERVERLESS_SESSIONS"])
        check_max_sessions(options.get("max_sessions"))
        for name in _ADAPTER_OPTIONS:
            options.pop(name, None)
        former = _option(app, "migrate_from", None)
        if former is not None:
            if isinstance(former, ServerlessSessions) or not isinstance(former, SessionInterface):
                raise TypeError("migrate_from must be the session interface that the app used")
            check_end(
                _option(app, "migrate_until", None),
                is_required=isinstance(former, SecureCookieSessionInterface),
            )
        app.extensions[_EXTENSION] = client = Sessions(**options)
        self._clients.add(client)
        if app.config["SESSION_COOKIE_SAMESITE"] is None:
            app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
        app.session_interface = self

    @property
    def sessions(self) -> Sessions:
        """The current app's client. Use it to list and end sessions, and to read the trail."""
        if _EXTENSION not in current_app.extensions:
            raise RuntimeError("ServerlessSessions is not initialized for this app")
        sessions: Sessions = current_app.extensions[_EXTENSION]
        return sessions

    def close(self) -> None:
        """Close the connections of all apps. A later request opens new ones."""
        for client in self._clients:
            client.close()

    def get_cookie_name(self, app: Flask) -> str:
        return self._with_prefix(app, super().get_cookie_name(app))

    def get_visitor_cookie_name(self, app: Flask) -> str:
        """Return the name of the visitors' cookie.

        It is `visitor`, or `<name>_visitor` if the session cookie has a name other than Flask's
        default.
        """
        return self._beside_session_cookie(app, "visitor")

    def get_impersonator_cookie_name(self, app: Flask) -> str:
        """Return the name of the impersonator's cookie, which is `impersonator` in the same way."""
        return self._beside_session_cookie(app, "impersonator")

    def _beside_session_cookie(self, app: Flask, suffix: str) -> str:
        name = super().get_cookie_name(app)
        return self._with_prefix(app, suffix if name == "session" else f"{name}_{suffix}")

    def get_cookie_secure(self, app: Flask) -> bool:
        return super().get_cookie_secure(app) or not _option(app, "insecure_cookie", False)

    def _with_prefix(self, app: Flask, name: str) -> str:
        return cookie_name(
            name,
            secure=self.get_cookie_secure(app),
            domain=self.get_cookie_domain(app),
            path=self.get_cookie_path(app),
        )

    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        header = request.headers.get("Cookie", "")
        authentication = _option(app, "authentication", None)
        return FlaskSession(
            app.extensions[_EXTENSION],
            read_tokens(header, self.get_cookie_name(app)),
            read_tokens(header, self.get_visitor_cookie_name(app)),
            read_tokens(header, self.get_impersonator_cookie_name(app)),
            client=Client(request.remote_addr, request.user_agent.string or None),
            user_key=_option(app, "user_key", "_user_id"),
            max_sessions=_option(app, "max_sessions", None),
            is_passive=is_passive(request.root_path + request.path, _option(app, "passive", ())),
            step_up_url=_option(app, "step_up_url", None),
            authentication=authentication and partial(authentication, request),
            former=partial(self._read_former, app, request),
            dumps=self.serializer.dumps,
            loads=self.serializer.loads,
        )

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        session = cast(FlaskSession, session)
        # In the block of a test client, tests look at the session after the response. They may also
        # call functions that change it, such as `get_flashed_messages`.
        session.is_response_started = "werkzeug.debug.preserve_context" not in request.environ
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
            _replace(app, response, _service_unavailable(error))
            return
        except SessionsError as error:
            # The data may be too large. Without a handler of the app, the response is a 500.
            _replace(app, response, error)
            return
        if session.web.is_former_over:
            self._delete_former(app, response)
        for change in session.web.cookie_changes():
            self._change_cookie(app, response, change, is_permanent=session.permanent)

    def _read_former(self, app: Flask, request: Request) -> FormerSession | None:
        """Read the session of the interface in `migrate_from`, if the request has its cookie."""
        interface: SessionInterface | None = _option(app, "migrate_from", None)
        if interface is None or is_over(_option(app, "migrate_until", None)):
            return None
        cookie = _former_cookie(app, interface, request)
        if not cookie.value:
            return None
        if not app.secret_key:
            raise RuntimeError("migrate_from requires the app's SECRET_KEY")
        values = Secret(dict(interface.open_session(app, request) or {}))
        has_values = bool(values.value.keys() - {PERMANENT})
        seconds_left = app.permanent_session_lifetime.total_seconds()
        if isinstance(interface, SecureCookieSessionInterface):
            if not has_values:
                return None
            serializer: Any = interface.get_signing_serializer(app)
            _, signed_at = serializer.loads(cookie.value, return_timestamp=True)
            seconds_left -= clock.time() - signed_at.timestamp()
            # The same signature can be written in several ways, so it is not part of the key.
            cookie = cookie.map(lambda value: value.rpartition(".")[0])
        longest = _option(app, "absolute_ttl_seconds", LONGEST_SECONDS)
        # A session that is not permanent has the service's default timeouts, as a new one has.
        is_permanent = bool(values.value.get(PERMANENT))
        return FormerSession(
            derive_token(app.secret_key, cookie),
            values if has_values else None,
            max(int(min(seconds_left, longest)), 1) if is_permanent else None,
            longest if is_permanent else None,
        )

    def _delete_former(self, app: Flask, response: Response) -> None:
        """Delete the former session from its store, and its cookie."""
        interface: SessionInterface | None = _option(app, "migrate_from", None)
        if interface is None or not _former_cookie(app, interface, request).value:
            return
        try:
            if former := interface.open_session(app, request):
                former.clear()
                interface.save_session(app, former, app.response_class())
        except Exception as error:  # noqa: BLE001  # interfaces raise errors of their own
            # The session of the service has its new token by now.
            logger.warning("a former session can't be deleted: %s", type(error).__name__)
        if _cookie_of(interface, app) != _cookie_of(self, app):
            name, domain, path = _cookie_of(interface, app)
            # Browsers accept a name with a prefix such as `__Host-` only together with `Secure`.
            secure = name.startswith("__")
            response.delete_cookie(name, domain=domain, path=path, secure=secure)

    def _change_cookie(
        self, app: Flask, response: Response, change: CookieChange, *, is_permanent: bool
    ) -> None:
        names = {
            Cookie.USER: self.get_cookie_name,
            Cookie.VISITOR: self.get_visitor_cookie_name,
            Cookie.IMPERSONATOR: self.get_impersonator_cookie_name,
        }
        name = names[change.cookie](app)
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
            change.token.map(
                lambda token: response.set_cookie(name, token, max_age=max_age, **attributes)
            )


def require_recent(
    seconds: float, *, methods: Collection[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Allow a view only to users who proved who they are within `seconds`, with all of `methods`.

    A browser that opens a page is redirected to `step_up_url`, with the parameter `next`. Any other
    request, and somebody who acts as a user, gets a 403 with a JSON problem. If nobody is logged
    in, the response is a 401.
    """
    methods = check_methods(methods)

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            answer = _refusal(seconds, methods)
            return current_app.ensure_sync(view)(*args, **kwargs) if answer is None else answer

        return guarded

    return decorate


def _refusal(seconds: float, methods: Collection[str]) -> BaseResponse | None:
    _check_extension("require_recent")
    if session.authenticated_within(seconds, methods=methods):
        return None
    if not session.is_signed_in:
        abort(401)
    refused = refusal(
        seconds,
        methods,
        is_impersonated=session.impersonator is not None,
        step_up_url=session.step_up_url,
        method=request.method,
        accept=request.headers.get("Accept", ""),
        path=request.root_path + request.path,
        query=request.query_string.decode("latin-1"),
    )
    if refused.location is not None:
        return redirect(refused.location)
    return Response(refused.body, 403, content_type=PROBLEM_TYPE)


def _check_extension(caller: str) -> None:
    if not isinstance(session, FlaskSession):
        raise RuntimeError(f"{caller} needs the extension ServerlessSessions in this app")


def _replace(app: Flask, response: Response, error: Exception) -> None:
    """Turn `response` into the app's own response to `error`. Without a handler, raise the error.

    At this point Flask does not accept another response object, so this one is changed in place.
    """
    answer = app.make_response(app.handle_user_exception(error))
    with suppress(AttributeError):
        response.response.close()  # type: ignore[union-attr]
    for name in _VIEW_HEADERS:
        response.headers.pop(name, None)
    response.headers.update(answer.headers)
    response.status = answer.status
    response.response = answer.response
    response.direct_passthrough = answer.direct_passthrough


def _cookie_of(interface: SessionInterface, app: Flask) -> tuple[str, str | None, str]:
    """Return the name, the domain and the path of an interface's cookie."""
    return (
        interface.get_cookie_name(app),
        interface.get_cookie_domain(app),
        interface.get_cookie_path(app),
    )


def _former_cookie(app: Flask, interface: SessionInterface, request: Request) -> Secret[str]:
    """Return the cookie of a former session, or "". The service's own may have the same name."""
    cookie = request.cookies.get(interface.get_cookie_name(app), "")
    return Secret("" if Token.parse(cookie) else cookie)


def _option(app: Flask, name: str, default: Any) -> Any:
    return app.config["SERVERLESS_SESSIONS"].get(name, default)


def _service_unavailable(error: Unavailable) -> ServiceUnavailable:
    logger.warning("the session is not available: %s", error)
    return ServiceUnavailable(retry_after=RETRY_AFTER_SECONDS)
