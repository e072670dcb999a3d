"""A secret that a caller makes, so that the call that brings it can be sent again after a 503."""

from __future__ import annotations

import base64
from hashlib import sha256
from secrets import token_urlsafe


class Secret:
    """256 random bits; the service gets to know their hash alone."""

    def __init__(self) -> None:
        self._text = token_urlsafe(32)
        self.hash = sha256(self._text.encode()).digest()

    @property
    def token_sha256(self) -> str:
        """The hash as a call to create or rotate takes it."""
        return base64.urlsafe_b64encode(self.hash).decode().rstrip("=")

    def token(self, session_id: str) -> str:
        """What the end user holds."""
        return f"{session_id}.{self._text}"
