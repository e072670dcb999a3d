"""Requests, their outcomes, and the rules for retries, without any input or output.

A `Plan` is a generator. It yields the next step, a `Request` or a `Wait`, and receives the outcome
of that step. `Sessions.run` and `AsyncSessions.run` execute the steps, so the rules exist only once
for threads and asyncio.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, TypeVar

from serverless_sessions._core import clock, exact_json
from serverless_sessions._core.secret import Secret
from serverless_sessions.errors import (
    BodyTooLarge,
    FieldError,
    InternalError,
    NotAllowed,
    OutcomeUnknown,
    RouteNotFound,
    SessionsError,
    Unavailable,
    UnexpectedAnswer,
)

_MAX_ATTEMPTS = 6
_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 2.0
# With less time than this, another attempt is unlikely to get an answer.
_MIN_ATTEMPT_SECONDS = 0.25
# The part of the remaining time after which a connection that is not up is given up, and after
# which an answer that has not come is taken for slow.
_PATIENCE = 0.5
# The part of the remaining time that is kept to find out whether a change was made.
_RESERVE = 0.1


@dataclass(frozen=True)
class Request:
    """An HTTP request. It is signed for `region` and `aws_service`, and takes at most `seconds`.

    Within `patience_seconds` the connection must be up and the request written. If there is no
    answer after that time, a request that `is_hedged` is sent a second time, and the first good
    answer counts. `status` is the only HTTP status that is a success.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Secret[bytes] = Secret(b"")
    region: str = ""
    aws_service: str = "execute-api"
    seconds: float = 0.0
    patience_seconds: float = 0.0
    is_hedged: bool = False
    status: int = 200


@dataclass(frozen=True)
class Wait:
    """A pause before the next request."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """An HTTP response. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The document in the body. Raises `ValueError` if the body is not JSON."""
        return exact_json.decode(self.body)

    @property
    def time(self) -> int:
        """The server's time, in epoch seconds. Raises `KeyError` or `ValueError` without one."""
        moment = parsedate_to_datetime(self.headers["date"])
        if moment.tzinfo is None:  # Python would assume the time zone of this host
            raise ValueError("no GMT")
        return int(moment.timestamp())


@dataclass(frozen=True)
class NoAnswer:
    """A request without a response. `sent` is False if it certainly did not reach the service."""

    reason: str
    sent: bool
    cause: BaseException | None = None


Outcome = Answer | NoAnswer | None
Result = TypeVar("Result")
Plan = Generator[Request | Wait, Outcome, Result]


class Deadline:
    """The time by which a call must end."""

    def __init__(self, seconds: float) -> None:
        self._at = clock.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._at - clock.monotonic()


class Repeat(Enum):
    """When a request is sent again. In all cases it is, if the service has not executed it."""

    HEDGE = auto()  # also while the answer is still to come: executing it twice is harmless
    AGAIN = auto()  # also if its answer is lost
    ANSWERED = auto()  # also after an error, but never while it may still be executed
    NEVER = auto()  # not if the service may have executed it


class Attempts:
    """The attempts to send one request.

    `last_unknown` is the error of the last attempt that failed although the service may have
    executed the request.
    """

    last_unknown: Unavailable | None = None


def call(
    request: Request,
    deadline: Deadline,
    read: Callable[[Answer], Result],
    *,
    repeat: Repeat = Repeat.HEDGE,
    attempts: Attempts | None = None,
) -> Plan[Result]:
    """Send a request, with retries until the deadline is near or the attempts are used up.

    Return what `read` makes of the answer. It raises `ValueError` for an answer that does not come
    from the service.

    A send may take all of the remaining time, since a slow service would not answer a second one
    sooner. Raises the `SessionsError` that corresponds to the last outcome.
    """
    attempts = attempts or Attempts()
    for count in range(_MAX_ATTEMPTS):
        left = deadline.left
        if left <= 0:
            break
        needs_reserve = repeat in (Repeat.AGAIN, Repeat.NEVER)
        outcome = yield replace(
            request,
            seconds=left * (1 - _RESERVE) if needs_reserve else left,
            patience_seconds=max(left * _PATIENCE, min(left, _MIN_ATTEMPT_SECONDS)),
            is_hedged=repeat is Repeat.HEDGE,
        )
        if isinstance(outcome, Answer) and outcome.status == request.status:
            try:
                return read(outcome)
            except ValueError as error:
                failure = _unexpected(outcome, str(error))
        else:
            failure = find_failure(outcome)
        if not isinstance(failure.error, Unavailable):
            raise failure.error
        if failure.is_outcome_unknown:
            attempts.last_unknown = failure.error
        pause = failure.retry_after + jitter(count)
        may_retry = (
            not failure.is_outcome_unknown
            or repeat in (Repeat.HEDGE, Repeat.AGAIN)
            or (repeat is Repeat.ANSWERED and isinstance(outcome, Answer))
        )
        if not may_retry or count == _MAX_ATTEMPTS - 1 or pause >= deadline.left:
            raise failure.error
        yield Wait(pause)
    raise Unavailable("the deadline has passed")


def jitter(count: int) -> float:
    """Return a random pause in seconds, so that clients do not all retry at the same time."""
    return random.uniform(0, min(_PAUSE_SECONDS * 2**count, _MAX_PAUSE_SECONDS))  # noqa: S311


@dataclass(frozen=True)
class Failure:
    """A failed attempt. `is_outcome_unknown`: the service may have executed the request."""

    error: SessionsError
    is_outcome_unknown: bool = False
    retry_after: float = 0.0


def find_failure(outcome: Outcome) -> Failure:
    """Return the failure that an outcome represents if it is not the expected answer."""
    if isinstance(outcome, NoAnswer):
        unavailable = Unavailable(outcome.reason)
        unavailable.__cause__ = outcome.cause
        return Failure(unavailable, is_outcome_unknown=outcome.sent)
    assert outcome is not None  # noqa: S101  # only a Wait has no outcome
    try:
        document = outcome.json
    except ValueError:
        document = None
    problem = document if isinstance(document, dict) else {}
    kind = _BY_CODE.get(_text(problem, "code") or "") or _BY_STATUS.get(outcome.status)
    if outcome.status < 300 or (kind is None and outcome.status < 500):
        return _unexpected(outcome, _text(problem, "message"))
    return Failure(
        _error(kind or Unavailable, outcome, problem),
        is_outcome_unknown=outcome.status >= 500,
        retry_after=_retry_after(outcome),
    )


def _unexpected(answer: Answer, reason: str | None) -> Failure:
    error = UnexpectedAnswer(
        f"what answered is not the service: {reason or f'HTTP status {answer.status}'}",
        status=answer.status,
    )
    return Failure(error, is_outcome_unknown=answer.status < 300)


def _error(kind: type[SessionsError], answer: Answer, problem: Mapping[str, Any]) -> SessionsError:
    """Build the exception for an error response.

    The service identifies its errors by `code`. API Gateway's own errors have only a `message`, and
    those of a function URL only a `Message`. Members of a wrong type are ignored.
    """
    detail = _text(problem, "detail") or _text(problem, "message") or _text(problem, "Message")
    errors = problem.get("errors")
    fields = [
        FieldError(pointer, rule)
        for error in (errors if isinstance(errors, list) else ())
        if (pointer := _text(error, "pointer")) is not None and (rule := _text(error, "detail"))
    ]
    return kind(
        detail or f"HTTP status {answer.status}",
        status=answer.status,
        request_id=_text(problem, "instance")
        or answer.headers.get("apigw-requestid")
        or answer.headers.get("x-amzn-requestid"),
        errors=fields,
    )


def _text(document: Any, name: str) -> str | None:
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) else None


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _codes(kind: type[SessionsError]) -> dict[str, type[SessionsError]]:
    codes = {kind.code: kind} if kind.code else {}
    for subclass in kind.__subclasses__():
        codes |= _codes(subclass)
    return codes


# Errors without a code, such as OutcomeUnknown, are not in this table.
_BY_CODE = _codes(SessionsError)
_BY_STATUS: dict[int, type[SessionsError]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: RouteNotFound,
    413: BodyTooLarge,
    429: Unavailable,
    500: InternalError,
}


def unknown_outcome(error: Unavailable) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the change may have been made: {error.detail}",
        status=error.status,
        request_id=error.request_id,
    )
