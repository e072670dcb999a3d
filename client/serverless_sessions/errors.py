"""The exceptions that a call can raise.

SessionsError
├── NoCredentials         botocore finds no AWS credentials
├── NotAllowed            IAM does not allow the call
├── SessionNotFound       the session does not exist, has expired or was revoked
├── InvalidToken          the token is not valid; `verify` returns None instead
├── SessionExists         the id is, or was, the id of another session
├── RotationInGrace       another request has just rotated the token
├── NotAnonymous          the session has a user
├── AnonymousSession      the session has no user
├── ImpersonatedSession   somebody else acts as the user of the session
├── TokenSuperseded       another rotation has already used or replaced the new token
├── NoToken               the session has no token to rotate
├── VersionMismatch       the data has changed since the caller read it
├── DataTooLarge          the data exceeds the limit of a request or of an item
├── BodyTooLarge          the request body exceeds the limit
├── InvalidRequest        a field is wrong or unknown; `errors` lists the fields
├── InvalidJson           ┐
├── InvalidIfMatch        │ not caused by this package, unless the URL belongs to another
├── UnsupportedMediaType  │ service
├── RouteNotFound         ┘
└── Unavailable           the service throttles, fails or does not answer in time
    ├── InternalError     the service failed unexpectedly and logged the error
    ├── UnexpectedAnswer  what answered is not the service, for example a maintenance page
    └── OutcomeUnknown    the call failed, but the change may have been made

An app that cannot work without sessions should answer `Unavailable` with a 503 of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """One invalid field: `pointer` (RFC 6901) locates it, `detail` states the rule it breaks.

    The pointer is empty if the rule is about several fields.
    """

    pointer: str
    detail: str


class SessionsError(Exception):
    """The base class of all exceptions of this package.

    `code` is the service's stable name for the error. `status` is the HTTP status. `request_id`
    identifies the call in the service's log and in the audit trail. All three are None if the
    error did not come from the service. Messages contain no tokens and no session data.
    """

    code: str | None = None

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.request_id = request_id
        self.errors = tuple(errors)

    @property
    def pointers(self) -> tuple[str, ...]:
        """The pointers of all invalid fields in `errors`."""
        return tuple(error.pointer for error in self.errors)

    def __str__(self) -> str:
        fields = [
            f"{error.pointer}: {error.detail}" if error.pointer else error.detail
            for error in self.errors
        ]
        text = "; ".join([self.detail, *fields])
        return f"{text} (request {self.request_id})" if self.request_id else text


class NoCredentials(SessionsError):
    """botocore finds no AWS credentials, or cannot renew them."""


class NotAllowed(SessionsError):
    """AWS rejects the call: the credentials lack the permission for it.

    This is `execute-api:Invoke` for the API. A function URL needs both `lambda:InvokeFunctionUrl`
    and `lambda:InvokeFunction`.
    """


class SessionNotFound(SessionsError):
    """No live session has this id."""

    code = "session_not_found"


class InvalidToken(SessionsError):
    """The token is malformed, unknown or wrong, or its session has ended."""

    code = "invalid_token"


class SessionExists(SessionsError):
    """The id belongs, or once belonged, to another session."""

    code = "session_exists"


class RotationInGrace(SessionsError):
    """Another request has just rotated the token. Keep using the current token."""

    code = "rotation_in_grace"


class NotAnonymous(SessionsError):
    """The session has a user. Only an anonymous session can get a final window."""

    code = "not_anonymous"


class AnonymousSession(SessionsError):
    """The session has no user who could prove who they are."""

    code = "anonymous"


class ImpersonatedSession(SessionsError):
    """Somebody else acts as the user of the session, and cannot prove to be that user."""

    code = "impersonated"


class TokenSuperseded(SessionsError):
    """Another rotation has already used or replaced the new token of this call."""

    code = "token_superseded"


class NoToken(SessionsError):
    """The session is live, but has no token to rotate."""

    code = "no_token"


class VersionMismatch(SessionsError):
    """The session is live, but its version is not the one that the call requires."""

    code = "version_mismatch"


class DataTooLarge(SessionsError):
    """The data exceeds the limit of a request, or the item exceeds DynamoDB's 400 KB."""

    code = "data_too_large"


class BodyTooLarge(SessionsError):
    """The request body is larger than 128 KiB."""

    code = "body_too_large"


class InvalidRequest(SessionsError):
    """A field is wrong or unknown. `errors` lists every such field."""

    code = "invalid_request"


class InvalidJson(SessionsError):
    """The service could not parse the request body."""

    code = "invalid_json"


class InvalidIfMatch(SessionsError):
    """The service could not parse the version in `If-Match`."""

    code = "invalid_if_match"


class UnsupportedMediaType(SessionsError):
    """The service accepts only JSON."""

    code = "unsupported_media_type"


class RouteNotFound(SessionsError):
    """The service at this URL has no such route."""

    code = "route_not_found"


class Unavailable(SessionsError):
    """The service throttles the call, fails, or does not answer before the deadline."""

    code: str | None = "unavailable"


class InternalError(Unavailable):
    """The service failed unexpectedly. Search its log for `request_id`."""

    code = "internal_error"


class UnexpectedAnswer(Unavailable):
    """What answered is not the service, or a version of it that this package does not know.

    It may be a proxy, a maintenance page or another service at the same URL.
    """

    code = None


class OutcomeUnknown(Unavailable):
    """The change may or may not have been made. Read the session before you repeat the change."""

    code = None
