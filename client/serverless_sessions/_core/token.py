"""Session ids and tokens.

The client generates them, so that it can repeat a call that creates a session or rotates a token.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_urlsafe

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{12}")
TOKEN = re.compile(rf"({SESSION_ID.pattern})\.([A-Za-z0-9_-]{{27}})")
_FAMILY_CHARACTERS = 12
_SECRET_CHARACTERS = 27


def new_session_id() -> str:
    """Return 72 random bits from the system's CSPRNG."""
    return token_urlsafe(9)


@dataclass(frozen=True)
class Token:
    """The bearer credential of an end user: `<session id>.<secret>`, 40 characters.

    The secret has 162 random bits. Its first 12 characters are its family. A rotation that the
    holder of a token requests keeps the family. This lets the service recognize all earlier tokens
    of a family for as long as the session lives.
    """

    session_id: str
    secret: str = field(repr=False)

    @classmethod
    def issue(cls, session_id: str) -> Token:
        """Generate a token of a new family."""
        return cls(session_id, _random(_SECRET_CHARACTERS))

    def successor(self) -> Token:
        """Generate another token for the same session, in the same family."""
        new_part = _random(_SECRET_CHARACTERS - _FAMILY_CHARACTERS)
        return Token(self.session_id, self.secret[:_FAMILY_CHARACTERS] + new_part)

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """Return the token in `text`, or None if it is malformed."""
        match = TOKEN.fullmatch(text) if isinstance(text, str) else None
        return cls(match[1], match[2]) if match else None

    @property
    def text(self) -> str:
        return f"{self.session_id}.{self.secret}"

    @property
    def hash(self) -> bytes:
        """SHA-256 of the secret's 27 characters."""
        return sha256(self.secret.encode()).digest()

    @property
    def token_sha256(self) -> str:
        """The hash as the API expects it: base64url without padding."""
        return _base64url(self.hash)

    @property
    def family_sha256(self) -> str:
        """SHA-256 of the secret's first 12 characters, as the API expects it."""
        return _base64url(sha256(self.secret[:_FAMILY_CHARACTERS].encode()).digest())


def _random(characters: int) -> str:
    # Four characters of base64url encode three bytes.
    return token_urlsafe(characters * 3 // 4 + 1)[:characters]


def _base64url(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
