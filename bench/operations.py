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

    A list of answers is for a function that makes several requests of one operation. In these
    answers, values of type B are base64, as they come over the wire.
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
        "authenticate": _api("POST", f"{path}/authenticate", written, {"methods": ["pwd"]}),
        "revoke": _api("DELETE", path, written),
        "list of 25": Operation("session_api", _list_event(25), _page(item, 25)),
        "authorizer": Operation("session_authorizer", authorized, read),
        "authorizer, first use": Operation("session_authorizer", authorized, first_use),
        "audit of 100": Operation(
            "session_audit",
            {"Records": _records(100)},
            {"BatchExecuteStatement": _executed(25)},
        ),
        "timers of 100": Operation(
            "session_timers",
            {"Records": _creations(100, now)},
            {"BatchExecuteStatement": _executed(25)},
        ),
        "sweep of 100": Operation(
            "session_sweeper", _sample("sweeper_every_minute"), expired(100, now)
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


def _executed(count: int) -> Json:
    """Return the answer to that many statements."""
    return {"Responses": [{"TableName": TABLE}] * count}


def _session_id(number: int) -> str:
    return f"n2qXk8b{number:05}"


def _creations(count: int, now: int) -> list[Json]:
    """Return the records of new sessions, with different ids."""
    [sample] = _sample("stream_created")["Records"]
    records = [copy.deepcopy(sample) for _ in range(count)]
    for i, record in enumerate(records):
        session_id = {"S": _session_id(i)}
        record["dynamodb"]["Keys"] = {"SessionId": session_id}
        record["dynamodb"]["NewImage"] |= {
            "SessionId": session_id,
            "ExpirationTime": {"N": str(now + 1800)},
        }
        record["dynamodb"]["SequenceNumber"] = str(4421584500000000017450439 + i)
    return records


def expired(count: int, now: int) -> Json:
    """Return the answers to a sweep at `now` that deletes this number of sessions.

    They expired in the last 60 seconds. `now` is the middle of a minute, so half of the timers are
    in the slots of the minute before.
    """
    cursor = now - 9 - 60
    at_cursor = {"Slot": {"S": "cursor"}, "Due": {"S": "cursor"}}
    pages = [[at_cursor | {"DoneBefore": {"N": str(cursor)}}]]
    looks: list[list[Json]] = []
    half = range(count // 2)
    for due, group in ((cursor + 10, half), (now - 20, [half.stop + i for i in half])):
        timers = [
            {
                "Slot": {"S": f"{due // 60:010d}#{i % 16}"},
                "Due": {"S": f"{due:010d}#{_session_id(i)}"},
                "ExpirationTime": {"N": str(due + 7 * 86_400)},
            }
            for i in group
        ]
        pages += [timers[shard::16] for shard in range(16)]
        items = [
            {
                "SessionId": {"S": _session_id(i)},
                "ExpirationTime": {"N": str(due)},
                "CreatedAt": {"N": str(due - 1800)},
            }
            for i in group
        ]
        looks += [items[start : start + 100] for start in range(0, len(items), 100)]
    return {
        "Query": [{"Items": page, "Count": len(page), "ScannedCount": len(page)} for page in pages],
        "BatchGetItem": [{"Responses": {TABLE: look}, "UnprocessedKeys": {}} for look in looks],
        "BatchExecuteStatement": _executed(25),
        "UpdateItem": {},
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
