"""The backend of the shop, behind all routes of its API."""

import json
import os
from typing import Any

from serverless_sessions import DirectReader, Sessions

sessions = Sessions(os.environ["SESSIONS_URL"], reader=DirectReader(os.environ["SESSIONS_TABLE"]))


def log_in(event: dict[str, Any]) -> dict[str, Any]:
    user = json.loads(event["body"])["user"]  # a real shop checks a password first
    return {"token": sessions.create(user).token}


def me(event: dict[str, Any]) -> dict[str, Any]:
    """Verify the token here. Unlike the authorizer, this keeps the session alive.

    Most calls only read the table. The API renews the session from time to time.
    """
    scheme, _, token = event["headers"].get("authorization", "").partition(" ")
    session = sessions.verify(token) if scheme.lower() == "bearer" else None
    if session is None:
        return {"statusCode": 401}
    return {"user": session.user_id, "since": session.created_at, "data": session.data}


def orders(event: dict[str, Any]) -> dict[str, Any]:
    """Use what the authorizer knows about the caller."""
    return {"user": _caller(event)["user_id"], "orders": []}


def log_out(event: dict[str, Any]) -> dict[str, Any]:
    sessions.revoke(_caller(event)["session_id"], reason="logout")
    return {"statusCode": 204}


def _caller(event: dict[str, Any]) -> dict[str, str]:
    caller: dict[str, str] = event["requestContext"]["authorizer"]["lambda"]
    return caller


ROUTES = {
    "POST /log-in": log_in,
    "GET /me": me,
    "GET /orders": orders,
    "POST /log-out": log_out,
}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return ROUTES[event["routeKey"]](event)
