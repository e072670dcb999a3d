"""What can go wrong with a call.

SessionsError
├── NoCredentials         botocore finds no AWS credentials
├── NotAllowed            IAM does not allow the call
├── SessionNotFound       absent, expired and revoked alike
├── InvalidToken          proves nothing; `verify` returns None instead, `rotate` raises it
├── SessionExists         another session has this id, or had it
├── RotationInGrace       the token was rotated a moment ago
├── NotAnonymous          the session has a user
├── TokenSuperseded       this token was rotated away already
├── NoToken               the session holds none to rotate
├── VersionMismatch       the data changed since the caller read it
├── DataTooLarge          the data is over the limit of one request, or of an item
├── BodyTooLarge          the body is over the limit of one request
├── InvalidRequest        a field is wrong or unknown; `errors` says which and how
├── InvalidJson           ┐
├── InvalidIfMatch        │ never met by calls of this package, unless the service behind
├── UnsupportedMediaType  │ the URL is another one
├── RouteNotFound         ┘
└── Unavailable           the service throttles, fails or does not answer in time
    ├── InternalError     it failed in a way that nobody foresaw, and logged it
    └── OutcomeUnknown    the same, and the change may have been made

An app that cannot go on without its sessions turns `Unavailable` into its own 503.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """`pointer` (RFC 6901) names a member of the call, `detail` the rule that it breaks."""

    pointer: str
    detail: str


class SessionsError(Exception):
    """Base of all errors of this package.

    `code` is the service's stable name of the error, `status` the HTTP status, `request_id` what
    the service's log and the audit trail know the call by; each is None if the error did not come
    from the service. Messages hold no tokens and no session data.
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
        """The members of the call that are wrong, from `errors`."""
        return tuple(error.pointer for error in self.errors)

    def __str__(self) -> str:
        named = [f"{error.pointer}: {error.detail}" for error in self.errors]
        text = "; ".join([self.detail, *named])
        return f"{text} (request {self.request_id})" if self.request_id else text


class NoCredentials(SessionsError):
    """botocore finds no AWS credentials, or can't renew them."""


class NotAllowed(SessionsError):
    """API Gateway refuses the call: the credentials are not allowed `execute-api:Invoke` here."""


class SessionNotFound(SessionsError):
    """No live session has this id."""

    code = "session_not_found"


class InvalidToken(SessionsError):
    """The token is malformed, unknown, wrong, or its session has ended."""

    code = "invalid_token"


class SessionExists(SessionsError):
    """The id belongs to another session, or did."""

    code = "session_exists"


class RotationInGrace(SessionsError):
    """Another request has just rotated the token: keep the one at hand."""

    code = "rotation_in_grace"


class NotAnonymous(SessionsError):
    """The session has a user; only that of a visitor can be given a last window."""

    code = "not_anonymous"


class TokenSuperseded(SessionsError):
    """Another rotation took this one's place before its answer arrived."""

    code = "token_superseded"


class NoToken(SessionsError):
    """The session is live, but holds no token to rotate."""

    code = "no_token"


class VersionMismatch(SessionsError):
    """The session is live, but its version is not the one that the call asked for."""

    code = "version_mismatch"


class DataTooLarge(SessionsError):
    """The data is over the limit of one request, or its item over DynamoDB's 400 KB."""

    code = "data_too_large"


class BodyTooLarge(SessionsError):
    """The body is over 128 KiB."""

    code = "body_too_large"


class InvalidRequest(SessionsError):
    """`errors` names each field that is wrong or unknown."""

    code = "invalid_request"


class InvalidJson(SessionsError):
    """The service could not read the body."""

    code = "invalid_json"


class InvalidIfMatch(SessionsError):
    """The service could not read the version."""

    code = "invalid_if_match"


class UnsupportedMediaType(SessionsError):
    """The service takes JSON alone."""

    code = "unsupported_media_type"


class RouteNotFound(SessionsError):
    """There is no such call behind the URL."""

    code = "route_not_found"


class Unavailable(SessionsError):
    """The service throttles, fails or does not answer before the deadline."""

    code: str | None = "unavailable"


class InternalError(Unavailable):
    """The service failed in a way that nobody foresaw. Its log knows `request_id`."""

    code = "internal_error"


class OutcomeUnknown(Unavailable):
    """The change may have been made or not: read the session before making it again."""

    code = None
