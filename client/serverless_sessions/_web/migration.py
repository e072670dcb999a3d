"""Continuing the sessions of the store that an app used before.

The token of the new session is derived from the key of the former one. All requests with the same
former key therefore find or create the same session, and a creation can be repeated. The response
that sets the new cookie replaces the derived token. It works until the browser has used its new
token, and for a grace period after that, which requests in progress need.

This is for users. Two visitors may have equal signed cookies, so nothing is derived for visitors.
Their values are read from the former store until they change. Then they become a new session.
"""

from __future__ import annotations

import base64
import hmac
import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from serverless_sessions._core import clock
from serverless_sessions._core.calls import Plan
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.token import Token
from serverless_sessions._web.packing import parts
from serverless_sessions.errors import BodyTooLarge, DataTooLarge, InvalidRequest
from serverless_sessions.models import Client, Session

_LABEL = b"serverless_sessions.migration\0"
_ID_CHARACTERS, _SECRET_CHARACTERS = 12, 27


@dataclass(frozen=True)
class FormerSession:
    """A session of the former store.

    `token` is derived from its key. `values` is None if the former store does not have it any more.
    `ttl_seconds` and `absolute_ttl_seconds` apply to the session that continues it.
    """

    token: Token
    values: Secret[dict[str, Any]] | None
    ttl_seconds: int | None = None
    absolute_ttl_seconds: int | None = None


# Between a browser's first use of its new token and the last request that it sent before, such as a
# large upload.
GRACE_SECONDS = 600
# Nobody knows when the user has proved who they are. The service accepts 400 days at most.
_UNKNOWN_SECONDS = 399 * 24 * 3600

logger = logging.getLogger(__name__)


def derive_token(secret_key: str | bytes, key: Secret[str]) -> Token:
    """Return the token of the session that continues the former session with this key."""
    secret = secret_key.encode() if isinstance(secret_key, str) else secret_key
    digest = hmac.digest(secret, _LABEL + key.value.encode(errors="surrogatepass"), "sha256")
    text = base64.urlsafe_b64encode(digest).decode()
    end = _ID_CHARACTERS + _SECRET_CHARACTERS
    return Token(text[:_ID_CHARACTERS], text[_ID_CHARACTERS:end])


def store_former(
    operations: Operations,
    former: FormerSession,
    user_id: str | None,
    data: Secret[dict[str, Any]],
    session: Session | None,
    *,
    client: Client | None,
) -> Plan[Session]:
    """Create the session, or add what is missing if an outage has interrupted this."""
    first, *rest = map(Secret, data.map(parts).value or [{}])
    if session is None:
        issued = yield from operations.create(
            user_id,
            data=first,
            ttl_seconds=former.ttl_seconds,
            absolute_ttl_seconds=former.absolute_ttl_seconds,
            client=client,
            # A limit ends sessions at a log-in, and this is none.
            max_sessions=None,
            token=former.token,
            authenticated_at=None if user_id is None else clock.now() - _UNKNOWN_SECONDS,
        )
        session = issued.session
        logger.info("session %s continues a former one", session.session_id)
    if rest:
        stored = session.data or {}
        missing = data.map(
            lambda members: {name: members[name] for name in members if name not in stored}
        )
        try:
            for part in map(Secret, missing.map(parts).value):
                session = yield from operations.change(session.session_id, part, version=None)
        except (DataTooLarge, BodyTooLarge, InvalidRequest):
            yield from operations.revoke(session.session_id, reason="not_migrated")
            raise
    return session


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
