"""What is sent and what comes back, without sending it.

A `Plan` is a generator: it yields what is to be done next, and is sent what came of it. Two thin
drivers do these things, one for threads and one for asyncio, so that every rule stands here once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from serverless_sessions._core import exact_json
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

_MAX_SENDS = 6
_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 2.0
# Under this, another send would hardly get an answer.
_LEAST_SECONDS = 0.25


@dataclass(frozen=True)
class Request:
    """One HTTP request, signed for a region and an AWS service, with `seconds` for all of it."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    region: str = ""
    signed_for: str = "execute-api"
    seconds: float = 0.0


@dataclass(frozen=True)
class Wait:
    """Do nothing for so long."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return exact_json.decode(self.body)


@dataclass(frozen=True)
class NoAnswer:
    """The request failed. `sent` is False if it certainly did not arrive."""

    why: str
    sent: bool


Outcome = Answer | NoAnswer | None
Result = TypeVar("Result")
Plan = Generator[Request | Wait, Outcome, Result]


class Deadline:
    """By when a call has to end."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._at - time.monotonic()


class Sends:
    """What became of the sends of one request: `unknown` is the last after which it may have been
    carried out all the same.
    """

    unknown: Unavailable | None = None


def call(
    request: Request, deadline: Deadline, *, repeat: bool = True, sends: Sends | None = None
) -> Plan[Answer]:
    """Send until it is answered, the deadline is near, or the sends are used up.

    Without `repeat`, a request that may have been carried out is not sent again. Raises the
    `SessionsError` that the last answer means.
    """
    sends = sends or Sends()
    for count in range(_MAX_SENDS):
        # Half of the time for the first send: a connection that hangs costs no more than that.
        share = deadline.left / 2 if repeat else deadline.left
        seconds = max(share, min(deadline.left, _LEAST_SECONDS))
        if seconds <= 0:
            break
        outcome = yield replace(request, seconds=seconds)
        failure = failed(outcome)
        if failure is None:
            assert isinstance(outcome, Answer)  # noqa: S101  # for mypy
            return outcome
        if not isinstance(failure.error, Unavailable):
            raise failure.error
        if failure.unknown:
            sends.unknown = failure.error
        pause = failure.retry_after + jitter(count)
        again = repeat or not failure.unknown
        if not again or count == _MAX_SENDS - 1 or pause >= deadline.left:
            raise failure.error
        yield Wait(pause)
    raise Unavailable("the deadline has passed")


def jitter(count: int) -> float:
    """Seconds to wait after the failure number `count`, so that callers do not come in step."""
    return random.uniform(0, min(_PAUSE_SECONDS * 2**count, _MAX_PAUSE_SECONDS))  # noqa: S311


@dataclass(frozen=True)
class Failure:
    """`unknown`: the request may have been carried out all the same."""

    error: SessionsError
    unknown: bool = False
    retry_after: float = 0.0


def failed(outcome: Outcome) -> Failure | None:
    """What is wrong with an outcome, None if it is a success."""
    if isinstance(outcome, NoAnswer):
        return Failure(Unavailable(outcome.why), unknown=outcome.sent)
    assert outcome is not None  # noqa: S101  # only a Wait has none
    parsed = _parsed(outcome)
    if outcome.status < 300:
        if parsed is not None or outcome.status == 204:
            return None
        return Failure(Unavailable("the answer can't be read"), unknown=True)
    error = _error(outcome, parsed if isinstance(parsed, dict) else {})
    return Failure(error, unknown=outcome.status >= 500, retry_after=_retry_after(outcome))


def _parsed(answer: Answer) -> Any:
    """None if it is no JSON."""
    try:
        return answer.json
    except ValueError:
        return None


def _error(answer: Answer, problem: Mapping[str, Any]) -> SessionsError:
    """The service names its errors by `code`. API Gateway answers with a `message` alone."""
    kind = _BY_CODE.get(problem.get("code", "")) or _BY_STATUS.get(answer.status)
    if kind is None:
        kind = Unavailable if answer.status >= 500 else SessionsError
    detail = problem.get("detail") or problem.get("message") or f"HTTP status {answer.status}"
    return kind(
        detail,
        status=answer.status,
        request_id=problem.get("instance") or answer.headers.get("apigw-requestid"),
        errors=[FieldError(each["pointer"], each["detail"]) for each in problem.get("errors", ())],
    )


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _codes(kind: type[SessionsError]) -> dict[str, type[SessionsError]]:
    found = {kind.code: kind} if kind.code else {}
    for each in kind.__subclasses__():
        found |= _codes(each)
    return found


# OutcomeUnknown and the like come without a code of the service.
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
