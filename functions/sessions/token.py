"""The bearer token that an end user holds: `<session id>.<secret>`, 40 characters.

Only the SHA-256 of the secret is stored. The secret has 162 random bits, so it can't be guessed,
and a slow hash is not needed. https://pages.nist.gov/800-63-4/sp800-63b.html#sessionbindings

The first 12 characters of a secret are its *family*. A rotation that is made for the holder of a
token keeps the family, so that the service recognises older tokens of the session after any number
of rotations. A family alone does not sign anybody in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from enum import Enum
from typing import NamedTuple

from sessions.dynamodb import Item
from sessions.lifetime import is_live, seconds

FAMILY_CHARACTERS = 12
_SECRET_CHARACTERS = 27
_TOKEN = re.compile(r"([A-Za-z0-9_-]{12})\.([A-Za-z0-9_-]{27})")
_NO_HASH = bytes(32)


class Verdict(Enum):
    """The result of judging a token."""

    # The token of the last rotation, or the only one.
    NEWEST = "newest"
    # The token before it, while that is still valid.
    FORMER = "former"
    # Not valid. It may be an older token whose request was under way during the rotation.
    REFUSED = "refused"
    # An older token that nobody should use any more: somebody kept a copy.
    REUSED = "reused"

    @property
    def is_valid(self) -> bool:
        """Whether the token signs its holder in."""
        return self in (Verdict.NEWEST, Verdict.FORMER)


class Hashes(NamedTuple):
    """The SHA-256 of a secret and of its family, 32 bytes each."""

    secret: bytes
    family: bytes


class Token(NamedTuple):
    """A well-formed token. Its `str` is the credential; its `repr` names only the session."""

    session_id: str
    secret: str

    def __str__(self) -> str:
        return f"{self.session_id}.{self.secret}"

    def __repr__(self) -> str:
        return f"Token({self.session_id!r})"

    @classmethod
    def issue(cls, session_id: str) -> Token:
        """Make a token of a new family from the system's CSPRNG."""
        return cls(session_id, _random(_SECRET_CHARACTERS))

    def successor(self) -> Token:
        """Make another token of the same family for the same session."""
        family = self.secret[:FAMILY_CHARACTERS]
        return Token(self.session_id, family + _random(_SECRET_CHARACTERS - FAMILY_CHARACTERS))

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """Return the token in `text`, or None if it is malformed."""
        match = _TOKEN.fullmatch(text)
        return cls(match[1], match[2]) if match else None

    @property
    def hashes(self) -> Hashes:
        """The hashes of the characters, since several spellings decode to the same bytes."""
        return Hashes(_sha256(self.secret), _sha256(self.secret[:FAMILY_CHARACTERS]))


def judge(hashes: Hashes, item: Item, now: int, not_before: int) -> Verdict:
    """Judge the token with these hashes by the session in `item`.

    `item` is empty if there is no such session; `now` and `not_before` are epoch seconds. All
    comparisons take constant time, and are made even if there is nothing to compare with.
    """
    live = is_live(item, now, not_before)
    newest = _matches(hashes.secret, item, "TokenHash")
    former = _matches(hashes.secret, item, "PreviousTokenHash")
    retired = _matches(hashes.secret, item, "RetiredTokenHash")
    family = _matches(hashes.family, item, "FamilyHash")
    if not live:
        return Verdict.REFUSED
    if newest:
        return Verdict.NEWEST
    if former and (is_unseen(item) or seconds(item, "PreviousTokenUntil") > now):
        return Verdict.FORMER
    if (former or retired) and seconds(item, "RetiredTokenUntil") > now:
        return Verdict.REFUSED
    return Verdict.REUSED if former or retired or family else Verdict.REFUSED


def is_unseen(item: Item) -> bool:
    """Whether nobody has presented the newest token yet. Until then the former one stays valid."""
    return "PreviousTokenGrace" in item


def is_replaced(secret: bytes, item: Item) -> bool:
    """Whether `secret` is the hash of a token that a later rotation has replaced."""
    return _matches(secret, item, "PreviousTokenHash") or _matches(secret, item, "RetiredTokenHash")


def _matches(digest: bytes, item: Item, attribute: str) -> bool:
    stored = item.get(attribute, {}).get("B")
    return hmac.compare_digest(digest, stored or _NO_HASH) and bool(stored)


def _random(characters: int) -> str:
    # Four characters of base64url hold three bytes.
    return secrets.token_urlsafe(characters * 3 // 4 + 1)[:characters]


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
