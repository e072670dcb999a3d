"""The Django example."""

import time

from django.conf import settings

from examples.django_app import app as example
from tests.browser.apps import DEADLINES, PORT, VISITORS

settings.SERVERLESS_SESSIONS |= DEADLINES
settings.SESSION_COOKIE_NAME = "__Host-session"
settings.SESSION_COOKIE_SECURE = True
settings.CSRF_USE_SESSIONS = VISITORS

from django.core.management import call_command  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.shortcuts import redirect  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.http import require_POST  # noqa: E402

from serverless_sessions import Sessions  # noqa: E402

example.sessions = Sessions(**settings.SERVERLESS_SESSIONS)


def who(request: HttpRequest) -> HttpResponse:
    user = request.user.get_username() if request.user.is_authenticated else None
    if "write" in request.GET and not request.session.is_empty():
        request.session["seen"] = time.time()
    return JsonResponse({"user": user})


@require_POST
def regenerate(request: HttpRequest) -> HttpResponse:
    request.session.cycle_key()
    return redirect("/")


example.urlpatterns += [path("who", who), path("regenerate", regenerate)]

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    call_command("runserver", f"127.0.0.1:{PORT}", use_reloader=False)
