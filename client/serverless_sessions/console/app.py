"""The console's pages."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from serverless_sessions import AsyncSessions, Event, Session
from serverless_sessions.cli.output import Moment, duration
from serverless_sessions.console import asked
from serverless_sessions.console.asked import Refused
from serverless_sessions.console.lives import Life, lives
from serverless_sessions.console.picture import WINDOWS, Window
from serverless_sessions.console.plain import device, indented, plain, sentence
from serverless_sessions.errors import SessionNotFound, SessionsError

TYPES = (
    *("created", "renewed", "updated", "rotated", "confirmed", "revoked", "expired", "purged"),
    *("deleted", "tampered", "unreadable"),
)
# What one page shows and reads at most. The rest is a link or a sentence.
_CARDS = 15
_ROWS = 24
_EVENTS = 40
_MOST_SESSIONS = 500
_MOST_EVENTS = 1000
_OUTCOMES = 50
# The stream brings an event within a second or two.
_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Outcome:
    """What became of ending `session_ids`. `at` is in epoch seconds, `ended` their number."""

    user_id: str | None
    session_id: str | None
    reason: str
    session_ids: frozenset[str]
    ended: int
    at: int


class Console:
    """`app` shows the sessions of the service behind `sessions`, and ends them."""

    def __init__(self, sessions: AsyncSessions, *, service: str, operator: str) -> None:
        self._sessions = sessions
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._templates = Environment(
            loader=PackageLoader("serverless_sessions.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "plain": plain,
            "device": device,
            "duration": duration,
            "moment": Moment,
            "query": lambda values: urlencode(values, errors="surrogatepass"),
        }
        self._templates.globals |= {"service": service, "operator": operator}
        self.app = Starlette(
            routes=[
                Route("/", self._start),
                Route("/find", self._find, methods=["POST"]),
                Route("/user", self._user),
                Route("/trail", self._trail),
                Route("/session", self._session),
                Route("/end", self._confirm, methods=["GET"]),
                Route("/end", self._end, methods=["POST"]),
                Route("/ended", self._ended),
                Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
            ],
            exception_handlers={
                SessionsError: self._on_error,
                Refused: self._on_refused,
                HTTPException: self._on_http_error,
                Exception: self._on_fault,
            },
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self._sessions:
            yield

    async def _start(self, request: Request) -> Response:
        return self._page("start.html")

    async def _find(self, request: Request) -> Response:
        """A form and no link, so that a token pasted by mistake gets into no address."""
        form = await asked.form(request)
        if "session" in form:
            return RedirectResponse(
                f"/session?{urlencode({'id': asked.session_id(form['session'])})}", 303
            )
        user = asked.user_id(form.get("user", ""))
        return RedirectResponse(f"/user?{urlencode({'id': user}, errors='surrogatepass')}", 303)

    async def _user(self, request: Request) -> Response:
        """A user's live sessions, and the lives of all that the trail knows."""
        user_id = asked.user_id(request.query_params.get("id", ""))
        chosen = request.query_params.get("window", "fit")
        now = int(time.time())
        live, events = await asyncio.gather(
            _first(self._sessions.list(user_id), _MOST_SESSIONS),
            _first(self._sessions.events(user_id=user_id), _MOST_EVENTS),
        )
        all_lives = lives(events, live)
        until = min(asked.number(request.query_params.get("until"), now), now)
        length = WINDOWS.get(chosen)
        window = Window(until - length, until) if length else Window.around(all_lives, now)
        in_window = [life for life in all_lives if window.shows(life)]
        page = max(asked.number(request.query_params.get("page"), 1), 1)
        return self._page(
            "user.html",
            user_id=user_id,
            now=now,
            live=live[_CARDS * (page - 1) : _CARDS * page],
            live_count=len(live),
            more_live=len(live) == _MOST_SESSIONS,
            page=page,
            pages=-(-len(live) // _CARDS),
            window=window,
            chosen=chosen if length else "fit",
            length=length,
            until=until,
            lives=await self._with_pending(in_window[:_ROWS]),
            hidden_lives=len(in_window) - _ROWS,
            known=bool(all_lives),
            events_cut=events[-1].recorded_at if len(events) == _MOST_EVENTS else None,
        )

    async def _with_pending(self, lives: list[Life]) -> list[Life]:
        """Ask how those ended that are neither live nor ended in the trail."""

        async def resolved(life: Life) -> Life:
            if life.ending != "unclear":
                return life
            pending = await self._sessions.pending(life.session_id)
            return life.expired(pending) if pending else life

        return list(await asyncio.gather(*map(resolved, lives)))

    async def _trail(self, request: Request) -> Response:
        """The events of a user or of a session; a choice of types and of times."""
        query = request.query_params
        session_id = asked.session_id(query["session"]) if "session" in query else None
        user_id = None if session_id else asked.user_id(query.get("user", ""))
        types = [each for each in query.getlist("type") if each in TYPES]
        since, until = asked.time(query.get("since", "")), asked.time(query.get("until", ""))
        pending = await self._sessions.pending(session_id) if session_id else None
        shown: list[Event] = []
        older = None
        read, previous = 0, ""
        before = query.get("before", "")
        # The API takes times alone. The rest of a second is left out here.
        last = asked.number(before.partition("#")[0], 0) + 1 if before else None
        async for event in self._sessions.events(
            session_id=session_id,
            user_id=user_id,
            since=since,
            until=min(filter(None, (until, last)), default=None),
        ):
            if before and event.event_id >= before:
                continue
            if len(shown) == _EVENTS or read == _MOST_EVENTS:
                older = previous
                break
            read += 1
            previous = event.event_id
            if not types or event.type in types:
                shown.append(event)
        kept = {"session": session_id} if session_id else {"user": user_id}
        kept |= {name: query[name] for name in ("since", "until") if query.get(name)}
        return self._page(
            "trail.html",
            user_id=user_id,
            session_id=session_id,
            pending=pending,
            events=shown,
            older=[*kept.items(), *(("type", each) for each in types), ("before", older)]
            if older
            else None,
            read=read,
            types=types,
            all_types=TYPES,
            since=query.get("since", ""),
            until=query.get("until", ""),
            first_page=not before,
        )

    async def _session(self, request: Request) -> Response:
        """One session, live or not. Its data only if the request asks for it."""
        session_id = asked.session_id(request.query_params.get("id", ""))
        with_data = request.query_params.get("data") == "show"
        session, (pending, events) = await asyncio.gather(
            self._live(session_id), self._history(session_id)
        )
        now = int(time.time())
        [life, *_] = [*lives(events, [session] if session else []), None]
        if life and life.ending == "unclear" and pending:
            life = life.expired(pending)
        user_id = session.user_id if session else events[0].user_id if events else None
        data = indented(session.data or {}) if session and with_data else None
        return self._page(
            "session.html",
            200 if session or events else 404,
            session=session,
            session_id=session_id,
            user_id=user_id,
            life=life,
            window=Window.around([life] if life else [], now),
            now=now,
            pending=pending,
            events=events[:_EVENTS],
            more_events=len(events) > _EVENTS,
            data=data,
        )

    async def _live(self, session_id: str) -> Session | None:
        try:
            return await self._sessions.get(session_id)
        except SessionNotFound:
            return None

    async def _history(self, session_id: str) -> tuple[Any, list[Event]]:
        # In this order: an expiry that TTL brings in between is in both, and not in neither.
        pending = await self._sessions.pending(session_id)
        return pending, await _first(self._sessions.events(session_id=session_id), _EVENTS + 1)

    async def _confirm(self, request: Request) -> Response:
        """What would end."""
        return await self._ask(request.query_params, "", 200)

    async def _ask(self, given: Mapping[str, str], wrong: str, status: int) -> Response:
        user_id, session_id, keep = asked.target(given)
        found = await self._ending(user_id, session_id)
        kept = next((each for each in found if each.session_id == keep), None)
        ending = [each for each in found if each.session_id != keep]
        return self._page(
            "end.html",
            status,
            user_id=user_id or (found[0].user_id if found else None),
            session_id=session_id,
            keep=keep,
            kept=kept,
            ending=ending[:_CARDS],
            count=len(ending),
            more=len(found) == _MOST_SESSIONS,
            wrong=wrong,
            now=int(time.time()),
        )

    async def _end(self, request: Request) -> Response:
        form = await asked.form(request)
        user_id, session_id, keep = asked.target(form)
        reason = form.get("reason", "")
        if not asked.is_reason(reason):
            wrong = "Give a reason of up to 64 characters: a-z, 0-9, and . _ -"
            return await self._ask(form, wrong, 422)
        # The service does not tell which sessions it ends, nor whether a single one was live.
        ending = await self._ending(user_id, session_id)
        ids = frozenset(each.session_id for each in ending) - {keep}
        began = int(time.time())
        if session_id:
            await self._sessions.revoke(session_id, reason=reason)
            ended = len(ids)
        else:
            assert user_id  # noqa: S101  # one of both is there
            ended = await self._sessions.revoke_all(user_id, keep=keep, reason=reason)
        key = token_urlsafe(8)
        self._outcomes[key] = Outcome(
            user_id or (ending[0].user_id if ending else None),
            session_id,
            reason,
            ids,
            ended,
            began,
        )
        while len(self._outcomes) > _OUTCOMES:
            self._outcomes.popitem(last=False)
        return RedirectResponse(f"/ended?outcome={key}", 303)

    async def _ending(self, user_id: str | None, session_id: str | None) -> list[Session]:
        """The live sessions in question."""
        if user_id:
            return await _first(self._sessions.list(user_id), _MOST_SESSIONS)
        session = await self._live(session_id or "")
        return [session] if session else []

    async def _ended(self, request: Request) -> Response:
        """How many ended, and their events as far as the trail has them."""
        key = request.query_params.get("outcome", "")
        outcome = self._outcomes.get(key)
        if outcome is None:
            raise Refused("The console no longer knows of this. The trail does.")
        whose = (
            {"session_id": outcome.session_id}
            if outcome.session_id
            else {"user_id": outcome.user_id}
        )
        # A minute earlier: the clock of this machine may be ahead.
        recent = self._sessions.events(**whose, since=outcome.at - 60)
        events = [
            event
            for event in await _first(recent, _MOST_EVENTS)
            if event.type == "revoked" and event.session_id in outcome.session_ids
        ]
        # By default the trail has nothing of anonymous sessions.
        due = min(outcome.ended, len(outcome.session_ids)) if outcome.user_id is not None else 0
        missing = due - len(events)
        return self._page(
            "ended.html",
            outcome=outcome,
            key=key,
            events=events[:_EVENTS],
            missing=max(missing, 0),
            reload=missing > 0 and time.time() < outcome.at + _PATIENCE_SECONDS,
        )

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        page = self._templates.get_template(template).render(values)
        return HTMLResponse(page.encode(errors="replace"), status)

    async def _on_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, SessionsError)  # noqa: S101
        status, told = sentence(error)
        return self._page("sentence.html", status, sentence=told)

    async def _on_refused(self, request: Request, error: Exception) -> Response:
        return self._page("sentence.html", 422, sentence=str(error))

    async def _on_http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return self._page("sentence.html", error.status_code, sentence="There is no such page.")

    async def _on_fault(self, request: Request, error: Exception) -> Response:
        """Starlette raises it again, and its stack goes to the terminal."""
        told = "The console itself failed. Its terminal says how."
        return self._page("sentence.html", 500, sentence=told)


async def _first(items: AsyncIterator[Any], most: int) -> list[Any]:
    found = []
    async for each in items:
        found.append(each)
        if len(found) == most:
            break
    return found
