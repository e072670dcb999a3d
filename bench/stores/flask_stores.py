"""A Flask application on one of Flask's session stores, set up as in its documentation."""

from __future__ import annotations

import sys
from typing import Any

import boto3
from dynamodb_session_flask import DynamoDbSession
from flask import Flask, session
from flask_dynamodb_sessions import Session as FlaskDynamodbSessions
from flask_session import Session as FlaskSession

from bench.stores.wsgi import serve_applications


def login() -> str:
    session["user"] = "ada"
    session["data"] = {"theme": "dark", "count": 0}
    return "ada"


def load() -> str:
    return str(session.get("user", ""))


def change() -> str:
    if "user" in session:
        session["data"] = {"theme": "dark", "count": session["data"]["count"] + 1}
    return load()


def logout() -> str:
    session.clear()
    return ""


def application(store: str, table: str) -> Any:
    app = Flask(__name__)
    if store.startswith("flask-session"):
        app.config["SESSION_TYPE"] = "dynamodb"
        app.config["SESSION_DYNAMODB"] = boto3.resource("dynamodb")
        app.config["SESSION_DYNAMODB_TABLE"] = table
        app.config["SESSION_REFRESH_EACH_REQUEST"] = store == "flask-session"
        FlaskSession(app)
    elif store == "flask-dynamodb-sessions":
        app.config["SESSION_DYNAMODB_TABLE"] = table
        FlaskDynamodbSessions(app)
    else:
        app.config["SESSION_DYNAMODB_TABLE_NAME"] = table
        app.session_interface = DynamoDbSession()
    for view in (login, load, change, logout):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    return app


def plain_application() -> Any:
    app = Flask(__name__)
    app.add_url_rule("/plain", "plain", lambda: "ada")
    return app


if __name__ == "__main__":
    serve_applications(application(sys.argv[1], sys.argv[2]), plain_application())
