"""Session cookies: reading tokens from a request, and changing cookies with its response.

A browser sends many requests at the same time, and their responses arrive in any order. A response
therefore changes a cookie in two cases only: the request received a new token, or the request
itself ended a user's session.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from serverless_sessions._core.secret import Secret
from serverless_sessions._core.token import Token

# A cookie name can occur more than once. The other cookies may have been set by an attacker, for a
# parent domain or another path.
_MAX_TOKENS = 3


class Cookie(Enum):
    """The cookies of a browser.

    In the impersonator's cookie, the token of somebody who acts as a user waits for their return.
    """

    USER = auto()
    VISITOR = auto()
    IMPERSONATOR = auto()


@dataclass(frozen=True)
class CookieChange:
    """A change of a cookie: set it to a new `token`, or delete it if `token` is None.

    `max_age` is the time until the session's absolute end, in seconds.
    """

    cookie: Cookie
    token: Secret[str] | None
    max_age: int = 0


def read_values(header: str, name: str) -> list[str]:
    """Return the values of all cookies with this name in a raw `Cookie` header, in order.

    Only spaces and tabs are removed around a pair, and names are compared exactly. Other characters
    that Python treats as white space may be part of the name of an attacker's cookie.
    """
    pairs = (pair.strip(" \t").partition("=") for pair in header.split(";"))
    return [value for key, _, value in pairs if key == name]


def read_tokens(header: str, name: str) -> list[str]:
    """Return the well-formed tokens with this cookie name in a raw `Cookie` header, in order."""
    tokens = [value for value in read_values(header, name) if Token.parse(value)]
    return list(dict.fromkeys(tokens))[:_MAX_TOKENS]


def cookie_name(name: str, *, secure: bool, domain: str | None, path: str) -> str:
    """Return `name` with the prefix `__Host-` where browsers allow it.

    With the prefix, a browser accepts the cookie only from this host. Browsers reject the prefix on
    a cookie for a domain, for a path other than "/", or for HTTP.
    """
    is_for_this_host = secure and not domain and path == "/"
    return f"__Host-{name}" if is_for_this_host and not name.startswith("__") else name
