"""Where an authorizer's event carries the token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sessions.token import Token


def find_token(event: Mapping[str, Any], cookie: str) -> Token | None:
    """The one well-formed token in `event`; None if there is none, or more than one.

    API Gateway caches an answer under the identity source that the API configures. To answer by
    any other part of the request would let one caller's token vouch for another one's request, so
    where the event does not tell the configured source, only a single candidate is taken.
    """
    texts = [text for source in _sources(event) for text in _candidates(source, cookie)]
    return Token.parse(texts[0]) if len(texts) == 1 else None


def _sources(event: Mapping[str, Any]) -> list[str]:
    """Values of the identity source: payload 2.0 lists them, a REST API's TOKEN type has one.

    A REST API's REQUEST type does not tell: its headers may hold either.
    """
    if event.get("identitySource"):
        return list(event["identitySource"])
    if "authorizationToken" in event:
        return [event["authorizationToken"]]
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    cookies = event.get("cookies") or [headers.get("cookie", "")]
    return [headers.get("authorization", ""), "; ".join(cookies)]


def _candidates(source: str, cookie: str) -> Iterator[str]:
    """What `source` offers as a token, be it an Authorization or a Cookie header's value."""
    scheme, _, credentials = source.partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip()
        return
    for pair in source.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == cookie:
            yield value
