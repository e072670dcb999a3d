"""The life of a session, driven over HTTP and told on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from local.caller import REGION, Answer, Caller
from local.secret import Secret
from local.stack import LocalStack

_EXPECTED = {"created", "updated", "rotated", "revoked", "expired"}
_DEADLINE_SECONDS = 120


class DemoError(Exception):
    """What went otherwise than it should, in a sentence."""


def show_life(stack: LocalStack) -> None:
    """Drive sessions through their lives. Raises `DemoError` at the first wrong answer."""
    call = stack.caller("demo")
    print(f"\nAPI ready: {stack.url}\n")
    print(curl_command(call), end="\n\n")

    # Only this one is short-lived, and no call needs it alive: a slow machine may be late.
    short = {"user_id": "ada", "ttl_seconds": 3}
    kiosk = _do(call, "a short one", 201, "POST", "/sessions", short).json
    phone = _do(
        *(call, "a long one", 201, "POST", "/sessions"),
        {"user_id": "ada", "data": {"theme": "dark"}},
    ).json
    path = f"/sessions/{phone['session_id']}"
    _do(call, "read", 200, "GET", path)
    _do(call, "changed", 200, "PATCH", path, {"data": {"theme": "light", "cart": [1, 2.50]}})
    _do(call, "renewed", 200, "POST", f"{path}/renew")
    stored = _stored(stack, phone["session_id"])
    print(f"    in DynamoDB: ExpirationTime = {stored['ExpirationTime']}, now = {int(time.time())}")

    _do(call, "revoked", 204, "DELETE", f"{path}?reason=logout")
    _do(call, "gone at once", 404, "GET", path)

    laptop = _do(call, "another one", 201, "POST", "/sessions", {"user_id": "ada"}).json
    other, former = f"/sessions/{laptop['session_id']}", {"token": laptop["token"]}
    _do(call, "verified", 200, "POST", "/sessions/verify", former)
    # The secrets are ours: a rotation that was answered 503 may have been made, and is sent again.
    second, third = Secret(), Secret()
    new, newest = ({"token": each.token(laptop["session_id"])} for each in (second, third))
    graced = {"grace_seconds": 600, "token_sha256": second.token_sha256}
    _do(call, "rotated", 200, "POST", f"{other}/rotate", graced)
    _do(call, "in its grace", 200, "POST", "/sessions/verify", former)
    _do(call, "the new token", 200, "POST", "/sessions/verify", new)
    at_once = {"grace_seconds": 0, "token_sha256": third.token_sha256}
    _do(call, "without grace", 200, "POST", f"{other}/rotate", at_once)
    _do(call, "a stolen token", 401, "POST", "/sessions/verify", new)
    _do(call, "ended by that", 401, "POST", "/sessions/verify", newest)

    expiring = f"/sessions/{kiosk['session_id']}"
    _await("the short one to expire", lambda: call("GET", expiring).status == 404)
    _await("TTL to remove it", lambda: not _stored(stack, kiosk["session_id"]))
    _await("the trail to tell all", lambda: {e["type"] for e in _trail(call)} >= _EXPECTED)

    print("\nGET /events?user_id=ada&order=asc")
    print(_table(_trail(call)), end="\n\n")


def _do(
    call: Caller, title: str, status: int, method: str, path: str, body: object = None
) -> Answer:
    route, _, query = path.partition("?")
    parameters = dict(pair.split("=") for pair in query.split("&")) if query else None
    answer = call(method, route, body, query=parameters)
    print(f"  {title:<14} {method:<6} {path:<48} {answer.status}")
    if answer.status != status:
        raise DemoError(f"{method} {path} answered {answer.status}, not {status}: {answer.body!r}")
    return answer


def _stored(stack: LocalStack, session_id: str) -> dict[str, Any]:
    item: dict[str, Any] = (
        stack.client("dynamodb")
        .get_item(
            TableName=stack.outputs["SessionsTableName"],
            Key={"SessionId": {"S": session_id}},
            ConsistentRead=True,
        )
        .get("Item", {})
    )
    return item


def _trail(call: Caller) -> list[dict[str, Any]]:
    query = {"user_id": "ada", "order": "asc", "limit": 100}
    items: list[dict[str, Any]] = call("GET", "/events", query=query).json["items"]
    return items


def _await(what: str, happened: Callable[[], bool]) -> None:
    print(f"  waiting for {what} …", end="", flush=True)
    begin = time.monotonic()
    while not happened():
        if time.monotonic() - begin > _DEADLINE_SECONDS:
            raise DemoError(f"\nWaited {_DEADLINE_SECONDS} s in vain for {what}.")
        time.sleep(0.2)
    print(f" {time.monotonic() - begin:.1f} s", flush=True)


def _table(events: list[dict[str, Any]]) -> str:
    """Events as a Markdown table; what only some types have goes into the last column."""
    common = {"event_id", "type", "session_id", "user_id", "at", "recorded_at"}
    common |= {"actor", "request_id", "changed_count"}
    rows = [("at", "recorded_at", "type", "session_id", "actor", "details")]
    rows += [
        (
            time.strftime("%H:%M:%S", time.gmtime(event["at"])),
            time.strftime("%H:%M:%S", time.gmtime(event["recorded_at"])),
            event["type"],
            event["session_id"],
            (event["actor"] or "").rpartition(":")[2],
            ", ".join(f"{name}={fact}" for name, fact in event.items() if name not in common),
        )
        for event in events
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    )


def curl_command(call: Caller) -> str:
    """A command that creates a session, with the caller's own keys."""
    assert call.credentials  # noqa: S101
    keys = f"{call.credentials.access_key}:{call.credentials.secret_key}"
    return (
        f"curl --aws-sigv4 aws:amz:{REGION}:execute-api --user '{keys}' \\\n"
        f"  --json '{{\"user_id\": \"grace\"}}' '{call.url}/sessions'"
    )
