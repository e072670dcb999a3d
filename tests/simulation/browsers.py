"""A browser with one cookie jar and several tabs, and a thief of its cookies.

The app in front of them uses the real adapter and the real handlers.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from serverless_sessions._core import clock
from serverless_sessions._core.calls import Answer
from tests.simulation.browser_model import BrowserModel, Exchange
from tests.simulation.browser_stories import Step, Story, Way, draw, shrink
from tests.simulation.story import Fate
from tests.simulation.turnstile import Actor
from tests.simulation.web_apps import WebApp
from tests.simulation.world import Call, World, base64url

_INVALID_TOKEN = {"status": 401, "code": "invalid_token", "detail": "No live session."}
_WRONG_STAGE_SECONDS = 20


class Cookie(NamedTuple):
    value: str
    expires: float
    by: Exchange | None


class Jar:
    """Handles Set-Cookie as a browser does (RFC 6265bis), for one host and HTTPS."""

    def __init__(self) -> None:
        self.cookies: dict[tuple[str, str], Cookie] = {}

    def copy(self) -> Jar:
        jar = Jar()
        jar.cookies = dict(self.cookies)
        return jar

    def header(self, now: float) -> list[tuple[str, str]]:
        """Return the value of the Cookie header. Older cookies come first."""
        return [
            (name, cookie.value)
            for (name, path), cookie in self.cookies.items()
            if cookie.expires > now and path == "/"
        ]

    def take(self, lines: list[str], now: float, by: Exchange | None) -> None:
        for line in lines:
            pair, *rest = line.split(";")
            name, _, value = (part.strip() for part in pair.partition("="))
            attributes = {}
            for part in rest:
                key, _, setting = part.partition("=")
                attributes[key.strip().lower()] = setting.strip()
            path = attributes.get("path", "/")
            is_for_this_host = "secure" in attributes and path == "/" and "domain" not in attributes
            if name.startswith("__Host-") and not is_for_this_host:
                continue
            # Max-Age has precedence over Expires. No test sends Expires alone.
            age = attributes.get("max-age")
            expires = now + int(age) if age is not None else float("inf")
            if age is None and "1970" in attributes.get("expires", ""):
                expires = 0.0
            if expires > now:
                # A replaced cookie keeps its position.
                self.cookies[name, path] = Cookie(value, expires, by)
            else:
                self.cookies.pop((name, path), None)


class Visitor(Actor):
    """An actor that makes requests of a browser, one at a time."""

    exchange: Exchange | None = None
    pace = 0.01


class Outcome:
    """The result of a story."""

    def __init__(self, cast: _Cast) -> None:
        self.breaks: list[tuple[str, str]] = cast.model.breaks
        self.tolerated: Counter[str] = cast.model.tolerated
        self.thief: str = cast.thief_end
        self.log = cast.world.log
        self.requests = len(cast.model.exchanges)
        self.calls = cast.calls

    @property
    def broken(self) -> str | None:
        """The subject of the first broken promise. Later ones may be consequences of it."""
        return self.breaks[0][0] if self.breaks else None


class _Transport:
    """Replaces the client's transport."""

    def __init__(self, cast: _Cast) -> None:
        self._cast = cast

    def send(self, request: Any) -> Answer:
        return self._cast.carry(request)

    def close(self) -> None:
        """Do nothing, because there are no connections."""


class _AsyncTransport:
    def __init__(self, cast: _Cast) -> None:
        self._cast = cast

    async def send(self, request: Any) -> Answer:
        return self._cast.carry(request)

    async def aclose(self) -> None:
        """Do nothing, because there are no connections."""


class _Signer:
    """Sends requests as they are."""

    def exchange(self, request: Any) -> Any:
        return (yield request)


def live(app: WebApp, story: Story) -> Outcome:
    """Run a story with the browser and the thief."""
    cast = _Cast(app, story)
    world = cast.world
    with world.installed(), cast.installed():
        world.time.start(cast.actor("main", cast.play))
        world.time.run()
    return Outcome(cast)


def report(app: WebApp, seed: int, *, thief: bool = False, smallest: bool = True) -> str:
    """Return the smallest version of a story that breaks a promise, and everything that happens in
    it.
    """
    story = draw(seed, thief=thief)
    label = live(app, story).broken
    if smallest:
        story = shrink(story, lambda story: live(app, story).broken == label)
    outcome = live(app, story)
    lines = [f"Story {seed} of {app.name} breaks a promise:"]
    lines += [f"  {label}: {text}" for label, text in outcome.breaks]
    lines += ["", str(story._replace(steps=())), *(f"  {step}" for step in story.steps), ""]
    return "\n".join(lines + outcome.log)


class _Cast:
    def __init__(self, app: WebApp, story: Story) -> None:
        self.app = app
        self.story = story
        self.model = BrowserModel(is_one_cookie=app.name.startswith("django"), grace=story.grace)
        self.world = World(0.2, 10_000.0, self.model.wrote)
        self.model.world = self.world
        self.jar = Jar()
        self.thief: Jar | None = None
        self.thief_end = ""
        self.random = Random(3)
        self.under_way = 0
        self.calls = 0
        self.wrong_until = 0.0
        self.count = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Run the client and the adapters in simulated time, on this story's service."""

        async def sleep(seconds: float, result: Any = None) -> Any:
            if seconds > 0:
                self.world.time.wait(seconds)
            return result

        draws = SimpleNamespace(
            uniform=lambda least, most: self.random.uniform(least, most),
            random=self.random.random,
        )
        urlsafe = SimpleNamespace(
            token_urlsafe=lambda size: base64url(self.random.randbytes(size)),
            token_bytes=self.random.randbytes,
        )
        stand_ins: dict[int, object] = {
            id(random): draws,
            id(secrets): urlsafe,
            id(secrets.token_urlsafe): urlsafe.token_urlsafe,
            id(secrets.token_bytes): urlsafe.token_bytes,
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, module in list(sys.modules.items()):
                if name.partition(".")[0] == "serverless_sessions":
                    for attribute, value in list(vars(module).items()):
                        if id(value) in stand_ins:
                            patch.setattr(module, attribute, stand_ins[id(value)])
            patch.setattr(clock, "time", lambda: self.world.time.clock)
            patch.setattr(clock, "monotonic", lambda: self.world.time.now)
            patch.setattr(clock, "sleep", self.world.time.wait)
            patch.setattr(asyncio, "sleep", sleep)
            patch.setattr(self.world.api, "default_grace_seconds", self.story.grace)
            for client in self.app.clients():
                is_async = asyncio.iscoroutinefunction(client.verify)
                transport = (_AsyncTransport if is_async else _Transport)(self)
                patch.setattr(client, "_transport", transport)
                patch.setattr(client, "_signer", _Signer())
            yield

    def actor(self, name: str, work: Callable[[], None], pace: float = 0.01) -> Visitor:
        actor = Visitor(name, 0.0, work)
        actor.pace = pace
        return actor

    def start(self, name: str, work: Callable[[], object], pace: float = 0.01) -> None:
        """Start an action that runs in parallel."""
        self.under_way += 1

        def counted() -> None:
            try:
                work()
            finally:
                self.under_way -= 1

        self.world.time.start(self.actor(name, counted, pace))

    # The app's calls of the service

    def carry(self, request: Any) -> Answer:
        actor = self.world.time.running
        url = urlsplit(request.url)
        path = unquote(url.path)
        exchange: Exchange | None = actor.exchange
        if path == "/sessions/verify" and self.world.time.now < self.wrong_until:
            assert exchange
            exchange.is_wrong_stage = True
            self.world.time.wait(0.02)
            return Answer(401, {}, json.dumps(_INVALID_TOKEN).encode())
        body = json.loads(request.body.value) if request.body.value else None
        headers = {
            name.lower(): value
            for name, value in request.headers.items()
            if name.lower() == "if-match"
        }
        call = self._call(actor, body)
        self.world.call_api(
            call, request.method, path, body, query=dict(parse_qsl(url.query)), headers=headers
        )
        whose = f"of {exchange.number} " if exchange else ""
        self.world.note(f"    {request.method} {path} {whose}is {call.status}")
        answer = b"" if call.body is None else json.dumps(call.body).encode()
        return Answer(call.status, {}, answer)

    def _call(self, actor: Visitor, body: Any) -> Call:
        self.calls += 1
        fate = Fate((actor.pace,), "kept", 0.005)
        facts = {"exchange": actor.exchange, "is_thief": actor.name == "thief"}
        return Call(self.calls, "app", "backend", (fate,) * 4, **facts)

    # The browser's requests

    def request(
        self,
        action: str,
        way: Way,
        *,
        group: int,
        query: dict[str, str] | None = None,
        jar: Jar | None = None,
    ) -> Exchange:
        """Send the request with the jar's cookies, and store the cookies of the answer.

        Return when the page has got the answer.
        """
        jar, query = jar or self.jar, query or {}
        actor: Visitor = self.world.time.running
        now = self.world.time.now
        exchange = Exchange(
            len(self.model.exchanges) + 1, action, query, jar.header(now), now, group
        )
        exchange.is_thief = jar is not self.jar
        self.model.sent(exchange, jar.cookies)
        header = "; ".join(f"{name}={value}" for name, value in exchange.cookies)
        self.world.note(f"{exchange} is sent with {_short(header)}")
        self.world.time.wait(way.up)
        actor.exchange = exchange
        answer = self.app.serve(action, query, header)
        actor.exchange = None
        exchange.answered = self.world.time.now
        exchange.status, exchange.body, exchange.set_cookies = answer
        shown = " ".join(_short(line.partition(";")[0] + "; ") for line in answer.cookies)
        self.world.note(
            f"  {exchange} is answered {answer.status} user {exchange.user}, sets {shown or '-'}"
        )
        self.model.answered(exchange)
        if way.fate == "lost":
            self.world.note(f"  {exchange}: the answer is lost")
            exchange.is_lost = True
            self.world.time.wait(way.down)
            return exchange
        self.world.time.wait(way.down)
        jar.take(answer.cookies, self.world.time.now, exchange)
        exchange.is_taken = way.fate == "taken"
        exchange.arrived = self.world.time.now
        self.world.note(f"  {exchange} arrives{'' if exchange.is_taken else ', the page is gone'}")
        self.model.arrived(exchange)
        return exchange

    # What users do

    def play(self) -> None:
        if self.story.is_signed_in:
            self._login(Step("login", 0.0, "1", (Way(),) * 4, 0.0, 0.01), 0)
            self.world.time.wait(2.0)
        for number, step in enumerate(self.story.steps, 1):
            self.world.time.wait(step.after)
            act: Callable[[Step, int], object] = getattr(self, f"_{step.action}")
            name = "thief" if step.action.startswith("thief") else step.action
            self.start(name, partial(act, step, number), step.pace)
        self._settle()
        if self.thief and self.story.thief:
            self._confront(*self.story.thief)
            return
        for pause in (1.0, self.story.grace + 11.0):
            self.world.time.wait(pause)
            self.request("read", Way(), group=-1)

    def _settle(self) -> None:
        while self.under_way:
            self.world.time.wait(1.0)

    def _poll(self, step: Step, number: int) -> None:
        self.request("read", step.ways[0], group=number)

    def _polls(self, step: Step, number: int) -> None:
        """Send several polls in parallel, a moment apart."""
        for way in step.ways:
            self.start("poll", partial(self.request, "read", way, group=number), step.pace)
            self.world.time.wait(step.gap / 4)

    def _write(self, step: Step, number: int) -> None:
        self.count += 1
        self.request("write", step.ways[0], group=number, query={"key": f"key{self.count}"})

    def _writes(self, step: Step, number: int) -> None:
        self.start("write", lambda: self._write(step, number), step.pace)
        self._write(step._replace(ways=step.ways[1:]), number)

    def _visit(self, step: Step, number: int) -> Exchange:
        self.count += 1
        return self.request(
            "visit", step.ways[-1], group=number, query={"new_csrf": f"csrf{self.count}"}
        )

    def _login(self, step: Step, number: int, *, clicks: int = 1, user: str = "1") -> None:
        """Load a page with a CSRF token, then send the form."""
        page = self._visit(step, number)
        if not page.is_taken or page.status != 200:
            return
        query = {"user": user, "csrf": str(page.body["csrf"])}
        self._click(step, number, "login", clicks, query)

    def _click(
        self,
        step: Step,
        number: int,
        action: str,
        clicks: int = 1,
        query: dict[str, str] | None = None,
    ) -> None:
        """Send the requests.

        In a double click the browser drops the first answer, because it has left the page.
        """
        if clicks == 2:
            first = step.ways[1]
            if first.fate == "taken":
                first = first._replace(fate="dropped")
            self.start(
                action, lambda: self.request(action, first, group=number, query=query), step.pace
            )
            self.world.time.wait(step.gap)
        self.request(action, step.ways[0], group=number, query=query)

    def _login2(self, step: Step, number: int) -> None:
        self._login(step, number, clicks=2)

    def _switch(self, step: Step, number: int) -> None:
        self._login(step, number, user=step.user)

    def _switch2(self, step: Step, number: int) -> None:
        self._login(step, number, user=step.user, clicks=2)

    def _logout(self, step: Step, number: int) -> None:
        self._click(step, number, "logout")

    def _logout2(self, step: Step, number: int) -> None:
        self._click(step, number, "logout", 2)

    def _empty(self, step: Step, number: int) -> None:
        self._click(step, number, "empty")

    def _regenerate(self, step: Step, number: int, clicks: int = 1) -> None:
        """Change the privileges. Every other time, it is a step-up."""
        query = {"proof": "otp"} if number % 2 else None
        self._click(step, number, "regenerate", clicks, query)

    def _regenerate2(self, step: Step, number: int) -> None:
        self._regenerate(step, number, 2)

    def _operator(self, step: Step, number: int) -> None:
        """End all sessions of the user, as an operator does in the console."""
        self.model.operator_begins()
        call = self._call(self.world.time.running, None)
        query = {"user_id": "1", "reason": "operator"}
        self.world.call_api(call, "DELETE", "/sessions", query=query)
        self.world.note(f"  an operator ends all sessions of 1: {call.status} {call.body}")

    def _wrong_stage(self, step: Step, number: int) -> None:
        """Point the app to another deployment, which has none of its sessions."""
        self.world.note("  the app points at another stage")
        self.wrong_until = self.world.time.now + _WRONG_STAGE_SECONDS

    # What a thief does

    def _copy(self, step: Step, number: int) -> None:
        self.world.note("  a thief copies the cookies")
        self.thief = self.jar.copy()

    def _thief_poll(self, step: Step, number: int) -> None:
        if self.thief:
            self.request("read", step.ways[0], group=number, jar=self.thief)

    def _thief_rotate(self, step: Step, number: int) -> None:
        if self.thief:
            self.request("regenerate", step.ways[0], group=number, jar=self.thief)

    def _thief_tokens(self) -> list[str]:
        header = self.thief.header(self.world.time.now) if self.thief else []
        return [value for _, value in header if "." in value]

    def _thief_verify(self, step: Step, number: int) -> None:
        """Verify with the credentials of a backend, or through an app that only verifies."""
        for token in self._thief_tokens():
            self.model.thief_presents(token)
            began = self.world.time.now
            call = self._call(self.world.time.running, None)
            self.world.call_api(call, "POST", "/sessions/verify", {"token": token})
            self.world.note(f"  the thief verifies {_short(token + ';')}: {call.status}")
            self.model.thief_was_answered(token, began, call.status == 200)

    def _thief_authorize(self, step: Step, number: int) -> None:
        for token in self._thief_tokens():
            self.model.thief_presents(token)
            began = self.world.time.now
            call = self._call(self.world.time.running, None)
            self.world.authorize(call, token)
            self.world.note(f"  the thief is authorized with {_short(token + ';')}: {call.status}")
            self.model.thief_was_answered(token, began, call.status == 200)

    def _confront(self, way_of: str, pace: float, is_first: bool) -> None:
        """Let the user and the thief continue, and come back one grace period later."""
        quick = Step(way_of, 0.0, "1", (Way(),) * 4, 0.0, 0.01)
        session_id, has = self.model.stolen(self.jar.cookies, self._cookies_of_thief())
        if session_id is None:
            self.thief_end = "the session had ended"
        elif has == "same":
            self.thief_end = "both hold the same token"
        elif has == "none":
            self.thief_end = "the user had another session"
            self.model.user_left(session_id)
        else:
            self._meet(quick, is_first)
            until = self.world.time.now + self.story.grace + 2
            while self.world.time.now + pace < until:
                self.world.time.wait(pace)
                self._as_thief(quick)
            self.world.time.wait(until - self.world.time.now)
            self._meet(quick, is_first)
            ended = self.model.lives[session_id].reason
            self.thief_end = "detected" if ended == "token_reuse" else f"ended: {ended}"
            if ended is None:
                self.thief_end = "unnoticed"
                self.model.broke("a thief stays in", f"of session {session_id}")

    def _cookies_of_thief(self) -> Any:
        return self.thief.cookies if self.thief else {}

    def _meet(self, quick: Step, is_first: bool) -> None:
        turns: list[Callable[[], object]] = [
            partial(self._as_thief, quick),
            partial(self.request, "read", Way(), group=-1),
        ]
        for turn in turns if is_first else turns[::-1]:
            turn()
            self.world.time.wait(0.5)

    def _as_thief(self, step: Step) -> None:
        actor = self.world.time.running
        actor.name = "thief"
        getattr(self, f"_{step.action}")(step, -2)
        actor.name = "main"


def _short(text: str) -> str:
    """Return the cookies with only the first characters of the id and the secret."""
    parts = []
    for pair in text.split(";"):
        name, equals, value = pair.strip().rpartition("=")
        session_id, dot, secret = value.partition(".")
        parts.append(f"{name}{equals}{session_id[:4]}{dot}{secret[:3]}{secret[12:15]}")
    return "; ".join(parts)
