"""This service's functions, called as Lambda calls them, in the environment of the template."""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

from msgspec import UNSET

import clock
from bench.stores.serve import serve
from expiry.sweep import Sweep
from session_api import handler as api
from session_audit import handler as audit
from session_authorizer import handler as authorizer
from session_sweeper import handler as sweeper
from session_timers import handler as timers
from sessions.limits import SESSION_ID
from sessions.session import Session, new_session_id

EVENTS = Path(__file__).parent.parent.parent / "events"
CONTEXT: Any = SimpleNamespace(
    function_name="function",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:function:live",
    aws_request_id="52fdfc07-2182-454f-963f-5f0f9a621d72",
)
CALL = json.loads((EVENTS / "api_get_session.json").read_text())
PROTECTED_CALL = json.loads((EVENTS / "authorizer_http_api.json").read_text())
_ONE_SESSION = re.compile(f"/sessions/({SESSION_ID.pattern})")
by_authorizer = "authorizer" in sys.argv
_calls = 0


def call(method: str, path: str, body: Any = None, **query: Any) -> Any:
    """Call the API and return its answer. Raises `RuntimeError` for all errors except 401."""
    global _calls
    _calls += 1
    http = CALL["requestContext"]["http"] | {"method": method, "path": path}
    one_session = _ONE_SESSION.match(path)
    event = CALL | {
        "requestContext": CALL["requestContext"] | {"http": http, "requestId": f"r-{_calls}"},
        "routeKey": f"{method} {_ONE_SESSION.sub('/sessions/{session_id}', path)}",
        "pathParameters": {"session_id": one_session[1]} if one_session else None,
        "rawPath": path,
        "rawQueryString": urlencode(query),
        "headers": {"content-type": "application/json"},
    }
    if body is not None:
        event["body"] = json.dumps(body)
    answer = api.lambda_handler(event, CONTEXT)
    if answer["statusCode"] >= 400 and answer["statusCode"] != 401:
        raise RuntimeError(f"{method} {path} answered {answer}")
    return json.loads(answer["body"] or "{}")


def login() -> tuple[str, str]:
    data = {"theme": "dark", "count": 0}
    created = call("POST", "/sessions", {"user_id": "ada", "data": data})
    return created["user_id"], created["token"]


def load(token: str) -> str:
    """Return the user, or an empty text if the token is not valid."""
    if by_authorizer:
        event = PROTECTED_CALL | {"identitySource": [f"Bearer {token}"]}
        context = authorizer.lambda_handler(event, CONTEXT)["context"]
        return str(context.get("user_id", ""))
    return str(call("POST", "/sessions/verify", {"token": token}).get("user_id", ""))


def web_request(name: str, token: str) -> dict[str, str]:
    """Make the calls that a backend makes for the session of a web request."""
    path = f"/sessions/{token.partition('.')[0]}"
    if name == "login":
        user, token = login()
    else:
        user = load(token)
    if user and name == "change":
        call("PATCH", path, {"data": {"count": 1}})
    if user and name == "logout":
        call("DELETE", path)
    return {"body": user, "cookie": token}


def items(argument: dict[str, Any]) -> list[Any]:
    """Return items of new sessions as `session_api` would store them."""
    count = argument.pop("count")
    session: dict[str, Any] = {
        "data": {"theme": "dark", "count": 0},
        "client": {},
        "absolute_ttl_seconds": UNSET,
        "limits": api.limits,
        **argument,
    }
    return [Session.start(session_id=new_session_id(), **session).to_item() for _ in range(count)]


def set_timers(sessions: list[Any], now: int) -> None:
    """Set timers as after the creation of these sessions at `now`, in epoch seconds."""
    records = [
        {
            "eventName": "INSERT",
            "dynamodb": {
                "Keys": {"SessionId": item["SessionId"]},
                "NewImage": item,
                "SequenceNumber": str(number),
            },
        }
        for number, item in enumerate(sessions)
    ]
    with patch.object(clock, "time", lambda: float(now)):
        answer = timers.lambda_handler({"Records": records}, CONTEXT)
    if answer["batchItemFailures"]:
        raise RuntimeError("a timer was not set")


def sweep(now: int, seconds: float, *, pauses: bool = True) -> dict[str, Any]:
    """Run the sweeper at `now`, in epoch seconds, for at most `seconds`."""
    with patch.object(clock, "time", lambda: float(now)), ExitStack() as stack:
        if not pauses:
            stack.enter_context(patch.object(clock, "sleep", lambda _: None))
        run = Sweep(
            sweeper.client,
            sweeper.sessions_table,
            sweeper.timers_table,
            deadline=clock.monotonic() + seconds,
        )
        run.run()
    return {"deleted": run.deleted, "failed": run.failed, "done_before": run.second}


def operation(name: str, argument: Any) -> Any:
    match name:
        case "plain":
            return None
        case "call":
            return call(*argument[0], **argument[1])
        case "record":
            event = json.loads((EVENTS / f"stream_{argument}.json").read_text())
            return audit.lambda_handler(event, CONTEXT)
        case "items":
            return items(argument)
        case "timers":
            return set_timers(**argument)
        case "sweep":
            return sweep(**argument)
    return web_request(name, argument)


if __name__ == "__main__":
    serve(operation)
