"""Cursors, which are opaque to callers and valid only for the query that returned them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from hashlib import sha256
from typing import TypeVar

import msgspec
from msgspec import Struct

from sessions.dynamodb import fits_key
from sessions.errors import InvalidField


class Position(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The key of a page's last item, without the part that the query already contains."""

    session_id: str

    def __post_init__(self) -> None:
        if not fits_key(self.session_id):
            raise ValueError("not a valid key")


AnyPosition = TypeVar("AnyPosition", bound=Struct)


def encode(position: Struct, query: Mapping[str, object]) -> str:
    """Return `position` and a digest of `query` as base64url JSON.

    `query` holds all parameters of the request except the limit.
    """
    return base64.urlsafe_b64encode(msgspec.json.encode((position, _digest(query)))).decode()


def decode(cursor: str, kind: type[AnyPosition], query: Mapping[str, object]) -> AnyPosition:
    """Return the position in `cursor`.

    Raises `InvalidField` if the cursor is malformed or belongs to another query.
    """
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
        position, digest = msgspec.json.decode(text, type=tuple[kind, str])  # type: ignore[valid-type]
    except (binascii.Error, msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidField("/cursor", "not a cursor that a page came with") from None
    if digest != _digest(query):
        raise InvalidField("/cursor", "made for another query")
    return position


def _digest(query: Mapping[str, object]) -> str:
    canonical = msgspec.json.encode(sorted(query.items()))
    return base64.urlsafe_b64encode(sha256(canonical).digest()[:12]).decode()
