"""Where an authorizer's event carries the token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sessions.token import Token


def find_token(event: Mapping[str, Any], cookie: str) -> Token | None:
    """The one well-formed token in `event`; None if there is none, or more than one.

    API Gateway caches an answer under the identity source that the API configures. To answer by
    any other part of the request would let one caller's token vouch for another one's request.
    """
    texts = [text for source in _sources(event) for text in _candidates(source, cookie)]
    return Token.parse(texts[0]) if len(texts) == 1 else None


def _sources(event: Mapping[str, Any]) -> list[str]:
    """Values of the identity source, empty where it can't be made out.

    An HTTP API lists them (payload 2.0) or gives the one (1.0), as does a REST API's TOKEN type. A
    REST API's REQUEST type does not tell, but calls only if its source is there: a single header
    that could be the source is the source.
    """
    if identity := event.get("identitySource") or event.get("authorizationToken"):
        return [identity] if isinstance(identity, str) else list(identity)
    headers: Mapping[str, list[str]] = event.get("multiValueHeaders") or {
        name: [value] for name, value in (event.get("headers") or {}).items()
    }
    values = [
        value
        for name, values in headers.items()
        for value in values
        if name.lower() in ("authorization", "cookie")
    ]
    if event.get("cookies"):  # payload 2.0 keeps them apart
        values.append("; ".join(event["cookies"]))
    return values if len(values) == 1 else []


def _candidates(source: str, cookie: str) -> Iterator[str]:
    """What `source` offers as a token, be it an Authorization or a Cookie header's value.

    Only space and tab are white space in a header. Other characters that Python's `strip` removes
    belong to the name of a cookie, which a subdomain can plant: it does not begin with `__Host-`.
    """
    scheme, _, credentials = source.partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip(" \t")
        return
    for pair in source.split(";"):
        name, _, value = pair.strip(" \t").partition("=")
        if name == cookie:
            yield value
