"""The views of the simulated Django app as coroutines."""

from __future__ import annotations

from typing import cast

from django.contrib import auth
from django.http import HttpRequest, JsonResponse
from django.urls import path

from serverless_sessions.django import SessionStore, guard
from tests.simulation.django_urls import user_id
from tests.support.django_users import BACKEND, Backend


async def view(request: HttpRequest, action: str) -> JsonResponse:
    session, query = cast(SessionStore, request.session), request.GET
    user = user_id(await request.auser())
    body = {
        "user": user,
        "keys": sorted(await session.akeys()),
        "csrf": await session.aget("csrf"),
    }
    match action:
        case "visit":
            if body["csrf"] is None:
                body["csrf"] = query["new_csrf"]
                await session.aset("csrf", body["csrf"])
        case "login":
            if body["csrf"] is None or body["csrf"] != query["csrf"]:
                return JsonResponse(body, status=403)
            await auth.alogin(request, Backend().get_user(int(query["user"])), BACKEND)
        case "logout":
            await auth.alogout(request)
        case "empty":
            session.clear()
        case "impersonate":
            user_to_be = Backend().get_user(int(query["user"]))
            await guard.aimpersonate(request, user_to_be, reason="test")
        case "stop":
            await guard.astop_impersonating(request)
        case "write" | "regenerate":
            if user is None:
                return JsonResponse(body, status=401)
            if action == "write":
                await session.aset(query["key"], "x")
            elif "proof" in query:
                await session.aauthenticate([query["proof"]])
            else:
                await session.acycle_key()
    return JsonResponse(body)


urlpatterns = [path("<action>", view)]
