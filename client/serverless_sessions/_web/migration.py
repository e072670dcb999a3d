"""Continuing the sessions of the store that an app used before.

The token of the new session is derived from the key of the former one. All requests with the same
former key therefore find or create the same session, and a creation can be repeated. The derived
token is replaced at once. It works until the browser has used its new token, and for the grace
period after that, which requests in progress need.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from serverless_sessions._core import clock
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.token import Token

_LABEL = b"serverless_sessions.migration\0"
_ID_CHARACTERS, _SECRET_CHARACTERS = 12, 27


@dataclass(frozen=True)
class FormerSession:
    """A session of the former store.

    `token` is derived from its key. `values` is None if the former store does not have it any more.
    `seconds_left` is the time until it expires, and `longest_seconds` the maximum lifetime of the
    session that continues it.
    """

    token: Token
    values: Secret[dict[str, Any]] | None
    seconds_left: int = 0
    longest_seconds: int = 0


def derive_token(secret_key: str | bytes, key: Secret[str]) -> Token:
    """Return the token of the session that continues the former session with this key."""
    secret = secret_key.encode() if isinstance(secret_key, str) else secret_key
    digest = hmac.digest(secret, _LABEL + key.value.encode(errors="surrogatepass"), "sha256")
    text = base64.urlsafe_b64encode(digest).decode()
    end = _ID_CHARACTERS + _SECRET_CHARACTERS
    return Token(text[:_ID_CHARACTERS], text[_ID_CHARACTERS:end])


def is_over(until: date | None) -> bool:
    """Return whether the migration has ended. `until` is its first day, in UTC, without it."""
    return until is not None and clock.time() >= datetime.combine(until, time(), UTC).timestamp()


def check_end(until: date | None, *, is_required: bool) -> None:
    """Raise `ValueError` if `migrate_until` is not a date, or is missing for signed cookies."""
    if until is None and not is_required:
        return
    if not isinstance(until, date):
        raise ValueError(
            "migrate_until must be a datetime.date. It is required for signed cookies, because no "
            "store can delete them."
        )
