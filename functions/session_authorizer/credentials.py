"""Finds the token in an authorizer's event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sessions.token import Token


def find_token(event: Mapping[str, Any], cookie: str) -> Token | None:
    """Return the token in `event`, or None if there is no token, several, or a malformed one.

    API Gateway caches the answer under the identity source that the API configures. The answer must
    depend on nothing else in the request. Otherwise the cached answer to one caller's token would
    allow the requests of other callers.
    """
    texts = [text for source in _sources(event) for text in _candidates(source, cookie)]
    return Token.parse(texts[0]) if len(texts) == 1 else None


def _sources(event: Mapping[str, Any]) -> list[str]:
    """Return the values of the identity source, or an empty list if the event does not show which
    value is the source.

    An HTTP API sends a list of values (payload 2.0) or a single value (payload 1.0). A REST API's
    TOKEN type also sends a single value. A REST API's REQUEST type does not name its identity
    source, but calls the authorizer only if the source is present. So if only one header could be
    the source, it is the source.
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
    if event.get("cookies"):  # payload 2.0 has a separate list of cookies
        values.append("; ".join(event["cookies"]))
    return values if len(values) == 1 else []


def _candidates(source: str, cookie: str) -> Iterator[str]:
    """Yield the possible tokens in `source`, the value of an Authorization or a Cookie header.

    Only space and tab are white space in a header. The other characters that Python's `strip`
    removes are a part of the cookie's name. A subdomain can set such a cookie, because its name
    does not begin with `__Host-`.
    """
    scheme, _, credentials = source.partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip(" \t")
        return
    for pair in source.split(";"):
        name, _, value = pair.strip(" \t").partition("=")
        if name == cookie:
            yield value
