"""Formats text, data and errors for the console's pages, without control characters or tokens."""

from __future__ import annotations

import json
import re

from serverless_sessions import Client
from serverless_sessions._core.token import TOKEN
from serverless_sessions.errors import (
    InvalidRequest,
    NoCredentials,
    NotAllowed,
    OutcomeUnknown,
    RouteNotFound,
    SessionsError,
    Unavailable,
)
from serverless_sessions.models import Data
from serverless_sessions.wording import browser_name, text

_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])" + TOKEN.pattern)
# This keeps pages small. The command line prints all of the data.
_MAX_DATA_CHARACTERS = 8_000


def has_token(value: str) -> bool:
    """Return whether the text contains a token, for example because somebody has pasted one."""
    return bool(_TOKEN.search(value))


def plain(value: object) -> str:
    """Return one line without tokens, and without characters that change direction or layout."""
    return text(_TOKEN.sub(r"\1.…", str(value)))


def pretty_json(data: Data) -> tuple[str, bool]:
    """Return `data` as indented JSON, and whether the text is complete."""
    document = json.dumps(data, indent=2, ensure_ascii=False, default=str)
    excerpt = document[:_MAX_DATA_CHARACTERS]
    return "\n".join(plain(line) for line in excerpt.split("\n")), excerpt == document


def device(client: Client) -> str:
    """Return a short description of a browser: "Firefox on Linux". Empty if it is not known."""
    agent = client.user_agent or ""
    return browser_name(agent) or plain(agent[:40])


def error_message(error: SessionsError) -> tuple[int, str]:
    """Return the HTTP status and the message that the operator sees for `error`."""
    match error:
        case NoCredentials() | NotAllowed() if "expired" in error.detail.lower():
            return 403, (
                "Your AWS credentials have expired. Sign in to AWS again and reload this page. "
                "If that does not help, restart the console."
            )
        case NoCredentials():
            return 403, f"There are no AWS credentials to sign with: {error.detail}."
        case NotAllowed():
            return 403, (
                "Your AWS credentials are not allowed to make this call. It needs the permission "
                "execute-api:Invoke, or for a function URL lambda:InvokeFunctionUrl and "
                f"lambda:InvokeFunction. The service says: {error}"
            )
        case OutcomeUnknown():
            return 503, f"The change may have been made or not. Look at the trail. ({error})"
        case Unavailable():
            return 503, f"The service does not answer at the moment. Try again. ({error})"
        case RouteNotFound():
            return 502, "The URL does not belong to a session service, or the service is too old."
        case InvalidRequest():
            rules = "; ".join(field.detail for field in error.errors) or error.detail
            return 422, f"The service rejects this request: {rules}"
    return 502, f"The service rejects this request: {error}"
