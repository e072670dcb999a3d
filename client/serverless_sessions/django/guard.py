"""Views for users who have just proved who they are, and acting as another user.

    @require_recent(300)
    def pay_out(request): …

Every function that calls the service also exists for async views, with the prefix `a`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url

from serverless_sessions._core.checks import check_methods
from serverless_sessions._core.secret import Secret
from serverless_sessions._web.guard import PROBLEM_TYPE, refusal
from serverless_sessions._web.guard import local_path as local_path
from serverless_sessions.django import SessionStore

View = Callable[..., Any]


def require_recent(seconds: float, *, methods: Collection[str] = ()) -> Callable[[View], View]:
    """Allow a view only to users who proved who they are within `seconds`, with all of `methods`.

    A browser that opens a page is redirected to `SERVERLESS_SESSIONS["step_up_url"]`, with the
    parameter `next`. Any other request, and somebody who acts as a user, gets a 403 with a JSON
    problem. If nobody is logged in, the response is that of `login_required`.
    """
    methods = check_methods(methods)

    def decorate(view: View) -> View:
        if iscoroutinefunction(view):

            @wraps(view)
            async def aguarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                user = await request.auser()
                answer = _refusal(request, user.is_authenticated, seconds, methods)
                return await view(request, *args, **kwargs) if answer is None else answer

            return aguarded

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            answer = _refusal(request, request.user.is_authenticated, seconds, methods)
            return view(request, *args, **kwargs) if answer is None else answer

        return guarded

    return decorate


def _refusal(
    request: HttpRequest, is_signed_in: bool, seconds: float, methods: Collection[str]
) -> HttpResponse | None:
    session = _session(request)
    if not is_signed_in:
        return redirect_to_login(request.get_full_path())
    if session.authenticated_within(seconds, methods=methods):
        return None
    step_up_url = settings.SERVERLESS_SESSIONS.get("step_up_url")
    refused = refusal(
        seconds,
        methods,
        is_impersonated=session.impersonator is not None,
        step_up_url=resolve_url(step_up_url) if step_up_url else None,
        method=request.method or "",
        accept=request.headers.get("Accept", ""),
        path=request.path,
        query=request.META.get("QUERY_STRING", ""),
    )
    if refused.location is not None:
        return HttpResponseRedirect(refused.location)
    return HttpResponse(refused.body, status=403, content_type=PROBLEM_TYPE)


def impersonate(
    request: HttpRequest, user: AbstractBaseUser, *, by: object = None, reason: str
) -> None:
    """Let the user of the request act as `user`, in a new session that this response starts.

    It is short, and has none of the current session's values. The current session waits in a cookie
    of its own until `stop_impersonating` returns to it. Its values keep no changes of this request.

    `by` is the id of the request's user, who is recorded as the impersonator. `reason` is 1 to 64
    of a-z 0-9 _ . - and is recorded as well. Raises `ImpersonatedSession` in an impersonated
    session, and `AnonymousSession` if nobody is logged in.
    """
    _session(request).impersonate(_values(user), by=by, reason=reason)
    _look_up_user_again(request)


async def aimpersonate(
    request: HttpRequest, user: AbstractBaseUser, *, by: object = None, reason: str
) -> None:
    await _session(request).aimpersonate(_values(user), by=by, reason=reason)
    _look_up_user_again(request)


def stop_impersonating(request: HttpRequest) -> bool:
    """End the impersonated session now, and return to the impersonator's own session.

    The impersonator also returns if the impersonated session has expired. Return whether they are
    signed in again.
    """
    has_returned = _session(request).stop_impersonating()
    _look_up_user_again(request)
    return has_returned


async def astop_impersonating(request: HttpRequest) -> bool:
    has_returned = await _session(request).astop_impersonating()
    _look_up_user_again(request)
    return has_returned


def _session(request: HttpRequest) -> SessionStore:
    session = getattr(request, "session", None)
    if not isinstance(session, SessionStore):
        raise ImproperlyConfigured(
            "The session of the request is not in the service. This needs SESSION_ENGINE = "
            "'serverless_sessions.django' and "
            "'serverless_sessions.django.middleware.SessionMiddleware' in MIDDLEWARE."
        )
    return session


def _values(user: AbstractBaseUser) -> Secret[dict[str, Any]]:
    """Return what `django.contrib.auth.login` would put into the session.

    Without a backend of its own, the user has that of the current session.
    """
    if getattr(user, "pk", None) is None:
        raise ValueError("There is no user to impersonate.")
    backend = getattr(user, "backend", None)
    return Secret(
        {
            SESSION_KEY: user._meta.pk.value_to_string(user),
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        | ({BACKEND_SESSION_KEY: backend} if backend else {})
    )


def _look_up_user_again(request: HttpRequest) -> None:
    """Let `request.user` be the user of the session that the request has now."""
    for name in ("_cached_user", "_acached_user"):
        request.__dict__.pop(name, None)
    AuthenticationMiddleware(lambda request: HttpResponse()).process_request(request)
