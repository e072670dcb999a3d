"""A demonstration of a session's life, which calls the client and prints the results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from botocore.credentials import Credentials

from local.stack import REGION, LocalStack
from serverless_sessions import (
    Client,
    Event,
    IssuedSession,
    Session,
    SessionNotFound,
    Sessions,
    SessionsError,
)
from serverless_sessions._core.token import Token

_EXPECTED = {"created", "updated", "rotated", "revoked", "expired"}
_DEADLINE_SECONDS = 120


class DemoError(Exception):
    """A call or an event did not have the expected result. The message names it."""


def show_life(stack: LocalStack, sessions: Sessions) -> None:
    """Create, use and end sessions. Raises `DemoError` at the first unexpected result."""
    print(f"\nAPI ready: {stack.url}\n")

    # This session expires soon. No later call needs it to be live, because the machine may be slow.
    kiosk = _issue("short session", sessions.create, "ada", ttl_seconds=3)
    phone = _issue("long session", sessions.create, "ada", data={"theme": "dark"})
    phone_id = phone.session.session_id
    _call("read", Session, sessions.get, phone_id)
    _call("changed", Session, sessions.change, phone_id, {"theme": "light", "cart": [1, 2.5]})
    _call("renewed", Session, sessions.renew, phone_id)
    stored = _read_item(stack, phone_id)
    print(f"    in DynamoDB: ExpirationTime = {stored['ExpirationTime']}, now = {int(time.time())}")

    _call("revoked", None, sessions.revoke, phone_id, reason="logout")
    _call("gone", SessionNotFound, sessions.get, phone_id)

    first = _issue("new session", sessions.create, "ada")
    laptop_id = first.session.session_id
    _call("verified", Session, sessions.verify, first.token)
    second = _issue("rotated", sessions.rotate, laptop_id, token=first.token)
    _call("old token", Session, sessions.verify, first.token)
    _call("new token", Session, sessions.verify, second.token)
    third = _issue("rotated again", sessions.rotate, laptop_id, token=second.token)
    fourth = _issue("rotated again", sessions.rotate, laptop_id, token=third.token)
    _call("stolen token", None, sessions.verify, first.token)
    _call("session ended", None, sessions.verify, fourth.token)

    kiosk_id = kiosk.session.session_id
    _await("the short session to expire", lambda: _has_ended(sessions, kiosk_id))
    _await("TTL to remove it", lambda: not _read_item(stack, kiosk_id))
    _await(
        "all events in the trail", lambda: {event.type for event in _trail(sessions)} >= _EXPECTED
    )

    print('\nevents(user_id="ada", newest_first=False)')
    print(_table(_trail(sessions)), end="\n\n")


def show_commands(stack: LocalStack, sessions: Sessions, keys: Credentials) -> None:
    """Print commands for a second terminal, and create a session that they can show."""
    sessions.create("ada", client=Client(ip="203.0.113.7", user_agent="Firefox/150.0"))
    print("In a second terminal, which then uses this local stack instead of AWS:\n")
    print(exports(stack, keys), end="\n\n")
    print(*COMMANDS, sep="\n", end="\n\n")


def exports(stack: LocalStack, keys: Credentials) -> str:
    """Return the commands that set a shell's environment for calls of the API."""
    commands = [f"export {name}={value}" for name, value in stack.environment(keys).items()]
    return "\n".join(("unset AWS_PROFILE AWS_SESSION_TOKEN", *commands))


# curl before version 8 signs the query as it is written, so its parameters must be in alphabetical
# order.
_CURL = (
    f"curl --aws-sigv4 aws:amz:{REGION}:execute-api"
    ' --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\\n  '
)
COMMANDS = (
    ".venv/bin/sessions list ada",
    ".venv/bin/sessions trail ada",
    _CURL
    + """--data '{"user_id": "grace"}' --header "Content-Type: application/json" \\
  "$SESSIONS_URL/sessions\"""",
    _CURL + '"$SESSIONS_URL/events?order=asc&user_id=grace"',
)


def _issue(
    title: str, method: Callable[..., IssuedSession], *args: Any, **kwargs: Any
) -> IssuedSession:
    issued: IssuedSession = _call(title, IssuedSession, method, *args, **kwargs)
    return issued


def _call(
    title: str, expected: type | None, method: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Call a method of the client, and print the call and the type of its result or error.

    `expected` is this type, or None if the method returns None.
    """
    arguments = [_repr(argument) for argument in args]
    arguments += [f"{name}={_repr(argument)}" for name, argument in kwargs.items()]
    call = f"{method.__name__}({', '.join(arguments)})"
    try:
        outcome = method(*args, **kwargs)
    except SessionsError as error:
        outcome = error
    kind = None if outcome is None else type(outcome)
    print(f"  {title:<14} {call:<76} {kind and kind.__name__}")
    if kind is not expected:
        raise DemoError(f"{call}: {outcome!r} instead of {expected and expected.__name__}.")
    return outcome


def _repr(argument: Any) -> str:
    """Return the `repr` of an argument. A token is shown without its secret."""
    token = Token.parse(argument) if isinstance(argument, str) else None
    return repr(f"{token.session_id}.…" if token else argument)


def _has_ended(sessions: Sessions, session_id: str) -> bool:
    try:
        sessions.get(session_id)
    except SessionNotFound:
        return True
    return False


def _read_item(stack: LocalStack, session_id: str) -> dict[str, Any]:
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


def _trail(sessions: Sessions) -> list[Event]:
    return list(sessions.events(user_id="ada", newest_first=False))


def _await(what: str, happened: Callable[[], bool]) -> None:
    print(f"  waiting for {what} …", end="", flush=True)
    begin = time.monotonic()
    while not happened():
        if time.monotonic() - begin > _DEADLINE_SECONDS:
            raise DemoError(f"\nWaited {_DEADLINE_SECONDS} s for {what}.")
        time.sleep(0.2)
    print(f" {time.monotonic() - begin:.1f} s", flush=True)


def _table(events: list[Event]) -> str:
    """Return events as a Markdown table. The last column has fields that only some events have."""
    common = {"event_id", "type", "session_id", "user_id", "at", "recorded_at"}
    common |= {"actor", "request_id", "changed_count"}
    rows = [("at", "recorded_at", "type", "session_id", "actor", "details")]
    rows += [
        (
            time.strftime("%H:%M:%S", time.gmtime(event.at)),
            time.strftime("%H:%M:%S", time.gmtime(event.recorded_at)),
            event.type,
            event.session_id,
            (event.actor or "").rpartition(":")[2],
            ", ".join(
                f"{name}={', '.join(fact) if isinstance(fact, tuple) else fact}"
                for name, fact in asdict(event).items()
                if name not in common and fact is not None
            ),
        )
        for event in events
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    )
