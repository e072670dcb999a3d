"""A Django app with its sessions in the service: log in, count, see your devices, sign out.

The user grace is a support agent, who can look at the app as another user.

SESSIONS_URL=… python examples/django_app/app.py
"""

import os
from pathlib import Path
from secrets import token_urlsafe

import django
from django.conf import settings

settings.configure(
    SESSION_ENGINE="serverless_sessions.django",
    SERVERLESS_SESSIONS={"url": os.environ["SESSIONS_URL"]},
    # The cookie has neither `Secure` nor the prefix `__Host-`, because this example uses HTTP.
    MIDDLEWARE=[
        "serverless_sessions.django.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "serverless_sessions.django.devices",
    ],
    # The database holds only users. It is in memory, and the threads of this process share it.
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "file:users?mode=memory&cache=shared",
        }
    },
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [Path(__file__).parent.parent],
            "APP_DIRS": True,
        }
    ],
    ROOT_URLCONF=__name__,
    LOGIN_URL="/",
    TIME_ZONE="UTC",
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    SECRET_KEY=token_urlsafe(),
)
django.setup()

from django.contrib import auth  # noqa: E402
from django.contrib.auth.decorators import login_required  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.exceptions import PermissionDenied  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.shortcuts import get_object_or_404, redirect, render  # noqa: E402
from django.urls import include, path  # noqa: E402
from django.views.decorators.http import require_POST  # noqa: E402

from serverless_sessions import Sessions  # noqa: E402
from serverless_sessions.django import guard  # noqa: E402

sessions = Sessions(**settings.SERVERLESS_SESSIONS)


def page(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return render(request, "page.html")
    context = {
        "user": request.user.get_username(),
        "count": request.session.get("count", 0),
        "impersonator": request.session.impersonator,  # type: ignore[attr-defined]
    }
    return render(request, "page.html", context)


@require_POST
def log_in(request: HttpRequest) -> HttpResponse:
    user, _ = User.objects.get_or_create(username=request.POST["user"])
    auth.login(request, user)  # a real app checks a password first
    return redirect("/")


@require_POST
@login_required
def count(request: HttpRequest) -> HttpResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    return redirect("/")


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    auth.logout(request)
    return redirect("/")


@require_POST
@login_required
def sign_out_everywhere(request: HttpRequest) -> HttpResponse:
    sessions.revoke_all(str(request.user.pk), reason="signed_out_everywhere")
    return redirect("/")


@require_POST
@login_required
def impersonate(request: HttpRequest) -> HttpResponse:
    if request.user.get_username() != "grace":
        raise PermissionDenied
    customer = get_object_or_404(User, username=request.POST["customer"])
    guard.impersonate(request, customer, reason="support")
    return redirect("/")


@require_POST
def stop_impersonating(request: HttpRequest) -> HttpResponse:
    guard.stop_impersonating(request)
    return redirect("/")


urlpatterns = [
    path("", page),
    path("log-in", log_in),
    path("count", count),
    path("account/devices/", include("serverless_sessions.django.devices.urls")),
    path("log-out", log_out),
    path("sign-out-everywhere", sign_out_everywhere),
    path("impersonate", impersonate),
    path("stop-impersonating", stop_impersonating),
]

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    call_command("runserver", f"127.0.0.1:{os.environ.get('WEB_PORT', '8000')}", use_reloader=False)
