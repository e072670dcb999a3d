"""What a request gets if its user has to prove first who they are."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

PROBLEM_TYPE = "application/problem+json"
# Browsers ignore line breaks and tabs in a URL, and take a backslash for a slash.
_LOCAL_PATH = re.compile(r"/(?!/)[!-\[\]-~]*")
# `quote` keeps these as they are, and encodes backslashes, blanks and characters beyond ASCII.
_QUERY_CHARACTERS = string.punctuation.replace("\\", "")


def local_path(text: str | None, default: str = "/") -> str:
    """Return `text` if it is a path of this site, or else `default`.

    Use it for the parameter `next` of a page. A link of an attacker can contain any `next`, and
    the page must not redirect to another site.
    """
    return text if text is not None and _LOCAL_PATH.fullmatch(text) else default


@dataclass(frozen=True)
class Refusal:
    """A redirect to `location`, or a 403 with the JSON `body` if `location` is None."""

    location: str | None
    body: str


def refusal(
    seconds: float,
    methods: Collection[str],
    *,
    is_impersonated: bool,
    step_up_url: str | None,
    method: str,
    accept: str,
    path: str,
    query: str,
) -> Refusal:
    """Return the answer to a request whose user has not proved who they are recently.

    A browser that opens a page is redirected to `step_up_url`. Somebody who acts as a user could
    not prove anything there.
    """
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "Somebody who acts as the user may not do this."
        if is_impersonated
        else "The user has to prove again who they are.",
        # The names of RFC 9470.
        "code": "insufficient_user_authentication",
        "max_age": seconds,
    }
    if methods:
        problem["methods"] = [*methods]
    location = None
    if step_up_url and method == "GET" and _accepts_html(accept) and not is_impersonated:
        next_path = "/" + quote(path).lstrip("/")
        if query:
            next_path += "?" + quote(query, safe=_QUERY_CHARACTERS)
        separator = "&" if "?" in step_up_url else "?"
        location = f"{step_up_url}{separator}{urlencode({'next': local_path(next_path)})}"
    return Refusal(location, json.dumps(problem))


def _accepts_html(accept: str) -> bool:
    """Whether an `Accept` header names `text/html`. Scripts usually accept anything instead."""
    for media_range in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in media_range.split(";"))
        if media_type == "text/html":
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False
