"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import traceback

import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from msgspec import Struct

from sessions import errors

logger = Logger()

NO_STORE = {"Cache-Control": "no-store"}
_RETRY_AFTER = {"Retry-After": "1"}


class Kind(Struct, frozen=True):
    """A kind of problem. Programs distinguish kinds by `code`."""

    status: int
    title: str
    code: str
    detail: str


INVALID_JSON = Kind(400, "Bad Request", "invalid_json", "The body is not JSON.")
INVALID_IF_MATCH = Kind(
    400, "Bad Request", "invalid_if_match", "If-Match takes * or a list of entity tags."
)
BODY_TOO_LARGE = Kind(413, "Content Too Large", "body_too_large", "The body exceeds 128 KiB.")
CONTENT_TYPE_NOT_JSON = Kind(
    415,
    "Unsupported Media Type",
    "unsupported_media_type",
    "The content type must be application/json, in UTF-8.",
)
NO_SUCH_ROUTE = Kind(404, "Not Found", "route_not_found", "There is nothing at this path.")
_INVALID = Kind(422, "Unprocessable Content", "invalid_request", "A value breaks a rule.")
_NOT_FOUND = Kind(404, "Not Found", "session_not_found", "No live session has this id.")
_INVALID_TOKEN = Kind(
    401, "Unauthorized", "invalid_token", "The token does not prove a live session."
)
_IN_GRACE = Kind(
    409,
    "Conflict",
    "rotation_in_grace",
    "Another request has just rotated the token; keep using the one that you have.",
)
_NOT_ANONYMOUS = Kind(
    409, "Conflict", "not_anonymous", "Only an anonymous session can be given a last window."
)
_ANONYMOUS = Kind(
    409, "Conflict", "anonymous", "The session has no user who could prove who they are."
)
_IMPERSONATED = Kind(
    409, "Conflict", "impersonated", "Somebody else acts as the user of this session."
)
_SESSION_EXISTS = Kind(
    409,
    "Conflict",
    "session_exists",
    "There is or was a session with this id that this token_sha256 does not prove.",
)
_SUPERSEDED = Kind(
    409, "Conflict", "token_superseded", "Another rotation has used or replaced this token."
)
_NO_TOKEN = Kind(409, "Conflict", "no_token", "The session has no token to rotate.")
_MISMATCH = Kind(
    412, "Precondition Failed", "version_mismatch", "The session has another version by now."
)
_TOO_LARGE = Kind(
    413, "Content Too Large", "data_too_large", "The session's data would exceed its limit."
)
_UNAVAILABLE = Kind(
    503, "Service Unavailable", "unavailable", "The session store is busy; send the request again."
)
_UNFORESEEN = Kind(
    500, "Internal Server Error", "internal_error", "An unforeseen error; it has been logged."
)

_KINDS: dict[type[Exception], Kind] = {
    errors.SessionNotFound: _NOT_FOUND,
    errors.InvalidToken: _INVALID_TOKEN,
    errors.SessionExists: _SESSION_EXISTS,
    errors.RotationInGrace: _IN_GRACE,
    errors.NotAnonymous: _NOT_ANONYMOUS,
    errors.AnonymousSession: _ANONYMOUS,
    errors.ImpersonatedSession: _IMPERSONATED,
    errors.TokenSuperseded: _SUPERSEDED,
    errors.NoToken: _NO_TOKEN,
    errors.VersionMismatch: _MISMATCH,
    errors.DocumentTooLarge: _TOO_LARGE,
    errors.Unavailable: _UNAVAILABLE,
}


class RequestProblem(Exception):
    """The request itself is wrong, so its session is not read."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind.code)
        self.kind = kind


def answer(error: Exception, request_id: str) -> Response[str]:
    """Return the answer to a request that failed with `error`.

    An unforeseen error is logged with its stack but without its message, which may quote data.
    """
    if isinstance(error, RequestProblem):
        return _problem(error.kind, request_id)
    if isinstance(error, errors.InvalidField):
        return _problem(
            _INVALID, request_id, errors=[{"pointer": error.pointer, "detail": error.detail}]
        )
    kind = _KINDS.get(type(error), _UNFORESEEN)
    if kind is _UNAVAILABLE:
        logger.warning("unavailable", cause=str(error), api_request_id=request_id)
        return _problem(kind, request_id, _RETRY_AFTER)
    if kind is _UNFORESEEN:
        logger.error(
            "unforeseen error",
            error=type(error).__name__,
            stack="".join(traceback.format_tb(error.__traceback__)),
            api_request_id=request_id,
        )
    return _problem(kind, request_id)


def _problem(
    kind: Kind, request_id: str, headers: dict[str, str] | None = None, **members: object
) -> Response[str]:
    body = {
        "type": "about:blank",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.detail,
        "instance": request_id,
        "code": kind.code,
    }
    return Response(
        status_code=kind.status,
        content_type="application/problem+json",
        headers=NO_STORE | (headers or {}),
        body=msgspec.json.encode(body | members).decode(),
    )
