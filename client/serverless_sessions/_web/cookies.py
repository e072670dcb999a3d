"""Session cookies: which tokens a request brings, and what its answer does to the cookies.

One browser has many requests under way, and their answers come in any order. An answer therefore
touches a cookie only if it knows something new: a token that was just issued, or the end of a
user's session that this request itself has ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from serverless_sessions._core.token import Token

# A name can come more often than once if somebody planted a cookie for a parent domain or a path.
_MOST_TOKENS = 3


@dataclass(frozen=True)
class CookieChange:
    """What becomes of a cookie: a new `token`, or None to delete it.

    `max_age` is the time until the session's absolute end, in seconds.
    """

    for_visitor: bool
    token: str | None
    max_age: int = 0


def read_values(header: str, name: str) -> list[str]:
    """The values under this cookie name in a raw `Cookie` header, in order.

    Only space and tab are removed around a pair, and names are compared exactly: other characters
    that Python calls white space may belong to a cookie that somebody else has planted.
    """
    pairs = (pair.strip(" \t").partition("=") for pair in header.split(";"))
    return [value for key, _, value in pairs if key == name]


def read_tokens(header: str, name: str) -> list[str]:
    """The well-formed tokens under this cookie name in a raw `Cookie` header, in order."""
    tokens = [value for value in read_values(header, name) if Token.parse(value)]
    return list(dict.fromkeys(tokens))[:_MOST_TOKENS]


def cookie_name(name: str, *, secure: bool, domain: str | None, path: str) -> str:
    """`name` with the prefix `__Host-`, by which a browser takes the cookie from this host alone.

    A browser refuses the prefix on a cookie that is for other hosts or paths too, or for HTTP.
    """
    is_for_this_host = secure and not domain and path == "/"
    return f"__Host-{name}" if is_for_this_host and not name.startswith("__") else name
