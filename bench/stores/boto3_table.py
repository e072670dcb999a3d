"""Sessions as in tutorials: boto3's Table, an item per session, and a `ttl` attribute."""

from __future__ import annotations

import sys
import time
import uuid
from typing import Any

import boto3
from flask import Flask, make_response, request

from bench.stores.flask_stores import plain_application
from bench.stores.wsgi import serve_applications

WINDOW_SECONDS = 1800
table = boto3.resource("dynamodb").Table(sys.argv[1])


def login() -> Any:
    session_id = str(uuid.uuid4())
    save({"id": session_id, "user": "ada", "data": {"theme": "dark", "count": 0}})
    response = make_response("ada")
    response.set_cookie("session", session_id, httponly=True, secure=True)
    return response


def read() -> Any:
    return table.get_item(Key={"id": request.cookies["session"]}).get("Item", {})


def save(item: Any) -> None:
    table.put_item(Item=item | {"ttl": int(time.time()) + WINDOW_SECONDS})


def load() -> str:
    return str(read().get("user", ""))


def change() -> str:
    item = read()
    if item:
        item["data"]["count"] += 1
        save(item)
    return str(item.get("user", ""))


def logout() -> str:
    if item := read():
        table.delete_item(Key={"id": item["id"]})
    return ""


if __name__ == "__main__":
    app = Flask(__name__)
    for view in (login, load, change, logout):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    serve_applications(app, plain_application())
