"""Requests, their outcomes, and the rules for retries, without any input or output.

A `Plan` is a generator. It yields the next step, a `Request` or a `Wait`, and receives the outcome
of that step. `Sessions.run` and `AsyncSessions.run` execute the steps, so the rules exist only once
for threads and asyncio.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from serverless_sessions._core import clock, exact_json
from serverless_sessions.errors import (
    BodyTooLarge,
    FieldError,
    InternalError,
    NotAllowed,
    OutcomeUnknown,
    RouteNotFound,
    SessionsError,
    Unavailable,
)

_MAX_ATTEMPTS = 6
_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 2.0
# With less time than this, another attempt is unlikely to get an answer.
_MIN_ATTEMPT_SECONDS = 0.25


@dataclass(frozen=True)
class Request:
    """An HTTP request. It is signed for `region` and `aws_service`, and takes at most `seconds`."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    region: str = ""
    aws_service: str = "execute-api"
    seconds: float = 0.0


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
        return exact_json.decode(self.body)


@dataclass(frozen=True)
class NoAnswer:
    """A request without a response. `sent` is False if it certainly did not reach the service."""

    reason: str
    sent: bool


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


class Attempts:
    """The attempts to send one request.

    `last_unknown` is the error of the last attempt that failed although the service may have
    executed the request.
    """

    last_unknown: Unavailable | None = None


def call(
    request: Request, deadline: Deadline, *, repeat: bool = True, attempts: Attempts | None = None
) -> Plan[Answer]:
    """Send a request, with retries until the deadline is near or the attempts are used up.

    Without `repeat`, a request that the service may have executed is not sent again. Raises the
    `SessionsError` that corresponds to the last outcome.
    """
    attempts = attempts or Attempts()
    for count in range(_MAX_ATTEMPTS):
        # If another attempt is possible, this one gets half of the remaining time, so that a
        # connection that hangs does not use up all of it.
        share = deadline.left / 2 if repeat else deadline.left
        seconds = max(share, min(deadline.left, _MIN_ATTEMPT_SECONDS))
        if seconds <= 0:
            break
        outcome = yield replace(request, seconds=seconds)
        failure = find_failure(outcome)
        if failure is None:
            assert isinstance(outcome, Answer)  # noqa: S101  # for mypy
            return outcome
        if not isinstance(failure.error, Unavailable):
            raise failure.error
        if failure.is_outcome_unknown:
            attempts.last_unknown = failure.error
        pause = failure.retry_after + jitter(count)
        may_retry = repeat or not failure.is_outcome_unknown
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


def find_failure(outcome: Outcome) -> Failure | None:
    """Return the failure that an outcome represents, or None for a success."""
    if isinstance(outcome, NoAnswer):
        return Failure(Unavailable(outcome.reason), is_outcome_unknown=outcome.sent)
    assert outcome is not None  # noqa: S101  # only a Wait has no outcome
    document = _parse_json(outcome)
    if outcome.status < 300:
        if document is not None or outcome.status == 204:
            return None
        return Failure(Unavailable("the answer can't be read"), is_outcome_unknown=True)
    error = _error(outcome, document if isinstance(document, dict) else {})
    return Failure(
        error, is_outcome_unknown=outcome.status >= 500, retry_after=_retry_after(outcome)
    )


def _parse_json(answer: Answer) -> Any:
    """Return the document in the body, or None if the body is not JSON."""
    try:
        return answer.json
    except ValueError:
        return None


def _error(answer: Answer, problem: Mapping[str, Any]) -> SessionsError:
    """Build the exception for an error response.

    The service identifies its errors by `code`. API Gateway's own errors have only a `message`.
    """
    kind = _BY_CODE.get(problem.get("code", "")) or _BY_STATUS.get(answer.status)
    if kind is None:
        kind = Unavailable if answer.status >= 500 else SessionsError
    detail = problem.get("detail") or problem.get("message") or f"HTTP status {answer.status}"
    return kind(
        detail,
        status=answer.status,
        request_id=problem.get("instance") or answer.headers.get("apigw-requestid"),
        errors=[
            FieldError(error["pointer"], error["detail"]) for error in problem.get("errors", ())
        ],
    )


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
