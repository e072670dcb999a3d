"""Runs the snippets of docs/integrating/guarding.md with every framework."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client, override_settings
from django.urls import path
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from flask import Flask, render_template_string
from starlette.testclient import TestClient

from serverless_sessions import AsyncSessions, Sessions
from serverless_sessions.django import _sessions
from serverless_sessions.flask import ServerlessSessions
from serverless_sessions.starlette import load_session
from tests.client import django_settings  # noqa: F401  # configures Django
from tests.client.moving_clock import MovingClock
from tests.support.django_users import BACKEND, Backend
from tests.support.service import Service
from tests.support.template import ROOT

PAGE = (ROOT / "docs/integrating/guarding.md").read_text()
# Long deadlines, because the machine may be busy.
OPTIONS: dict[str, Any] = {
    "region": Service.region,
    "deadline_seconds": 60.0,
    "verify_deadline_seconds": 60.0,
}


def run_snippets(framework: str, **names: Any) -> SimpleNamespace:
    """Return the names that the snippets below the framework's headings define."""
    snippets = re.findall(rf"^\*\*{framework}\*\*\n\n```python\n(.*?)^```", PAGE, re.M | re.S)
    assert len(snippets) == 3
    names["__name__"] = __name__
    snippets = re.findall(r"^```python\n(def .*?)^```", PAGE, re.M | re.S) + snippets
    exec(compile("\n".join(snippets), "docs/integrating/guarding.md", "exec"), names)  # noqa: S102
    return SimpleNamespace(**names, names=names)


def banner(framework: str) -> str:
    """Return the template of the banner that the guide shows for the framework."""
    section = PAGE.partition("\n## Acting")[2].partition(f"**{framework}**")[2]
    banner, *_ = re.findall(r"^```html\n(.*?)^```", section, re.M | re.S)
    return str(banner).strip()


class Answer(NamedTuple):
    status: int
    location: str
    text: str


# Sends a request: method, path and form.
Send = Callable[..., Answer]


@contextmanager
def _django(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Send]:
    views = run_snippets("Django")
    monkeypatch.setattr(views.User, "check_password", lambda user, password: password == "right")
    monkeypatch.setattr(views.User, "has_perm", lambda user, permission: user.pk == 7)
    # Neither a database nor templates.
    views.names["get_object_or_404"] = lambda _, pk: _user(pk)
    views.names["render"] = lambda *_: HttpResponse("confirm")

    def log_in(request: HttpRequest) -> HttpResponse:
        login(request, Backend().get_user(int(request.POST["user"])), BACKEND)
        return HttpResponse()

    def home(request: HttpRequest) -> HttpResponse:
        template = engines["django"].from_string(banner("Django"))
        return HttpResponse(template.render({"request": request, "user": request.user}))

    monkeypatch.setattr(
        "tests.client.test_guarding_guide.urlpatterns",
        [
            path("", home),
            path("log-in", log_in),
            path("payout", views.payout),
            path("confirm", views.confirm, name="confirm"),
            path("look-as/<int:pk>", views.look_as),
            path("stop", views.stop),
        ],
        raising=False,
    )
    with override_settings(
        AUTHENTICATION_BACKENDS=[BACKEND],
        MIDDLEWARE=[
            "serverless_sessions.django.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        ROOT_URLCONF=__name__,
        SERVERLESS_SESSIONS=views.SERVERLESS_SESSIONS | OPTIONS,
        SESSION_ENGINE="serverless_sessions.django",
    ):
        client = Client(headers={"Accept": "text/html"})

        def send(method: str, path: str, **form: str) -> Answer:
            data = form if method == "POST" else None
            answer = getattr(client, method.lower())(path, data, secure=True)
            location = answer.headers.get("Location", "")
            return Answer(answer.status_code, location, answer.content.decode())

        yield send
        _sessions().close()


@contextmanager
def _flask(service: Service, _: pytest.MonkeyPatch) -> Iterator[Send]:
    app = Flask("shop")
    names = run_snippets(
        "Flask", app=app, check_password=_check_password, may_impersonate=_may_impersonate
    )
    names.names["render_template"] = lambda _: "confirm"
    app.config["SERVERLESS_SESSIONS"] |= OPTIONS
    ServerlessSessions(app)

    @app.post("/log-in")
    def log_in() -> str:
        names.session["_user_id"] = names.request.form["user"]
        return ""

    @app.get("/")
    def home() -> str:
        return render_template_string(banner("Flask"))

    client = app.test_client()

    def send(method: str, path: str, **form: str) -> Answer:
        answer = client.open(path, method=method, data=form, headers={"Accept": "text/html"})
        return Answer(answer.status_code, answer.headers.get("Location", ""), answer.text)

    yield send
    app.extensions["serverless_sessions"].close()


@contextmanager
def _fastapi(service: Service, _: pytest.MonkeyPatch) -> Iterator[Send]:
    sessions = AsyncSessions(service.url, **OPTIONS)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with sessions:
            yield

    app = FastAPI(lifespan=lifespan)
    run_snippets(
        "FastAPI and Starlette",
        app=app,
        sessions=sessions,
        check_password=_check_password,
        may_impersonate=_may_impersonate,
    )

    @app.post("/log-in")
    async def log_in(request: Request) -> None:
        session = await load_session(request)
        session["user_id"] = (await request.form())["user"]

    @app.get("/")
    async def home(request: Request) -> PlainTextResponse:
        session = await load_session(request)
        who = session.impersonator
        return PlainTextResponse(f"{who.id} acts as {session['user_id']}" if who else "")

    with TestClient(app, base_url="https://testserver", follow_redirects=False) as client:

        def send(method: str, path: str, **form: str) -> Answer:
            data = form or None
            answer = client.request(method, path, data=data, headers={"Accept": "text/html"})
            return Answer(answer.status_code, answer.headers.get("Location", ""), answer.text)

        yield send


def _user(pk: int) -> Any:
    user = Backend().get_user(pk)
    user.is_staff = pk != 1
    return user


def _check_password(user_id: str, password: str) -> bool:
    return bool(user_id) and password == "right"


def _may_impersonate(agent_id: str, user_id: str) -> bool:
    return (agent_id, user_id) == ("7", "1")


SITES = {"Django": _django, "Flask": _flask, "FastAPI": _fastapi}


@pytest.fixture(params=SITES)
def send(
    request: pytest.FixtureRequest, service_in_memory: Service, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Send]:
    monkeypatch.setenv("SESSIONS_URL", service_in_memory.url)
    with SITES[request.param](service_in_memory, monkeypatch) as send:
        yield send


def test_user_confirms_a_payout(send: Send, clock: MovingClock, service_in_memory: Service) -> None:
    send("POST", "/log-in", user="7")
    [item] = service_in_memory.items()
    assert item["Methods"] == {"L": [{"S": "pwd"}]}
    assert "paid" in send("GET", "/payout").text
    clock.ahead = 301

    redirected = send("GET", "/payout")

    assert redirected.location == "/confirm?next=%2Fpayout"
    assert "confirm" in send("GET", redirected.location).text.lower()
    assert send("POST", redirected.location, password="wrong").location == ""
    assert send("POST", "/payout").status == 403
    assert send("POST", redirected.location, password="right").location == "/payout"
    assert "paid" in send("POST", "/payout").text
    away = send("POST", "/confirm?next=//evil.example", password="right")
    assert away.location == "/"


def test_agent_looks_as_a_user(send: Send, clock: MovingClock) -> None:
    send("POST", "/log-in", user="7")
    assert send("POST", "/look-as/2").status == 403
    clock.ahead = 601
    assert send("POST", "/look-as/1").status == 403
    send("POST", "/confirm", password="right")
    assert send("GET", "/").text == ""

    assert send("POST", "/look-as/1").location == "/"

    assert "7 acts as 1" in send("GET", "/").text
    assert send("GET", "/payout").status == 403
    assert send("POST", "/stop").location == "/"
    assert send("GET", "/").text == ""
    assert "paid" in send("GET", "/payout").text


def test_log_in_ends_the_oldest_session(
    send: Send, clock: MovingClock, service_in_memory: Service
) -> None:
    with Sessions(service_in_memory.url, **OPTIONS) as sessions:
        for _ in range(3):
            issued = sessions.create("7")
            clock.ahead += 10
        send("POST", "/log-in", user="7")

        assert len([*sessions.list("7")]) == 3
        assert sessions.verify(issued.token)
    [end] = [item for item in service_in_memory.items() if "RevokedAt" in item]
    assert end["RevokedReason"] == {"S": "session_limit"}
