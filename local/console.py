"""The operator's console on the local stack, with sessions to look at."""

from __future__ import annotations

import os

from local.stack import ACCOUNT, REGION, LocalStack
from serverless_sessions import AsyncSessions, Client, Sessions
from serverless_sessions.console.server import listen, serve

_LAPTOP = Client("203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0")
_PHONE = Client(
    "198.51.100.20", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0) Version/19.0 Safari/604.1"
)
_TABLET = Client("2001:db8::17", "Mozilla/5.0 (Linux; Android 16) Chrome/141.0.0.0 Safari/537.36")


def open_console(stack: LocalStack) -> None:
    """Serve the console until Ctrl-C, as an operator who may only call the API.

    With BROWSER=none, no browser is opened.
    """
    user = "operator"
    credentials = stack.credentials(user, "execute-api:Invoke")
    with stack.sessions(credentials) as sessions:
        if not any(sessions.list("ada")):
            sign_in(sessions)
    print("Look for the user 'ada'.", flush=True)
    serve(
        listen(),
        AsyncSessions(stack.url, region=REGION, credentials=credentials),
        service=f"local · {stack.url}",
        operator=f"arn:aws:iam::{ACCOUNT}:user/{user}",
        browse=os.environ.get("BROWSER") != "none",
    )


def sign_in(sessions: Sessions) -> None:
    """Sign ada in on three devices, because the demo ends all of its own sessions."""
    laptop = sessions.create("ada", data={"theme": "dark"}, client=_LAPTOP)
    sessions.change(laptop.session.session_id, {"cart": ["tea", 2]})
    sessions.rotate(laptop.session.session_id)
    phone = sessions.create("ada", ttl_seconds=600, data={"theme": "light"}, client=_PHONE)
    sessions.renew(phone.session.session_id)
    sessions.create("ada", absolute_ttl_seconds=3600, client=_TABLET)
