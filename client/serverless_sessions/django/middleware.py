"""Django's session middleware, for which an outage of the service is a 503.

It stands in MIDDLEWARE where Django's own would. With Django's own, an outage is a 500, and new
sessions are not told who their client is.
"""

from __future__ import annotations

import logging

from django.contrib.sessions import middleware
from django.http import HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string

from serverless_sessions.django import SessionStore
from serverless_sessions.errors import Unavailable
from serverless_sessions.session import Client

logger = logging.getLogger(__name__)


class SessionMiddleware(middleware.SessionMiddleware):
    """The 503 is the template `503.html`, if there is one, without a context."""

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        if isinstance(request.session, SessionStore):
            # Behind a proxy this is the proxy's address, unless something before here mends it.
            request.session.client = Client(
                ip=request.META.get("REMOTE_ADDR"), user_agent=request.META.get("HTTP_USER_AGENT")
            )

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Of a view."""
        return _unavailable(exception) if isinstance(exception, Unavailable) else None

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save. What rose in another middleware is Django's 500 by now."""
        outage = getattr(getattr(request, "session", None), "outage", None)
        if response.status_code == 500 and outage:
            response = _unavailable(outage)
        try:
            return super().process_response(request, response)
        except Unavailable as error:
            return _unavailable(error)


def _unavailable(error: Unavailable) -> HttpResponse:
    """It sets no cookie: the browser keeps the one that it has."""
    logger.warning("no session: %s", error)
    page: str
    try:
        page = render_to_string("503.html")
    except TemplateDoesNotExist:
        page = "<!doctype html><title>Service unavailable</title><h1>Service unavailable</h1>"
    return HttpResponse(page, status=503, headers={"Retry-After": "1"})
