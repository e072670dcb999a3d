"""A pytest plugin that gives our sessions to every Flask app without its own session interface."""

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
        # Flask's tests use HTTP, and cookie names without a prefix.
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
    """Close the connections of Flask's test apps. Otherwise a ResourceWarning fails the tests."""
    yield
    while _clients:
        _clients.pop().close()
