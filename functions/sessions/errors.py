"""What can go wrong with a session, as facts.

SessionsError
├── InvalidField      a value breaks a rule; says which and how
├── SessionNotFound   absent, expired and revoked alike
├── InvalidToken      proves nothing, and says not why
├── SessionExists     another session has this id, or had it
├── RotationInGrace   the token was rotated a moment ago
├── NotAnonymous      the session has a user
├── TokenSuperseded   this token was rotated away already
├── NoToken           the session holds none to rotate
├── VersionMismatch   the data changed since the caller read it
├── DocumentTooLarge  the data outgrew what may be sent or stored
└── Unavailable       DynamoDB throttles or does not answer in time
"""


def member(pointer: str, name: str) -> str:
    """The JSON pointer to a member of what `pointer` points to (RFC 6901)."""
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


class SessionsError(Exception):
    """Base of all that callers of this package are expected to handle."""


class InvalidField(SessionsError):
    """`pointer` (RFC 6901) names the value, `detail` the rule. Neither repeats the value."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer}: {detail}")
        self.pointer = pointer
        self.detail = detail


class SessionNotFound(SessionsError):
    """No live session has this id."""


class InvalidToken(SessionsError):
    """The token is malformed, unknown, wrong, or its session has ended."""


class SessionExists(SessionsError):
    """There is an item with this id, and it is not the session that the caller asks for."""


class RotationInGrace(SessionsError):
    """Another request has just rotated the token; the caller keeps the one that it has."""


class NotAnonymous(SessionsError):
    """The session has a user, and only that of a visitor can be given a last window."""


class TokenSuperseded(SessionsError):
    """The caller's secret was this session's once; a later rotation took its place for good."""


class NoToken(SessionsError):
    """The session is live, but holds no token hash."""


class VersionMismatch(SessionsError):
    """The session is live, but its version is none of those the caller accepts."""


class DocumentTooLarge(SessionsError):
    """The document is over the limit of one request, or its item over DynamoDB's 400 KB."""


class Unavailable(SessionsError):
    """Nothing is wrong with the request; send it again later.

    The message names what failed, for the log: a kind of outage, never a part of a request.
    """
