"""The session middleware for Django. It replaces Django's own in MIDDLEWARE.

A browser sends many requests at the same time, and their responses arrive in any order. The
middleware therefore changes the session cookie only if the request has a new token or has ended a
session. During an outage of the service it answers 503.

With Django's own middleware, a late response can delete a newer cookie, an outage results in a 500,
and the client's address and browser are not recorded.
"""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.contrib.sessions import middleware
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.http import http_date

from serverless_sessions._core import clock
from serverless_sessions._core.token import Token
from serverless_sessions._web.cookies import Cookie, CookieChange, read_tokens, read_values
from serverless_sessions._web.session import RETRY_AFTER_SECONDS
from serverless_sessions.django import SessionStore
from serverless_sessions.django.migration import check_options, former_cookie
from serverless_sessions.errors import Unavailable
from serverless_sessions.models import Client

logger = logging.getLogger(__name__)


class SessionMiddleware(middleware.SessionMiddleware):
    """Renders the template `503.html`, if there is one, during an outage. It gets no context."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        check_options()

    def __call__(self, request: HttpRequest) -> Any:
        """Answer 503 if even Django's page for a 500 has read the session, for its CSRF token."""
        try:
            return super().__call__(request)
        except Unavailable as error:
            return _unavailable(error)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            return await super().__acall__(request)
        except Unavailable as error:
            return _unavailable(error)

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        if isinstance(request.session, SessionStore):
            request.session = self._open_session(request, request.session)

    def _open_session(self, request: HttpRequest, session: SessionStore) -> SessionStore:
        name = settings.SESSION_COOKIE_NAME
        has_cookie = name in request.COOKIES
        # A request that a test has created may have no header.
        if header := request.META.get("HTTP_COOKIE"):
            has_cookie = bool(read_values(header, name))
            tokens = read_tokens(header, name)
            session = type(session)(tokens[0] if tokens else None)
            session.other_keys = tokens[1:]
            session.impersonator_keys = read_tokens(header, _name(Cookie.IMPERSONATOR))
        session.has_foreign_cookie = has_cookie and not Token.parse(session.session_key or "")
        session.find_former(request)
        # Behind a proxy this is the proxy's address, unless an earlier middleware corrects it.
        session.request = request
        session.client = Client(
            ip=request.META.get("REMOTE_ADDR"), user_agent=request.META.get("HTTP_USER_AGENT")
        )
        return session

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer 503 if a view raises `Unavailable`."""
        return _unavailable(exception) if isinstance(exception, Unavailable) else None

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save the session and change its cookie.

        If another middleware has raised `Unavailable`, Django has already turned it into a 500.
        That response is replaced by a 503.
        """
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return super().process_response(request, response)
        if response.status_code == 500 and session.outage:
            response = _unavailable(session.outage)
        try:
            self._save(session, response)
        except Unavailable as error:
            return _unavailable(error)
        former = former_cookie()
        if session.delete_former() and not former.is_replaced:
            _delete_cookie(response, former.name, domain=former.domain, path=former.path)
        changes = session.cookie_changes()
        if session.accessed or changes:
            patch_vary_headers(response, ("Cookie",))
        for change in changes:
            _change_cookie(response, change, session)
        return response

    def _save(self, session: SessionStore, response: HttpResponse) -> None:
        must_save = session.modified or settings.SESSION_SAVE_EVERY_REQUEST
        if settings.SESSION_SAVE_EVERY_REQUEST:
            session.get_expire_at_browser_close()  # loads the session
        is_unused = not must_save and not session.has_former_token
        if is_unused or session.is_empty() or response.status_code >= 500:
            return
        try:
            session.save()
        except UpdateError as ended:
            if not must_save:
                return
            raise SessionInterrupted(
                "The session ended before the request was done: the user may have logged out in "
                "another request."
            ) from ended


def _name(cookie: Cookie) -> str:
    """Return the name of a cookie. Visitors and users share one."""
    name: str = settings.SESSION_COOKIE_NAME
    return f"{name}_impersonator" if cookie is Cookie.IMPERSONATOR else name


def _change_cookie(response: HttpResponse, change: CookieChange, session: SessionStore) -> None:
    if change.token is None:
        _delete_cookie(
            response,
            _name(change.cookie),
            domain=settings.SESSION_COOKIE_DOMAIN,
            path=settings.SESSION_COOKIE_PATH,
        )
        return
    max_age = None if session.get_expire_at_browser_close() else change.max_age
    change.token.map(
        lambda token: response.set_cookie(
            _name(change.cookie),
            token,
            max_age=max_age,
            expires=None if max_age is None else http_date(clock.time() + max_age),
            domain=settings.SESSION_COOKIE_DOMAIN,
            path=settings.SESSION_COOKIE_PATH,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=settings.SESSION_COOKIE_HTTPONLY,
            samesite=settings.SESSION_COOKIE_SAMESITE,
        )
    )


def _delete_cookie(response: HttpResponse, name: str, *, domain: str | None, path: str) -> None:
    response.delete_cookie(
        name,
        path=path,
        domain=domain,
        samesite=settings.SESSION_COOKIE_SAMESITE,
    )


def _unavailable(error: Unavailable) -> HttpResponse:
    """Return the 503. It sets no cookie, so the browser keeps its cookie."""
    logger.warning("the session is not available: %s", error)
    page: str
    try:
        page = render_to_string("503.html")
    except TemplateDoesNotExist:
        page = "<!doctype html><title>Service unavailable</title><h1>Service unavailable</h1>"
    return HttpResponse(page, status=503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
