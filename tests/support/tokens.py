"""Helpers for calls with tokens."""

from __future__ import annotations

import base64
from hashlib import sha256
from types import ModuleType
from typing import NamedTuple

from tests.support.api import Answer, Api
from tests.support.functions import lambda_context, sample

ABSENT = "AAAAAAAAAAAA"
SECRET = "B" * 27


class OwnSecret(NamedTuple):
    """A token whose secret the caller has generated, and the hashes that the caller sends."""

    token: str
    token_sha256: str
    family_sha256: str

    @property
    def both(self) -> dict[str, str]:
        """The fields of a call that presents no token."""
        return {"token_sha256": self.token_sha256, "family_sha256": self.family_sha256}


def own_secret(session_id: str = "", letter: str = "s", *, family: str = "f" * 12) -> OwnSecret:
    secret = family + letter * 15
    return OwnSecret(f"{session_id}.{secret}", digest(secret), digest(family))


def digest(text: str) -> str:
    """Return the SHA-256 in base64url, as the API expects it."""
    return base64.urlsafe_b64encode(sha256(text.encode()).digest()).decode().rstrip("=")


def id_of(token: str) -> str:
    return token.partition(".")[0]


def family_of(token: str) -> str:
    return token.partition(".")[2][:12]


def verify(api: Api, token: str, **options: object) -> Answer:
    return api("POST", "/sessions/verify", {"token": token, **options})


def rotate(api: Api, session_id: str, **options: object) -> Answer:
    """Rotate the token: with the option `token` for its owner, otherwise by the session's id."""
    return api("POST", f"/sessions/{session_id}/rotate", options or None)


def successor(api: Api, token: str, **options: object) -> str:
    """Rotate `token` for its owner and return the new token."""
    return token_of(rotate(api, id_of(token), token=token, **options))


def token_of(answer: Answer) -> str:
    assert answer.status == 200, answer
    token: str = answer.json["token"]
    return token


def is_authorized(authorizer: ModuleType, token: str) -> bool:
    event = sample("authorizer_http_api") | {"identitySource": [f"Bearer {token}"]}
    allowed: bool = authorizer.lambda_handler(event, lambda_context())["isAuthorized"]
    return allowed
