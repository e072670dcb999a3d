"""Session ids and secrets, made here so that the call that brings them can be repeated."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_urlsafe

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_TOKEN = re.compile(r"([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})")


def new_session_id() -> str:
    """128 bits of the system's CSPRNG."""
    return token_urlsafe(16)


@dataclass(frozen=True)
class Token:
    """The bearer credential of an end user: `<session id>.<secret>`, the secret 256 random bits."""

    session_id: str
    secret: str = field(repr=False)

    @classmethod
    def issue(cls, session_id: str) -> Token:
        return cls(session_id, token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """The token in `text`, None if it is malformed."""
        found = _TOKEN.fullmatch(text)
        return cls(found[1], found[2]) if found else None

    @property
    def text(self) -> str:
        return f"{self.session_id}.{self.secret}"

    @property
    def hash(self) -> bytes:
        """SHA-256 of the secret's 43 characters."""
        return sha256(self.secret.encode()).digest()

    @property
    def token_sha256(self) -> str:
        """The hash as a call takes it: base64url without padding."""
        return base64.urlsafe_b64encode(self.hash).decode().rstrip("=")
