"""Sessions for Starlette, FastAPI and other ASGI frameworks.

    app.add_middleware(SessionMiddleware, sessions=AsyncSessions(os.environ["SESSIONS_URL"]))

A session is loaded when it is first accessed. In a plain `def` endpoint, `request.session` loads it
automatically. Code on the event loop has to load it explicitly, because loading must be awaited:

    session = await load_session(request)

In FastAPI, an endpoint, a router or the app can declare `dependencies=[Depends(load_session)]`
instead. With `autoload=True` the middleware loads the session of every request that has a cookie.
Then `request.session` works everywhere, as it does with Starlette's own middleware.

An endpoint that only users may call who have recently proved who they are declares
`dependencies=[Depends(require_recent(300))]`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Literal

from anyio import from_thread
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serverless_sessions._core import clock
from serverless_sessions._core.async_sessions import AsyncSessions
from serverless_sessions._core.checks import check_max_sessions, check_methods
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.token import Token
from serverless_sessions._web.cookies import Cookie, CookieChange, cookie_name, read_tokens
from serverless_sessions._web.guard import PROBLEM_TYPE, Refusal, refusal
from serverless_sessions._web.guard import local_path as local_path
from serverless_sessions._web.mapping import SessionValues
from serverless_sessions._web.migration import FormerSession, check_end, derive_token, is_over
from serverless_sessions._web.session import LONGEST_SECONDS, RETRY_AFTER_SECONDS, is_passive
from serverless_sessions.errors import SessionsError, Unavailable
from serverless_sessions.models import Client

# WebSocket close codes, registered with IANA.
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013
_DELETION = "Max-Age=0; expires=Thu, 01 Jan 1970 00:00:00 GMT"

logger = logging.getLogger(__name__)


class SessionNotLoaded(RuntimeError):
    """Code on the event loop accessed a session that is not loaded."""

    def __init__(self) -> None:
        super().__init__(
            "the session is not loaded: await load_session(request) before you use it on the event "
            "loop, or create the middleware with autoload=True"
        )


class SessionUnavailable(HTTPException):
    """HTTP 503 during an outage of the service. The app's exception handlers can render it."""

    def __init__(self, error: Unavailable) -> None:
        super().__init__(503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
        logger.warning("the session is not available: %s", error)


class StepUpRequired(HTTPException):
    """The user has to prove first who they are: HTTP 303, or 403 with a JSON problem.

    The app's exception handlers can render it. `response` is the answer without one.
    """

    def __init__(self, refused: Refusal) -> None:
        self.response: Response = (
            Response(refused.body, 403, media_type=PROBLEM_TYPE)
            if refused.location is None
            else RedirectResponse(refused.location, 303)
        )
        super().__init__(
            self.response.status_code,
            detail=refused.body if refused.location is None else "",
            headers={"Content-Type": PROBLEM_TYPE}
            if refused.location is None
            else {"Location": self.response.headers["location"]},
        )

    def add_handler(self, scope: Scope) -> None:
        """Answer with `response` in the app that the request is in, unless it has a handler.

        FastAPI's handler for every `HTTPException` would send another body.
        """
        handlers, _ = scope.get("starlette.exception_handlers", ({}, {}))
        handlers.setdefault(StepUpRequired, _answer_step_up)


async def _answer_step_up(_: Request, error: StepUpRequired) -> Response:
    return error.response


@dataclass(frozen=True)
class SignedCookie:
    """The sessions of Starlette's own middleware, with the options that it had.

    This requires the package itsdangerous, as Starlette's own middleware does.
    """

    secret_key: str = field(repr=False)
    session_cookie: str = "session"
    max_age: int | None = 14 * 24 * 60 * 60
    path: str = "/"
    domain: str | None = None

    def is_in(self, connection: HTTPConnection) -> bool:
        """Whether the request has the cookie. The service's own may have the same name."""
        cookie = connection.cookies.get(self.session_cookie, "")
        return bool(cookie) and not Token.parse(cookie)

    def deletion(self) -> str:
        """Return the Set-Cookie header that deletes the cookie."""
        domain = "" if self.domain is None else f"; domain={self.domain}"
        # Browsers accept a name with a prefix such as `__Host-` only together with `Secure`.
        secure = "; secure" if self.session_cookie.startswith("__") else ""
        return f"{self.session_cookie}=; path={self.path}; {_DELETION}{domain}{secure}"

    def read(
        self, connection: HTTPConnection, max_age: int | None, absolute_ttl_seconds: int | None
    ) -> FormerSession | None:
        """Return the session in the request's cookie, or None if it cannot be read.

        `max_age` and `absolute_ttl_seconds` are those of a new session. The session that continues
        the former one gets the time that is left, but no longer.
        """
        from itsdangerous import BadSignature, TimestampSigner

        if not self.is_in(connection):
            return None
        cookie = Secret(connection.cookies[self.session_cookie])
        signer = TimestampSigner(str(self.secret_key))
        try:
            content, signed_at = signer.unsign(
                cookie.value, max_age=self.max_age, return_timestamp=True
            )
            values = Secret(json.loads(base64.b64decode(content)))
        except (BadSignature, ValueError):
            return None
        del content
        if not isinstance(values.value, dict) or not values.value:
            return None
        if self.max_age is not None and max_age is not None:
            seconds_left = self.max_age - (clock.time() - signed_at.timestamp())
            max_age = max(int(min(seconds_left, max_age)), 1)
        # The same signature can be written in several ways, so it is not part of the key.
        key = cookie.map(lambda value: value.rpartition(".")[0])
        token = derive_token(str(self.secret_key), key)
        return FormerSession(token, values, max_age, absolute_ttl_seconds)


class StarletteSession(SessionValues):
    """`request.session`. During an outage it raises `SessionUnavailable`.

    On a WebSocket the session is read-only, because no cookie can be set once the connection is
    accepted.
    """

    is_accepted = False

    def __init__(
        self,
        sessions: AsyncSessions,
        *tokens: list[str],
        former: Callable[[], FormerSession | None],
        **options: Any,
    ) -> None:
        super().__init__(sessions.operations, *tokens, **options)
        self._sessions = sessions
        self._former = former
        self._outage: Unavailable | None = None
        # Several tasks of the app may access the request's session at the same time.
        self._load_lock = asyncio.Lock()

    async def load(self) -> None:
        async with self._load_lock:
            if self.is_loaded:
                return
            try:
                # The exception handler that renders the 503 may access the session again.
                if self._outage:
                    raise self._outage
                self.web.former = self._former()
                await self._sessions.run(self.load_plan())
            except Unavailable as error:
                self._outage = error
                if self.is_accepted:
                    raise WebSocketException(_TRY_AGAIN_LATER) from error
                raise SessionUnavailable(error) from error

    async def save(self, *, ttl_seconds: int | None, absolute_ttl_seconds: int | None) -> None:
        await self._sessions.run(
            self.save_plan(ttl_seconds=ttl_seconds, absolute_ttl_seconds=absolute_ttl_seconds)
        )

    def load_now(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            from_thread.run(self.load)
        else:
            raise SessionNotLoaded

    def mark_accessed(self) -> None:
        """Starlette calls this method when the app accesses `request.session`."""
        self.touch()

    def stop_impersonating(self) -> Coroutine[Any, Any, bool]:
        """End the impersonated session now, and return to the impersonator's own session.

        The impersonator also returns if the impersonated session has expired. The result is whether
        they are signed in again. A plain `def` endpoint calls
        `anyio.from_thread.run(session.stop_impersonating)`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "stop_impersonating must be awaited: in a plain def endpoint, call "
                "anyio.from_thread.run(session.stop_impersonating)"
            ) from None
        return self._stop_impersonating()

    async def _stop_impersonating(self) -> bool:
        self.before_change()
        self.touch()
        try:
            return await self._sessions.run(self.stop_plan())
        except Unavailable as error:
            raise SessionUnavailable(error) from error


async def load_session(connection: HTTPConnection) -> StarletteSession:
    """Load and return the session of a `Request` or `WebSocket`.

    Without a cookie, no call is made.
    """
    session = _session_of(connection)
    session.accessed = True
    await session.load()
    return session


async def load_passively(connection: HTTPConnection) -> StarletteSession:
    """Load and return the session, but do not count the request as use of it."""
    _session_of(connection).passive()
    return await load_session(connection)


def _session_of(connection: HTTPConnection) -> StarletteSession:
    session = connection.scope.get("session")
    if not isinstance(session, StarletteSession):
        raise RuntimeError(
            "serverless_sessions.starlette.SessionMiddleware must be installed to load a session"
        )
    return session


def require_recent(
    seconds: float, *, methods: Collection[str] = ()
) -> Callable[[HTTPConnection], Awaitable[StarletteSession]]:
    """Return a dependency that accepts only users who have just proved who they are.

    This was within `seconds`, with all of `methods`. A browser that opens a page is redirected to
    `step_up_url`, with the parameter `next`. Any other request, and somebody who acts as a user,
    gets a 403 with a JSON problem. If nobody is logged in, the response is a 401. A WebSocket is
    closed with code 1008.

    Without FastAPI, an endpoint can call it: `await require_recent(300)(request)`.
    """
    methods = check_methods(methods)

    async def check(connection: HTTPConnection) -> StarletteSession:
        session = await load_session(connection)
        if session.authenticated_within(seconds, methods=methods):
            return session
        if connection.scope["type"] == "websocket":
            raise WebSocketException(_POLICY_VIOLATION)
        if not session.is_signed_in:
            raise HTTPException(401)
        required = StepUpRequired(
            refusal(
                seconds,
                methods,
                is_impersonated=session.impersonator is not None,
                step_up_url=session.step_up_url,
                method=connection.scope["method"],
                accept=connection.headers.get("accept", ""),
                path=connection.scope["path"],
                query=connection.url.query,
            )
        )
        required.add_handler(connection.scope)
        raise required

    return check


class SessionMiddleware:
    """Loads and saves sessions, and sets their cookies.

    Options that also exist in Starlette's own middleware have the same names and meanings.

    `max_age` is a session's idle timeout in seconds. With None, the cookie is deleted when the
    browser is closed, and the service's default idle timeout applies. `absolute_ttl_seconds` is the
    maximum lifetime of a session that has a `max_age`, and of its cookie.

    `https_only=False` is for development over HTTP. It removes `Secure` and the prefix `__Host-`.

    `user_key` is the session's key for the user's id. Visitors without a user id have a separate
    cookie. Its name is `visitor`, or `<session_cookie>_visitor` if `session_cookie` is not the
    default. While somebody acts as a user, the token of their own session is in a cookie that is
    named `impersonator` in the same way. A log-in ends the user's oldest sessions beyond
    `max_sessions`.

    `passive` contains patterns such as `/poll/*` for the paths of requests that do not count as
    use.

    `step_up_url` is the page to which `require_recent` sends users who have to prove who they are.
    `authentication` is called with the request when a user has logged in. It returns the arguments
    `methods` and `authenticated_at` of `AsyncSessions.create`.

    `migrate_from` continues the sessions of Starlette's own middleware, until `migrate_until`.
    """

    def __init__(
        self,
        app: ASGIApp,
        sessions: AsyncSessions,
        *,
        user_key: str = "user_id",
        autoload: bool = False,
        session_cookie: str = "session",
        max_age: int | None = 14 * 24 * 60 * 60,
        absolute_ttl_seconds: int = LONGEST_SECONDS,
        max_sessions: int | None = None,
        passive: Collection[str] = (),
        path: str = "/",
        same_site: Literal["lax", "strict", "none"] = "lax",
        https_only: bool = True,
        domain: str | None = None,
        partitioned: bool = False,
        step_up_url: str | None = None,
        authentication: Callable[[HTTPConnection], Mapping[str, Any] | None] | None = None,
        migrate_from: SignedCookie | None = None,
        migrate_until: date | None = None,
    ) -> None:
        if max_age is not None and not 0 < max_age <= absolute_ttl_seconds:
            raise ValueError(f"max_age is 1 to {absolute_ttl_seconds} seconds, or None")
        if migrate_from is not None:
            if not isinstance(migrate_from, SignedCookie):
                raise TypeError("migrate_from must be a SignedCookie")
            check_end(migrate_until, is_required=True)
        check_max_sessions(max_sessions)
        if not isinstance(sessions, AsyncSessions):
            raise TypeError(f"sessions is an AsyncSessions, not {type(sessions).__name__}")
        self.app = app
        self.sessions = sessions
        self.user_key = user_key
        self.autoload = autoload
        prefix = "" if session_cookie == "session" else f"{session_cookie}_"
        names = {
            Cookie.USER: session_cookie,
            Cookie.VISITOR: f"{prefix}visitor",
            Cookie.IMPERSONATOR: f"{prefix}impersonator",
        }
        self.cookies = {
            cookie: cookie_name(name, secure=https_only, domain=domain, path=path)
            for cookie, name in names.items()
        }
        self.step_up_url = step_up_url
        self.authentication = authentication
        self.migrate_from = migrate_from
        self.migrate_until = migrate_until
        self.max_age = max_age
        self.absolute_ttl_seconds = None if max_age is None else absolute_ttl_seconds
        self.max_sessions = max_sessions
        self.passive = passive
        self.path = path
        self.domain = domain
        self.flags = f"httponly; samesite={same_site}"
        if https_only:
            self.flags += "; secure"
        if domain is not None:
            self.flags += f"; domain={domain}"
        if partitioned:
            self.flags += "; partitioned"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        session = scope["session"] = self._open_session(connection)
        is_started = is_replaced = False

        async def send_with_cookie(message: Message) -> None:
            nonlocal is_started, is_replaced
            is_started = True
            if message["type"] == "websocket.accept":
                session.is_accepted = True
            if message["type"] == "http.response.start":
                session.is_response_started = True
                try:
                    await session.save(
                        ttl_seconds=self.max_age,
                        absolute_ttl_seconds=self.absolute_ttl_seconds,
                    )
                except Unavailable as error:
                    is_replaced = True
                    await _send_unavailable(SessionUnavailable(error), scope, receive, send)
                except SessionsError as error:
                    # The data may be too large. Without a handler of the app, the response is a
                    # 500. Starlette's exception handlers are not called for a middleware.
                    kinds = [
                        kind for kind in type(error).__mro__ if issubclass(kind, SessionsError)
                    ]
                    handler = _handler_of(scope, *kinds)
                    if handler is None:
                        raise
                    is_replaced = True
                    await _call(handler, error, scope, receive, send)
                else:
                    self._add_headers(connection, session, MutableHeaders(scope=message))
            if not is_replaced:
                await send(message)

        try:
            if self.autoload:
                await session.load()
            await self.app(scope, receive, send_with_cookie)
        except StepUpRequired as error:
            if is_started:
                raise
            await error.response(scope, receive, send_with_cookie)
        except SessionUnavailable as unavailable:
            # `session.load` or another middleware has raised it. Starlette would answer 500 there.
            if is_started:
                raise
            await _send_unavailable(unavailable, scope, receive, send)

    def _open_session(self, connection: HTTPConnection) -> StarletteSession:
        header = "; ".join(connection.headers.getlist("cookie"))
        session = StarletteSession(
            self.sessions,
            *(read_tokens(header, name) for name in self.cookies.values()),
            client=Client(
                connection.client.host if connection.client else None,
                connection.headers.get("user-agent"),
            ),
            user_key=self.user_key,
            max_sessions=self.max_sessions,
            is_passive=is_passive(connection.scope["path"], self.passive),
            step_up_url=self.step_up_url,
            authentication=self.authentication and partial(self.authentication, connection),
            former=partial(self._read_former, connection),
            dumps=json.dumps,
            loads=json.loads,
        )
        session.is_read_only = connection.scope["type"] == "websocket"
        return session

    def _read_former(self, connection: HTTPConnection) -> FormerSession | None:
        if self.migrate_from is None or is_over(self.migrate_until):
            return None
        return self.migrate_from.read(connection, self.max_age, self.absolute_ttl_seconds)

    def _add_headers(
        self, connection: HTTPConnection, session: StarletteSession, headers: MutableHeaders
    ) -> None:
        if session.accessed:
            headers.add_vary_header("Cookie")
        former = self.migrate_from
        if (
            former
            and former.is_in(connection)
            and session.web.is_former_over
            and (former.session_cookie, former.domain, former.path)
            != (self.cookies[Cookie.USER], self.domain, self.path)
        ):
            headers.append("set-cookie", former.deletion())
        for change in session.web.cookie_changes():
            headers.append("set-cookie", self._set_cookie(change))

    def _set_cookie(self, change: CookieChange) -> str:
        name = self.cookies[change.cookie]
        if change.token is None:
            lifetime = f"{_DELETION}; "
        else:
            lifetime = "" if self.max_age is None else f"Max-Age={change.max_age}; "
        token = "" if change.token is None else change.token.value
        return f"{name}={token}; path={self.path}; {lifetime}{self.flags}"


async def _send_unavailable(
    unavailable: SessionUnavailable, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send the app's own 503. Starlette's exception handlers are not called for a middleware."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})
        return
    if handler := _handler_of(scope, 503, HTTPException):
        await _call(handler, unavailable, scope, receive, send)
    else:
        response = PlainTextResponse(unavailable.detail, 503, unavailable.headers)
        await response(scope, receive, send)


def _handler_of(scope: Scope, *keys: object) -> Callable[..., Any] | None:
    """Return the app's own exception handler for the first of `keys` that has one."""
    handlers = getattr(scope.get("app"), "exception_handlers", {})
    return next((handlers[key] for key in keys if handlers.get(key)), None)


async def _call(
    handler: Callable[..., Any], error: Exception, scope: Scope, receive: Receive, send: Send
) -> None:
    request = Request(scope, receive)
    # A handler may be an object with an async `__call__`.
    if iscoroutinefunction(handler) or iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
        response = await handler(request, error)
    else:
        response = await run_in_threadpool(handler, request, error)
    await response(scope, receive, send)
