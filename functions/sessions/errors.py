"""The errors of operations on sessions.

SessionsError
├── InvalidField         a value breaks a rule
├── SessionNotFound      the session is absent, expired or revoked
├── InvalidToken         the token does not prove a live session
├── SessionExists        another session has or had this id
├── RotationInGrace      another request has just rotated the token
├── NotAnonymous         the session has a user
├── AnonymousSession     the session has no user
├── ImpersonatedSession  somebody else acts as the user
├── TokenSuperseded      another rotation has used or replaced this token
├── NoToken              the session has no token to rotate
├── VersionMismatch      the data changed since the caller read it
├── DocumentTooLarge     the data exceeds the limit of a request or an item
└── Unavailable          DynamoDB throttles or does not answer in time
"""


def member(pointer: str, name: str) -> str:
    """Return the JSON pointer (RFC 6901) to a member of the object at `pointer`."""
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


class SessionsError(Exception):
    """Base class of the errors that callers of this package are expected to handle."""


class InvalidField(SessionsError):
    """A value breaks a rule.

    `pointer` (RFC 6901) is the place of the value, and `detail` states the rule. Neither contains
    the value itself.
    """

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer}: {detail}")
        self.pointer = pointer
        self.detail = detail


class SessionNotFound(SessionsError):
    """No live session has this id."""


class InvalidToken(SessionsError):
    """The token is malformed, unknown or wrong, or its session has ended."""


class SessionExists(SessionsError):
    """An item with this id exists, and it is not the session that the caller wants to create."""


class RotationInGrace(SessionsError):
    """Another request has just rotated the token. The caller can go on using its own one."""


class NotAnonymous(SessionsError):
    """The session has a user, but only an anonymous session can get a last window."""


class AnonymousSession(SessionsError):
    """The session has no user, so nobody can prove that they are its user."""


class ImpersonatedSession(SessionsError):
    """Somebody else acts as the user of the session, and can't prove to be that user."""


class TokenSuperseded(SessionsError):
    """The session has or had the caller's secret, but another rotation has used or replaced it."""


class NoToken(SessionsError):
    """The session is live, but holds no token hash."""


class VersionMismatch(SessionsError):
    """The session is live, but its version is not one that the caller accepts."""


class DocumentTooLarge(SessionsError):
    """The document exceeds the limit of one request, or its item exceeds DynamoDB's 400 KB."""


class Unavailable(SessionsError):
    """Nothing is wrong with the request, and the caller can send it again later.

    The message is for the log. It names the kind of failure and never contains a part of a request.
    """
