"""Django's session middleware, as sessions in the service need it.

It stands in MIDDLEWARE where Django's own would. It touches the session cookie only where the
answer knows something new: one browser has many requests under way, and their answers come in any
order. An outage of the service is a 503. With Django's own middleware, a late answer can delete a
newer cookie, an outage is a 500, and new sessions do not record who their client is.
"""

from __future__ import annotations

import logging
import time

from django.conf import settings
from django.contrib.sessions import middleware
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.http import http_date

from serverless_sessions._core.token import Token
from serverless_sessions._web.cookies import CookieChange, read_tokens, read_values
from serverless_sessions._web.session import RETRY_AFTER_SECONDS
from serverless_sessions.django import SessionStore
from serverless_sessions.errors import Unavailable
from serverless_sessions.models import Client

logger = logging.getLogger(__name__)


class SessionMiddleware(middleware.SessionMiddleware):
    """The 503 is the template `503.html`, if there is one, without a context."""

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        if isinstance(request.session, SessionStore):
            request.session = self._open(request, request.session)

    def _open(self, request: HttpRequest, session: SessionStore) -> SessionStore:
        name = settings.SESSION_COOKIE_NAME
        has_cookie = name in request.COOKIES
        # A request that was made by hand, as in a test, may have no header.
        if header := request.META.get("HTTP_COOKIE"):
            has_cookie = bool(read_values(header, name))
            tokens = read_tokens(header, name)
            session = type(session)(tokens[0] if tokens else None)
            session.other_keys = tokens[1:]
        session.has_foreign_cookie = has_cookie and not Token.parse(session.session_key or "")
        # Behind a proxy this is the proxy's address, unless something before here mends it.
        session.client = Client(
            ip=request.META.get("REMOTE_ADDR"), user_agent=request.META.get("HTTP_USER_AGENT")
        )
        return session

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Of a view."""
        return _unavailable(exception) if isinstance(exception, Unavailable) else None

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save. What rose in another middleware is Django's 500 by now."""
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return super().process_response(request, response)
        if response.status_code == 500 and session.outage:
            response = _unavailable(session.outage)
        try:
            self._save(session, response)
        except Unavailable as error:
            return _unavailable(error)
        changes = session.cookie_changes()
        if session.accessed or changes:
            patch_vary_headers(response, ("Cookie",))
        for change in changes:
            _change_cookie(response, change, session)
        return response

    def _save(self, session: SessionStore, response: HttpResponse) -> None:
        is_wanted = session.modified or settings.SESSION_SAVE_EVERY_REQUEST
        if not is_wanted or session.is_empty() or response.status_code >= 500:
            return
        try:
            session.save()
        except UpdateError as ended:
            raise SessionInterrupted(
                "The session ended before the request was done: the user may have logged out in "
                "another request."
            ) from ended


def _change_cookie(response: HttpResponse, change: CookieChange, session: SessionStore) -> None:
    if change.token is None:
        response.delete_cookie(
            settings.SESSION_COOKIE_NAME,
            path=settings.SESSION_COOKIE_PATH,
            domain=settings.SESSION_COOKIE_DOMAIN,
            samesite=settings.SESSION_COOKIE_SAMESITE,
        )
        return
    max_age = None if session.get_expire_at_browser_close() else change.max_age
    response.set_cookie(
        settings.SESSION_COOKIE_NAME,
        change.token,
        max_age=max_age,
        expires=None if max_age is None else http_date(time.time() + max_age),
        domain=settings.SESSION_COOKIE_DOMAIN,
        path=settings.SESSION_COOKIE_PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=settings.SESSION_COOKIE_HTTPONLY,
        samesite=settings.SESSION_COOKIE_SAMESITE,
    )


def _unavailable(error: Unavailable) -> HttpResponse:
    """It sets no cookie: the browser keeps the one that it has."""
    logger.warning("no session: %s", error)
    page: str
    try:
        page = render_to_string("503.html")
    except TemplateDoesNotExist:
        page = "<!doctype html><title>Service unavailable</title><h1>Service unavailable</h1>"
    return HttpResponse(page, status=503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
