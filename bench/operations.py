"""The operations of the warm measurements: events for the functions, and DynamoDB's answers."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

# The name of both tables.
TABLE = "table"
_EVENTS = Path(__file__).parent.parent / "events"
Json = dict[str, Any]


class Operation(NamedTuple):
    """An event for a function, and DynamoDB's answer to each of its own operations, by name.

    In these answers, values of type B are base64, as they come over the wire.
    """

    function: str
    event: Json
    answers: Json


def operations(now: int) -> dict[str, Operation]:
    """Return the operations by name, on a session that is live at `now`, in epoch seconds."""
    authorized = _sample("authorizer_http_api")
    token = authorized["identitySource"][0].removeprefix("Bearer ")
    session_id, secret = token.split(".")
    item = _item(secret, now)
    due = item | {"RenewedAt": {"N": str(now - 900)}, "ExpirationTime": {"N": str(now + 900)}}
    read, written = {"GetItem": {"Item": item}}, {"UpdateItem": {"Attributes": item}}
    first_use = {"GetItem": {"Item": item | _rotated(now)}} | written
    path = f"/sessions/{session_id}"
    return {
        "get": _api("GET", path, read),
        "verify": _api("POST", "/sessions/verify", read, {"token": token}),
        "verify and renew": _api(
            "POST", "/sessions/verify", {"GetItem": {"Item": due}} | written, {"token": token}
        ),
        "verify, first use": _api("POST", "/sessions/verify", first_use, {"token": token}),
        "create": Operation("session_api", _sample("api_create_session"), {"PutItem": {}}),
        "change": _api("PATCH", path, written, {"data": {"theme": "light"}}),
        "renew": _api("POST", f"{path}/renew", written),
        "rotate": _api("POST", f"{path}/rotate", written),
        "revoke": _api("DELETE", path, written),
        "list of 25": Operation("session_api", _list_event(25), _page(item, 25)),
        "authorizer": Operation("session_authorizer", authorized, read),
        "authorizer, first use": Operation("session_authorizer", authorized, first_use),
        "audit of 100": Operation(
            "session_audit",
            {"Records": _records(100)},
            {"BatchExecuteStatement": {"Responses": [{"TableName": TABLE}] * 25}},
        ),
    }


def _sample(name: str) -> Json:
    event: Json = json.loads((_EVENTS / f"{name}.json").read_text())
    return event


def _item(secret: str, now: int) -> Json:
    """Return the session of the sample events, with `now` as its time of creation."""
    image: Json = _sample("stream_created")["Records"][0]["dynamodb"]["NewImage"]
    return image | {
        "CreatedAt": {"N": str(now)},
        "RenewedAt": {"N": str(now)},
        "ExpirationTime": {"N": str(now + 1800)},
        "RenewableUntil": {"N": str(now + 86_400 - 1800)},
        "AbsoluteExpirationTime": {"N": str(now + 86_400)},
        "Client": {"M": {"ip": {"S": "203.0.113.7"}, "user_agent": {"S": "Firefox/150.0"}}},
        "TokenHash": _hash(secret),
        "FamilyHash": _hash(secret[:12]),
    }


def _rotated(now: int) -> Json:
    """Return the additional attributes of a session whose newest token has not been used yet."""
    return {
        "PreviousTokenHash": _hash("former"),
        "PreviousTokenUntil": {"N": str(now + 30)},
        "PreviousTokenGrace": {"N": "30"},
        "RetiredTokenHash": _hash("retired"),
        "RetiredTokenUntil": {"N": str(now + 30)},
    }


def _hash(text: str) -> Json:
    return {"B": base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}


def _api(method: str, path: str, answers: Json, body: Json | None = None) -> Operation:
    event = _sample("api_get_session")
    route = path.replace(event["pathParameters"]["session_id"], "{session_id}")
    event["routeKey"] = event["requestContext"]["routeKey"] = f"{method} {route}"
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    event["requestContext"]["http"]["method"] = method
    if route == path:
        del event["pathParameters"]
    if body:
        event["headers"]["content-type"] = "application/json"
        event["body"] = json.dumps(body)
    return Operation("session_api", event, answers)


def _list_event(limit: int) -> Json:
    return _sample("api_list_sessions") | {"rawQueryString": f"user_id=ada&limit={limit}"}


def _page(item: Json, count: int) -> Json:
    """Return the answers to a list: a page of the index, then the items that it names."""
    hidden = ("Data", "TokenHash", "FamilyHash", "Actor", "RequestId")
    shown = {name: value for name, value in item.items() if name not in hidden}
    items = [shown | {"SessionId": {"S": f"n2qXk8bVQ0{i:02}"}} for i in range(count)]
    names = ("SessionId", "UserId", "CreatedAt")
    keys = [{name: entry[name] for name in names} for entry in items]
    return {
        "Query": {
            "Items": keys,
            "Count": count,
            "ScannedCount": count,
            "LastEvaluatedKey": keys[-1],
        },
        "BatchGetItem": {"Responses": {TABLE: items}, "UnprocessedKeys": {}},
    }


def _records(count: int) -> list[Json]:
    """Return records of four kinds in turn, with different sequence numbers."""
    samples = [
        _sample(f"stream_{kind}")["Records"][0]
        for kind in ("created", "updated", "revoked", "expired")
    ]
    records = [copy.deepcopy(samples[i % len(samples)]) for i in range(count)]
    for i, record in enumerate(records):
        record["dynamodb"]["SequenceNumber"] = str(4421584500000000017450439 + i)
    return records
