"""The page "Where you are signed in" for Starlette and FastAPI. It requires Jinja2.

    app.mount("/account/devices", devices_app(), name="serverless_sessions")

The name of its URL is then `serverless_sessions:devices`. It requires the app's
`SessionMiddleware`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router

# Without Jinja2, this import fails with a clear error, so it comes before that of Jinja2 itself.
from starlette.templating import Jinja2Templates

# isort: split
from jinja2 import ChoiceLoader, Environment, FileSystemLoader

from serverless_sessions._core.calls import Plan
from serverless_sessions._web.devices import (
    BASE_TEMPLATE,
    FIELD,
    HEADERS,
    MAX_FORM_BYTES,
    NOTHING,
    TEMPLATE,
    TEMPLATES,
    Devices,
    in_utc,
)
from serverless_sessions._web.same_origin import is_same_origin
from serverless_sessions.errors import Unavailable
from serverless_sessions.starlette import SessionUnavailable, StarletteSession, load_session

Result = TypeVar("Result")


def devices_app(
    templates: Jinja2Templates | None = None,
    *,
    base_template: str = BASE_TEMPLATE,
    translate: Callable[[str], str] = str,
    format_time: Callable[[datetime], str] = in_utc,
) -> Router:
    """Return the page as an app to mount.

    `templates` are those of the app, and `base_template` is its own base template, with the blocks
    `title` and `content`. `translate` is called with each text of the page in English, and
    `format_time` with each time, which has the time zone UTC.

    If nobody is signed in, the response is a 401. A form of another site gets a 403. The page needs
    no CSRF token for this. If the app's own protection requires one, a context processor of
    `templates` returns the hidden field as `csrf_input`. A form of more than 8 KB gets a 413.
    """
    environment = _environment(templates)
    # The app may add to this list later.
    processors = templates.context_processors if templates else []

    async def devices(request: Request) -> Response:
        # With another route for POST, the 405 for other methods would not list both.
        if request.method == "POST":
            return await sign_out(request)
        session = await load_session(request)
        return await page(request, session, _devices(session), request.query_params.get("outcome"))

    async def sign_out(request: Request) -> Response:
        if not is_same_origin(
            fetch_site=request.headers.get("sec-fetch-site"),
            origin=request.headers.get("origin"),
            host=request.headers.get("host", ""),
        ):
            raise HTTPException(403)
        session = await load_session(request)
        user_devices = _devices(session)
        if user_devices.is_impersonated:
            raise HTTPException(403)
        outcome = await _run(session, user_devices.sign_out(await _target(request)))
        if outcome == NOTHING:
            return await page(request, session, user_devices, outcome, status=404)
        return RedirectResponse(f"?outcome={outcome}", 303, HEADERS)

    async def page(
        request: Request,
        session: StarletteSession,
        user_devices: Devices,
        outcome: str | None,
        status: int = 200,
    ) -> Response:
        plan = user_devices.page(outcome, translate=translate, format_time=format_time)
        own = {"devices": await _run(session, plan), "base_template": base_template}
        # A later processor replaces what an earlier one returns under the same name.
        page_templates = Jinja2Templates(
            env=environment, context_processors=[*processors, lambda _: own]
        )
        return page_templates.TemplateResponse(
            request, TEMPLATE, {"csrf_input": ""}, status, HEADERS
        )

    return Router([Route("/", devices, methods=["GET", "POST"])])


def _devices(session: StarletteSession) -> Devices:
    user_devices = Devices.of(session, session._sessions.operations)
    if user_devices is None:
        raise HTTPException(401)
    return user_devices


async def _run(session: StarletteSession, plan: Plan[Result]) -> Result:
    try:
        return await session._sessions.run(plan)
    except Unavailable as error:
        raise SessionUnavailable(error) from error


async def _target(request: Request) -> str:
    """Return the id of the session to end, or `OTHERS`."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413)
    # Starlette's own parser of forms requires another package.
    try:
        form = parse_qs(body.decode("latin-1"), max_num_fields=100)
    except ValueError as error:
        raise HTTPException(413) from error
    [target, *_] = form.get(FIELD, [""])
    return target


def _environment(templates: Jinja2Templates | None) -> Environment:
    """Return an environment that also finds the package's templates. The app's own come first."""
    if templates is None:
        return Jinja2Templates(TEMPLATES).env
    loaders = [templates.env.loader] if templates.env.loader else []
    loader = ChoiceLoader([*loaders, FileSystemLoader(TEMPLATES)])
    return templates.env.overlay(loader=loader)
