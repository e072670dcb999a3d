"""A FastAPI app with its sessions in the service: log in, count, see your devices, sign out.

The user grace is a support agent, who can look at the app as another user.

SESSIONS_URL=… python examples/fastapi_app/app.py

The cookie is `SameSite=Lax`, so browsers do not send it with forms of other sites. A real app
still needs protection against CSRF.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates

from serverless_sessions import AsyncSessions, Unavailable
from serverless_sessions.starlette import SessionMiddleware, StarletteSession, load_session
from serverless_sessions.starlette_devices import devices_app

sessions = AsyncSessions(os.environ["SESSIONS_URL"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await sessions.aclose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(
    SessionMiddleware,
    sessions=sessions,
    user_key="user",
    https_only=False,  # this example uses HTTP
)
app.mount("/account/devices", devices_app(), name="serverless_sessions")
templates = Jinja2Templates(Path(__file__).parent.parent)
Session = Annotated[StarletteSession, Depends(load_session)]


def current_user(session: Session) -> str:
    if "user" not in session:
        raise HTTPException(401)
    user: str = session["user"]
    return user


User = Annotated[str, Depends(current_user)]


def home() -> RedirectResponse:
    return RedirectResponse("/", 303)


@app.get("/")
async def page(request: Request, session: Session) -> Response:
    if "user" not in session:
        return templates.TemplateResponse(request, "page.html")
    context = {
        "user": session["user"],
        "count": session.get("count", 0),
        "impersonator": session.impersonator,
    }
    return templates.TemplateResponse(request, "page.html", context)


@app.post("/log-in")
async def log_in(session: Session, user: Annotated[str, Form()]) -> Response:
    session["user"] = user  # a real app checks a password first
    return home()


@app.post("/count")
async def count(session: Session, user: User) -> Response:
    session["count"] = session.get("count", 0) + 1
    return home()


@app.post("/log-out")
async def log_out(session: Session) -> Response:
    session.clear()
    return home()


@app.post("/sign-out-everywhere")
async def sign_out_everywhere(user: User) -> Response:
    await sessions.revoke_all(user, reason="signed_out_everywhere")
    return home()


@app.post("/impersonate")
async def impersonate(session: Session, user: User, customer: Annotated[str, Form()]) -> Response:
    if user != "grace":
        raise HTTPException(403)
    session.impersonate(customer, reason="support")
    return home()


@app.post("/stop-impersonating")
async def stop_impersonating(session: Session) -> Response:
    await session.stop_impersonating()
    return home()


@app.exception_handler(Unavailable)
async def unavailable(request: Request, error: Exception) -> Response:
    return PlainTextResponse("Try again in a moment.", 503)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("WEB_PORT", "8000")))
