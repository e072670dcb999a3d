"""What a request asks for, checked before anything is done or shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qs

from starlette.requests import Request

from serverless_sessions._core.token import SESSION_ID
from serverless_sessions.console.plain import has_token

_MAX_FORM_BYTES = 16 * 1024
_REASON = re.compile(r"[a-z0-9_.-]{1,64}")
_PASTED = (
    "This looks like a user's token, which is as good as a password. Enter the session id: the "
    "part before the dot. If the token is a real one, end its session."
)


class Refused(Exception):
    """The operator asked for something that can't be. The sentence never repeats what was given:
    it may be a secret.
    """


async def form(request: Request) -> dict[str, str]:
    """The last value of each field."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            raise Refused("The form is too large.")
    fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, errors="replace")
    return {name: values[-1] for name, values in fields.items()}


def target(asked: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """The user or the session to end, and the session to keep. Raises `Refused`."""
    if asked.get("session"):
        return None, session_id(asked["session"]), None
    keep = session_id(asked["keep"]) if asked.get("keep") else None
    return user_id(asked.get("user", "")), None, keep


def user_id(given: str) -> str:
    """Raises `Refused`."""
    if has_token(given):
        raise Refused(_PASTED)
    if not given:
        raise Refused("Name a user.")
    if len(given) > 256:
        raise Refused("A user id has up to 256 characters.")
    return given


def session_id(given: str) -> str:
    given = given.strip()
    if "." in given:
        raise Refused(_PASTED)
    if not SESSION_ID.fullmatch(given):
        raise Refused("A session id has 12 letters, digits, - and _.")
    return given


def is_reason(given: str) -> bool:
    """Whether the service takes it, by docs/openapi.yaml."""
    return bool(_REASON.fullmatch(given))


def number(given: str | None, otherwise: int) -> int:
    """A whole number of at most ten digits; what else somebody typed is `otherwise`."""
    fits = given and given.isascii() and given.isdecimal() and len(given) <= 10
    return int(given) if given and fits else otherwise


def time(given: str) -> int | None:
    """Epoch seconds of a field's day and time in UTC; None for an empty one."""
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise Refused("A time looks like 2026-11-22T10:30, in UTC.") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
