"""The views of the simulated Django app as plain functions."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import auth
from django.http import HttpRequest, JsonResponse
from django.urls import path

from serverless_sessions.django import SessionStore, guard
from tests.support.django_users import BACKEND, Backend


def user_id(user: Any) -> str | None:
    return str(user.pk) if user.is_authenticated else None


def view(request: HttpRequest, action: str) -> JsonResponse:
    session, query = cast(SessionStore, request.session), request.GET
    user = user_id(request.user)
    body = {"user": user, "keys": sorted(session.keys()), "csrf": session.get("csrf")}
    match action:
        case "visit":
            if body["csrf"] is None:
                body["csrf"] = session["csrf"] = query["new_csrf"]
        case "login":
            if body["csrf"] is None or body["csrf"] != query["csrf"]:
                return JsonResponse(body, status=403)
            auth.login(request, Backend().get_user(int(query["user"])), BACKEND)
        case "logout":
            auth.logout(request)
        case "empty":
            session.clear()
        case "impersonate":
            guard.impersonate(request, Backend().get_user(int(query["user"])), reason="test")
        case "stop":
            guard.stop_impersonating(request)
        case "write" | "regenerate":
            if user is None:
                return JsonResponse(body, status=401)
            if action == "write":
                session[query["key"]] = "x"
            elif "proof" in query:
                session.authenticate([query["proof"]])
            else:
                session.cycle_key()
    return JsonResponse(body)


urlpatterns = [path("<action>", view)]
