"""The routes and pages of the console."""

from __future__ import annotations

import asyncio
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
from serverless_sessions._core import clock
from serverless_sessions.console import inputs
from serverless_sessions.console.display import device, error_message, plain, pretty_json
from serverless_sessions.console.inputs import InvalidInput
from serverless_sessions.console.picture import WINDOWS, Window
from serverless_sessions.console.timeline import Timeline, timelines
from serverless_sessions.errors import SessionNotFound, SessionsError
from serverless_sessions.wording import Moment, duration, outlook

TYPES = (
    *("created", "renewed", "updated", "rotated", "authenticated", "confirmed", "revoked"),
    *("expired", "purged", "deleted", "tampered", "unreadable"),
)
# Limits of what a page shows and reads. Beyond them, the page has a link or a notice.
_CARDS = 15
_ROWS = 24
_EVENTS = 40
_MAX_SESSIONS = 500
_MAX_EVENTS = 1000
_OUTCOMES = 50
# A page stops reloading itself after this time. An event reaches the trail within a second or two.
_STOP_RELOADING_AFTER_SECONDS = 30


@dataclass(frozen=True)
class Outcome:
    """The result of ending sessions: `ended` is their number, `at` the time in epoch seconds."""

    user_id: str | None
    session_id: str | None
    reason: str
    session_ids: frozenset[str]
    ended: int
    at: int


class Console:
    """Shows and ends the sessions of a service. `app` is the ASGI application."""

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
        self._templates.globals |= {
            "service": service,
            "operator": operator,
            "outlook": outlook,
        }
        self.app = Starlette(
            routes=[
                Route("/", self._start_page),
                Route("/find", self._find, methods=["POST"]),
                Route("/user", self._user_page),
                Route("/trail", self._trail_page),
                Route("/session", self._session_page),
                Route("/end", self._end_page, methods=["GET"]),
                Route("/end", self._end, methods=["POST"]),
                Route("/ended", self._outcome_page),
                Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
            ],
            exception_handlers={
                SessionsError: self._on_error,
                InvalidInput: self._on_invalid_input,
                HTTPException: self._on_http_error,
                Exception: self._on_fault,
            },
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self._sessions:
            yield

    async def _start_page(self, request: Request) -> Response:
        return self._render("start.html")

    async def _find(self, request: Request) -> Response:
        """Redirect to a user or session.

        The search is a POST form, so that a token pasted by mistake never becomes part of a URL.
        """
        form = await inputs.form(request)
        if "session" in form:
            return RedirectResponse(
                f"/session?{urlencode({'id': inputs.session_id(form['session'])})}", 303
            )
        user = inputs.user_id(form.get("user", ""))
        return RedirectResponse(f"/user?{urlencode({'id': user}, errors='surrogatepass')}", 303)

    async def _user_page(self, request: Request) -> Response:
        """Show a user's live sessions, and the timelines of all sessions in the trail."""
        user_id = inputs.user_id(request.query_params.get("id", ""))
        window_name = request.query_params.get("window", "fit")
        now = clock.now()
        live_sessions, events = await asyncio.gather(
            _first(self._sessions.list(user_id), _MAX_SESSIONS),
            _first(self._sessions.events(user_id=user_id), _MAX_EVENTS),
        )
        all_timelines = timelines(events, live_sessions)
        until = min(inputs.number(request.query_params.get("until"), now), now)
        length = WINDOWS.get(window_name)
        window = Window(until - length, until) if length else Window.around(all_timelines, now)
        in_window = [timeline for timeline in all_timelines if window.shows(timeline)]
        page = max(inputs.number(request.query_params.get("page"), 1), 1)
        return self._render(
            "user.html",
            user_id=user_id,
            now=now,
            live_sessions=live_sessions[_CARDS * (page - 1) : _CARDS * page],
            live_count=len(live_sessions),
            more_live=len(live_sessions) == _MAX_SESSIONS,
            page=page,
            pages=-(-len(live_sessions) // _CARDS),
            window=window,
            window_name=window_name if length else "fit",
            length=length,
            until=until,
            timelines=await self._with_pending(in_window[:_ROWS]),
            hidden_count=len(in_window) - _ROWS,
            has_sessions=bool(all_timelines),
            older_events_before=events[-1].recorded_at if len(events) == _MAX_EVENTS else None,
        )

    async def _with_pending(self, timelines: list[Timeline]) -> list[Timeline]:
        """Add the pending expiry to timelines whose end is not in the trail."""

        async def resolve(timeline: Timeline) -> Timeline:
            if timeline.ending != "unclear":
                return timeline
            pending = await self._sessions.pending(timeline.session_id)
            return timeline.with_expiry(pending) if pending else timeline

        return list(await asyncio.gather(*map(resolve, timelines)))

    async def _trail_page(self, request: Request) -> Response:
        """Show the events of a user or of a session, filtered by type and time."""
        query = request.query_params
        session_id = inputs.session_id(query["session"]) if "session" in query else None
        user_id = None if session_id else inputs.user_id(query.get("user", ""))
        types = [name for name in query.getlist("type") if name in TYPES]
        since, until = inputs.time(query.get("since", "")), inputs.time(query.get("until", ""))
        pending = await self._sessions.pending(session_id) if session_id else None
        events: list[Event] = []
        older = None
        read_count, previous = 0, ""
        before = query.get("before", "")
        # The API filters by whole seconds, so the first events here can be events that the previous
        # page has already shown. They are skipped below.
        last = inputs.number(before.partition("#")[0], 0) + 1 if before else None
        async for event in self._sessions.events(
            session_id=session_id,
            user_id=user_id,
            since=since,
            until=min(filter(None, (until, last)), default=None),
        ):
            if before and event.event_id >= before:
                continue
            if len(events) == _EVENTS or read_count == _MAX_EVENTS:
                older = previous
                break
            read_count += 1
            previous = event.event_id
            if not types or event.type in types:
                events.append(event)
        filters = {"session": session_id} if session_id else {"user": user_id}
        filters |= {name: query[name] for name in ("since", "until") if query.get(name)}
        return self._render(
            "trail.html",
            user_id=user_id,
            session_id=session_id,
            pending=pending,
            events=events,
            older=[*filters.items(), *(("type", name) for name in types), ("before", older)]
            if older
            else None,
            read_count=read_count,
            types=types,
            all_types=TYPES,
            since=query.get("since", ""),
            until=query.get("until", ""),
            first_page=not before,
        )

    async def _session_page(self, request: Request) -> Response:
        """Show one session, live or not. Its data is shown only on request."""
        session_id = inputs.session_id(request.query_params.get("id", ""))
        with_data = request.query_params.get("data") == "show"
        session, (pending, events) = await asyncio.gather(
            self._live_session(session_id), self._history(session_id)
        )
        now = clock.now()
        [timeline, *_] = [*timelines(events, [session] if session else []), None]
        if timeline and timeline.ending == "unclear" and pending:
            timeline = timeline.with_expiry(pending)
        user_id = session.user_id if session else events[0].user_id if events else None
        named = [session] if session else events
        impersonator = next((one.impersonator for one in named if one.impersonator), None)
        data = pretty_json(session.data or {}) if session and with_data else None
        return self._render(
            "session.html",
            200 if session or events else 404,
            session=session,
            session_id=session_id,
            user_id=user_id,
            impersonator=impersonator,
            timeline=timeline,
            window=Window.around([timeline] if timeline else [], now),
            now=now,
            pending=pending,
            events=events[:_EVENTS],
            more_events=len(events) > _EVENTS,
            data=data,
        )

    async def _live_session(self, session_id: str) -> Session | None:
        try:
            return await self._sessions.get(session_id)
        except SessionNotFound:
            return None

    async def _history(self, session_id: str) -> tuple[Any, list[Event]]:
        # The order matters. If the session is deleted between the two calls, its expiry is in both
        # results. In the other order it could be missing from both.
        pending = await self._sessions.pending(session_id)
        return pending, await _first(self._sessions.events(session_id=session_id), _EVENTS + 1)

    async def _end_page(self, request: Request) -> Response:
        """Show the sessions that would end, and ask for a reason."""
        return await self._confirmation(request.query_params, "", 200)

    async def _confirmation(self, fields: Mapping[str, str], error: str, status: int) -> Response:
        user_id, session_id, keep = inputs.target(fields)
        sessions = await self._target_sessions(user_id, session_id)
        kept_session = next((session for session in sessions if session.session_id == keep), None)
        sessions_to_end = [session for session in sessions if session.session_id != keep]
        return self._render(
            "end.html",
            status,
            user_id=user_id or (sessions[0].user_id if sessions else None),
            session_id=session_id,
            keep=keep,
            kept_session=kept_session,
            sessions_to_end=sessions_to_end[:_CARDS],
            count=len(sessions_to_end),
            more=len(sessions) == _MAX_SESSIONS,
            error=error,
            now=clock.now(),
        )

    async def _end(self, request: Request) -> Response:
        form = await inputs.form(request)
        user_id, session_id, keep = inputs.target(form)
        reason = form.get("reason", "")
        if not inputs.is_reason(reason):
            error = "Give a reason of up to 64 characters: a-z, 0-9, and . _ -"
            return await self._confirmation(form, error, 422)
        # The service does not return which sessions it ends, nor whether a single session was live.
        # So the live sessions are read first.
        live_sessions = await self._target_sessions(user_id, session_id)
        session_ids = frozenset(session.session_id for session in live_sessions) - {keep}
        started_at = clock.now()
        if session_id:
            await self._sessions.revoke(session_id, reason=reason)
            ended = len(session_ids)
        else:
            assert user_id  # noqa: S101  # a target is either a user or a session
            ended = await self._sessions.revoke_all(user_id, keep=keep, reason=reason)
        key = token_urlsafe(8)
        self._outcomes[key] = Outcome(
            user_id or (live_sessions[0].user_id if live_sessions else None),
            session_id,
            reason,
            session_ids,
            ended,
            started_at,
        )
        while len(self._outcomes) > _OUTCOMES:
            self._outcomes.popitem(last=False)
        return RedirectResponse(f"/ended?outcome={key}", 303)

    async def _target_sessions(self, user_id: str | None, session_id: str | None) -> list[Session]:
        """Return the live sessions of the user, or the session if it is live."""
        if user_id:
            return await _first(self._sessions.list(user_id), _MAX_SESSIONS)
        session = await self._live_session(session_id or "")
        return [session] if session else []

    async def _outcome_page(self, request: Request) -> Response:
        """Show how many sessions ended, and the events that have reached the trail."""
        key = request.query_params.get("outcome", "")
        outcome = self._outcomes.get(key)
        if outcome is None:
            raise InvalidInput("The console does not remember this any more. Look at the trail.")
        target = (
            {"session_id": outcome.session_id}
            if outcome.session_id
            else {"user_id": outcome.user_id}
        )
        # The clock of this machine may be ahead, so the search begins a minute earlier.
        recent = self._sessions.events(**target, since=outcome.at - 60)
        events = [
            event
            for event in await _first(recent, _MAX_EVENTS)
            if event.type == "revoked" and event.session_id in outcome.session_ids
        ]
        # By default the trail has no events of anonymous sessions.
        is_anonymous = outcome.user_id is None
        expected = 0 if is_anonymous else min(outcome.ended, len(outcome.session_ids))
        missing = expected - len(events)
        return self._render(
            "outcome.html",
            outcome=outcome,
            key=key,
            events=events[:_EVENTS],
            missing=max(missing, 0),
            reload=missing > 0 and clock.time() < outcome.at + _STOP_RELOADING_AFTER_SECONDS,
        )

    def _render(self, template: str, status: int = 200, **values: Any) -> Response:
        page = self._templates.get_template(template).render(values)
        return HTMLResponse(page.encode(errors="replace"), status)

    async def _on_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, SessionsError)  # noqa: S101
        status, message = error_message(error)
        return self._render("message.html", status, message=message)

    async def _on_invalid_input(self, request: Request, error: Exception) -> Response:
        return self._render("message.html", 422, message=str(error))

    async def _on_http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return self._render("message.html", error.status_code, message="There is no such page.")

    async def _on_fault(self, request: Request, error: Exception) -> Response:
        """Starlette raises the exception again, so its traceback is printed in the terminal."""
        message = "The console itself failed. Its terminal shows the error."
        return self._render("message.html", 500, message=message)


async def _first(items: AsyncIterator[Any], limit: int) -> list[Any]:
    result = []
    async for item in items:
        result.append(item)
        if len(result) == limit:
            break
    return result
