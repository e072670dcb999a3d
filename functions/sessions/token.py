"""The bearer token that an end user holds: `<session id>.<secret>`.

Of the secret only its SHA-256 is stored. It has 256 random bits, so there is nothing to guess and
no need for a slow hash. https://pages.nist.gov/800-63-4/sp800-63b.html#sessionbindings
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from enum import Enum
from typing import NamedTuple

from sessions.dynamodb import Item
from sessions.live import is_live

_NO_HASH = bytes(32)
_TOKEN = re.compile(r"([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})")


class Verdict(Enum):
    """What a token is worth."""

    VALID = "valid"
    INVALID = "invalid"
    # The former token of a rotated session after its grace period: someone kept a copy.
    REUSED = "reused"


class Token(NamedTuple):
    """A well-formed token; its `str` is the credential, its `repr` tells the session only."""

    session_id: str
    secret: str

    def __str__(self) -> str:
        return f"{self.session_id}.{self.secret}"

    def __repr__(self) -> str:
        return f"Token({self.session_id!r})"

    @classmethod
    def issue(cls, session_id: str) -> Token:
        """A new token: 256 bits of the system's CSPRNG."""
        return cls(session_id, secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """The token in `text`, None if it is malformed."""
        found = _TOKEN.fullmatch(text)
        return cls(found[1], found[2]) if found else None

    @property
    def hash(self) -> bytes:
        """SHA-256 of the secret as it is spelled, so that no other spelling will do."""
        return hashlib.sha256(self.secret.encode()).digest()


def judge(digest: bytes, item: Item, now: int, not_before: int) -> Verdict:
    """What a token is worth whose secret has this SHA-256 to the session in `item`, empty if there
    is none.

    Compares in constant time, and as often where there is nothing to compare with.
    """
    live = is_live(item, now, not_before)
    current = _matches(digest, item, "TokenHash")
    previous = _matches(digest, item, "PreviousTokenHash")
    if not live or not (current or previous):
        return Verdict.INVALID
    if current or int(item.get("PreviousTokenUntil", {}).get("N", "0")) > now:
        return Verdict.VALID
    return Verdict.REUSED


def _matches(digest: bytes, item: Item, attribute: str) -> bool:
    return hmac.compare_digest(digest, item.get(attribute, {}).get("B", _NO_HASH))
