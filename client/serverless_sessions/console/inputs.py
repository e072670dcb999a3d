"""Reads and validates the input of the operator, before it is used or shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qs

from starlette.requests import Request

from serverless_sessions._core.token import SESSION_ID
from serverless_sessions.console.display import has_token

_MAX_FORM_BYTES = 16 * 1024
_REASON = re.compile(r"[a-z0-9_.-]{1,64}")
_PASTED = (
    "This looks like a user's token, which is as good as a password. Enter the session id: the "
    "part before the dot. If the token is a real one, end its session."
)


class InvalidInput(Exception):
    """The operator entered something invalid. The message never repeats it: it may be a secret."""


async def form(request: Request) -> dict[str, str]:
    """Return the fields of a form. If a field occurs more than once, its last value counts."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            raise InvalidInput("The form is too large.")
    fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, errors="replace")
    return {name: values[-1] for name, values in fields.items()}


def target(fields: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """Return the user and the session to end, and the session to keep. Raises `InvalidInput`.

    Either the user or the session to end is None.
    """
    if fields.get("session"):
        return None, session_id(fields["session"]), None
    keep = session_id(fields["keep"]) if fields.get("keep") else None
    return user_id(fields.get("user", "")), None, keep


def user_id(text: str) -> str:
    """Return a valid user id. Raises `InvalidInput`."""
    if has_token(text):
        raise InvalidInput(_PASTED)
    if not text:
        raise InvalidInput("Enter a user id.")
    if len(text) > 256:
        raise InvalidInput("A user id has up to 256 characters.")
    return text


def session_id(text: str) -> str:
    """Return a valid session id, without surrounding spaces. Raises `InvalidInput`."""
    text = text.strip()
    if "." in text:
        raise InvalidInput(_PASTED)
    if not SESSION_ID.fullmatch(text):
        raise InvalidInput("A session id has 12 letters, digits, - and _.")
    return text


def is_reason(text: str) -> bool:
    """Return whether the service accepts this reason, according to docs/openapi.yaml."""
    return bool(_REASON.fullmatch(text))


def number(text: str | None, default: int) -> int:
    """Return an integer of at most ten digits, or `default` for any other input."""
    is_number = text and text.isascii() and text.isdecimal() and len(text) <= 10
    return int(text) if text and is_number else default


def time(text: str) -> int | None:
    """Return the epoch seconds of a date and time in UTC, or None for an empty field."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput("A time looks like 2026-11-22T10:30, in UTC.") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
