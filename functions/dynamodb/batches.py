"""Many reads or statements in few requests. What DynamoDB leaves over is retried."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import clock
from dynamodb.errors import DynamoDBError, RequestRefused, TransientError

# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
KEYS_PER_REQUEST = 100
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
_STATEMENTS_PER_REQUEST = 25
_READ_TRIES, _READ_PAUSE_SECONDS = 5, 0.05
_TRIES, _PAUSE_SECONDS = 4, 0.1
# Errors that a retry can't fix. The first two refuse a whole request, the last one a statement. Any
# other error, such as a missing permission or table, may be gone later.
_PERMANENT_ERRORS = "ValidationException", "SerializationException", "ValidationError"
# The statement is correct, but the item in the table does not allow it.
_CONDITION_FAILED = "ConditionalCheckFailed", "DuplicateItem"

T = TypeVar("T")


class Client(Protocol):
    """The operations that this module needs, with the signatures of boto3's low-level client."""

    def batch_get_item(self, **request: Any) -> dict[str, Any]: ...
    def batch_execute_statement(self, **request: Any) -> dict[str, Any]: ...


class OutOfTime(Exception):
    """The deadline has passed."""


class Failures(NamedTuple, Generic[T]):
    """What was not executed.

    A retry can fix `temporary` failures, but not `permanent` ones. `cause` is the code of the last
    temporary failure. If `condition_failed`, the key of an INSERT is taken, or the condition of
    another statement does not hold.
    """

    temporary: list[T]
    permanent: list[T]
    condition_failed: list[T]
    cause: str


def is_permanent(refusal: RequestRefused) -> bool:
    """Whether DynamoDB refuses this request for what it contains, and would do so again."""
    return refusal.code in _PERMANENT_ERRORS


def read(
    client: Client,
    table_name: str,
    keys: Sequence[dict[str, Any]],
    *,
    attributes: str,
    deadline: float,
) -> Iterator[dict[str, Any]]:
    """Read these attributes of at most 100 items with strong consistency, in any order.

    Raises `DynamoDBError`, and `OutOfTime` instead of beginning a request after `deadline`, by
    `clock.monotonic()`.
    """
    if not keys:
        return
    request: Any = {
        table_name: {
            "Keys": keys,
            "ProjectionExpression": attributes,
            "ConsistentRead": True,
        }
    }
    for attempt in range(_READ_TRIES):
        if attempt:
            clock.sleep(_READ_PAUSE_SECONDS * 2**attempt)
        check_time(deadline)
        answer = client.batch_get_item(RequestItems=request)
        yield from answer["Responses"].get(table_name, [])
        request = answer.get("UnprocessedKeys")
        if not request:
            return
    raise TransientError("keys left unprocessed")


def execute(
    client: Client,
    things: Iterable[T],
    statement: Callable[[T], dict[str, Any]],
    *,
    deadline: float,
) -> Failures[T]:
    """Execute the PartiQL statement of each thing. The statements of a request have distinct keys.

    `statement` is called again for every request, immediately before it is sent. No request and no
    pause begins after `deadline`, by `clock.monotonic()`.
    """
    outcome = Failures[T]([], [], [], "")
    waiting = list(things)
    for attempt in range(_TRIES):
        if attempt:
            clock.sleep(_PAUSE_SECONDS * 2**attempt)
        once = _execute_once(client, waiting, statement, deadline)
        outcome = Failures(
            once.temporary,
            outcome.permanent + once.permanent,
            outcome.condition_failed + once.condition_failed,
            once.cause,
        )
        waiting = once.temporary
        if not waiting or clock.monotonic() > deadline:
            break
    return outcome


def _execute_once(
    client: Client, things: list[T], statement: Callable[[T], dict[str, Any]], deadline: float
) -> Failures[T]:
    temporary, permanent, condition_failed = list[T](), list[T](), list[T]()
    cause = ""
    batches = deque(
        things[start : start + _STATEMENTS_PER_REQUEST]
        for start in range(0, len(things), _STATEMENTS_PER_REQUEST)
    )
    while batches:
        batch = batches.popleft()
        if clock.monotonic() > deadline:
            cause = "out of time"
            temporary.extend(batch)
            continue
        statements = [statement(thing) for thing in batch]
        try:
            answer = client.batch_execute_statement(Statements=statements)
        except RequestRefused as refusal:
            if not is_permanent(refusal):
                cause = refusal.code
                temporary.extend(batch)
            elif len(batch) > 1:
                # One bad statement, for example with a malformed number, fails the whole request.
                batches.extendleft([thing] for thing in batch)
            else:
                permanent.extend(batch)
            continue
        except DynamoDBError as failure:
            cause = str(failure)
            temporary.extend(batch)
            continue
        for thing, response in zip(batch, answer["Responses"], strict=True):
            code = response.get("Error", {}).get("Code")
            if code in _PERMANENT_ERRORS:
                permanent.append(thing)
            elif code in _CONDITION_FAILED:
                condition_failed.append(thing)
            elif code:
                cause = code
                temporary.append(thing)
    return Failures(temporary, permanent, condition_failed, cause)


def check_time(deadline: float) -> None:
    """Raise `OutOfTime` if `deadline` has passed, by `clock.monotonic()`."""
    if clock.monotonic() > deadline:
        raise OutOfTime
