"""The view of the page "Where you are signed in"."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.backends.utils import csrf_input
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from serverless_sessions._web.devices import (
    BASE_TEMPLATE,
    FIELD,
    HEADERS,
    NOTHING,
    TEMPLATE,
    Devices,
)
from serverless_sessions.django import _operations
from serverless_sessions.django.guard import _session


@require_http_methods(["GET", "HEAD", "POST"])
@csrf_protect
@login_required
def devices(request: HttpRequest, base_template: str = BASE_TEMPLATE, **_: object) -> HttpResponse:
    session, user = _session(request), cast(AbstractBaseUser, request.user)
    is_impersonated = session.impersonator is not None
    user_devices = Devices(
        _operations(),
        # This is what `login` stores in the session.
        user._meta.pk.value_to_string(user),
        session._web.session,
        is_impersonated=is_impersonated,
    )
    outcome, status = request.GET.get("outcome"), 200
    if request.method == "POST":
        if is_impersonated:
            raise PermissionDenied
        outcome = session._run(user_devices.sign_out(request.POST.get(FIELD, "")))
        if outcome != NOTHING:
            return HttpResponseRedirect(f"?outcome={outcome}", status=303, headers=HEADERS)
        status = 404
    page = session._run(user_devices.page(outcome, translate=gettext, format_time=_format_time))
    context = {"devices": page, "base_template": base_template, "csrf_input": csrf_input(request)}
    response = render(request, TEMPLATE, context, status=status)
    for name, value in HEADERS.items():
        response[name] = value
    return response


def _format_time(time: datetime) -> str:
    return date_format(localtime(time), "DATETIME_FORMAT")
