"""The FastAPI example."""

import os
import time
from secrets import token_urlsafe

import uvicorn
from fastapi import HTTPException, Request
from fastapi.responses import RedirectResponse

from examples.fastapi_app import app as example
from examples.fastapi_app.app import Session, app, templates
from serverless_sessions import AsyncSessions
from serverless_sessions.starlette import StarletteSession, load_session
from tests.browser.apps import CSRF_FIELD, DEADLINES, PORT, VISITORS, is_csrf_token

example.sessions = AsyncSessions(os.environ["SESSIONS_URL"], **DEADLINES)
[middleware] = app.user_middleware
middleware.kwargs.update(https_only=True, sessions=example.sessions)


@app.get("/who")
async def who(request: Request, session: Session) -> dict[str, str | None]:
    user = session.get("user")
    if "write" in request.query_params and session:
        session["seen"] = time.time()
    return {"user": user}


@app.post("/regenerate")
async def regenerate(session: Session) -> RedirectResponse:
    session.regenerate()
    return RedirectResponse("/", 303)


def csrf_token(request: Request) -> dict[str, str]:
    return {"csrf_token": request.session.setdefault("csrf", token_urlsafe())}


async def load_and_check(request: Request) -> StarletteSession:
    """Load the session and check the CSRF token. Endpoints use this in place of `load_session`."""
    session = await load_session(request)
    if request.url.path == "/log-in":
        sent = str((await request.form()).get(CSRF_FIELD, ""))
        if not is_csrf_token(sent, session.get("csrf")):
            raise HTTPException(403)
    return session


if VISITORS:
    templates.context_processors.append(csrf_token)
    app.dependency_overrides[load_session] = load_and_check

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT)
