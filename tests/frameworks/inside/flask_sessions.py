"""A pytest plugin that gives every Flask app our sessions, unless the app names its own."""

from __future__ import annotations

import os
from typing import Any

import pytest
from flask import Flask

from serverless_sessions import Sessions
from serverless_sessions.flask import ServerlessSessions

_flask_init, _client_init = Flask.__init__, Sessions.__init__
_default_interface = Flask.session_interface
_URL, _REGION = os.environ["SESSIONS_URL"], os.environ["AWS_DEFAULT_REGION"]
_clients: list[Sessions] = []


def _init_flask(app: Flask, *args: Any, **options: Any) -> None:
    _flask_init(app, *args, **options)
    if app.session_interface is _default_interface:
        # Their tests use HTTP, and names of cookies without a prefix.
        app.config["SERVERLESS_SESSIONS"] = {
            "url": _URL,
            "region": _REGION,
            "insecure_cookie": True,
        }
        ServerlessSessions(app)


def _init_client(client: Sessions, *args: Any, **options: Any) -> None:
    _client_init(client, *args, **options)
    _clients.append(client)


setattr(Flask, "__init__", _init_flask)  # noqa: B010  (mypy forbids the assignment)
setattr(Sessions, "__init__", _init_client)  # noqa: B010


@pytest.fixture(autouse=True)
def _close_clients() -> Any:
    """Their apps are dropped with open connections, which would be a warning, so an error."""
    yield
    while _clients:
        _clients.pop().close()
