"""A network between the function and its table. It delays or loses requests, cuts off answers, and
returns errors.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from random import Random
from typing import Any

from dynamodb.connection import ANSWER_SECONDS, CONNECT_SECONDS, Answer
from dynamodb.errors import TransientError
from tests.mapping.mapping import Clock, Killed

# Executes a request with a body in JSON, as DynamoDB does.
Upstream = Callable[[dict[str, str], bytes], Answer]

_THROTTLED = (
    (400, "ThrottlingException"),
    (400, "ProvisionedThroughputExceededException"),
    (400, "RequestLimitExceeded"),
    (500, "InternalServerError"),
    (503, "ServiceUnavailable"),
)
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchStatementError.html
_BY_STATEMENT = (
    *("ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded"),
    *("InternalServerError", "TransactionConflict"),
)
_TIMEOUT_SECONDS = CONNECT_SECONDS + ANSWER_SECONDS
_LONGEST_DELAY_SECONDS = 20.0
_PARTITIONS = 8
# The share of invocations during which partitions are throttled, relative to the share of requests
# with a fault. With a fault in 14 % of the requests, it is 7 % of the invocations.
_THROTTLED_INVOCATIONS = 0.5


class Network:
    """Sends the requests of the lean client, as its `Transport`.

    `fault_share` is the share of requests with a fault. All kinds of faults are equally likely.
    `kill_share` is the share of requests during which the function is killed. During some
    invocations, one partition or all partitions of the table are throttled.

    `outage` gets a time and returns how DynamoDB fails for all requests at that time: the code of
    an error, "silent" if it does not answer, or None if there is no outage. `spoiled` maps the id
    of each session whose events break a rule of DynamoDB to that rule, "number" or "size". `seen`
    counts what happened, by kind.
    """

    host = "dynamodb.us-east-1.amazonaws.com"

    def __init__(
        self,
        upstream: Upstream,
        clock: Clock,
        *,
        random: Random,
        fault_share: float,
        kill_share: float,
    ) -> None:
        self.seen: Counter[str] = Counter()
        self.requests = 0
        self.outage: Callable[[float], str | None] = lambda _: None
        self.spoiled: dict[str, str] = {}
        self._upstream = upstream
        self._clock = clock
        self._random = random
        self._fault_share = fault_share
        self._kill_share = kill_share
        self._delayed: list[tuple[float, dict[str, str], bytes]] = []
        self._throttled_partitions: Collection[int] = ()
        self._kinds = {
            "throttled": self._throttle,
            "timed out, not carried out": self._lose,
            "timed out, carried out": self._lose_answer,
            "timed out, carried out later": self._delay,
            "cut": self._cut,
            "partly refused": self._refuse_some,
        }

    @property
    def faults(self) -> int:
        return sum(self.seen[kind] for kind in self._kinds)

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        self.requests += 1
        self.settle(self._clock.now)
        self._clock.spend(0.01)
        if code := self.outage(self._clock.now):
            return self._answer_in_outage(code, body)
        if self._random.random() < self._kill_share:
            return self._kill(headers, body)
        if self._throttled_partitions and any(map(self._is_throttled, _targets(body))):
            self.seen["partly refused"] += 1
            return self._refuse(headers, body, self._is_throttled)
        if self._random.random() >= self._fault_share:
            return self._execute(headers, body)
        kind = self._random.choice(list(self._kinds))
        self.seen[kind] += 1
        return self._kinds[kind](headers, body)

    def begin(self) -> None:
        """Begin an invocation, and choose the partitions that are throttled during it."""
        throttled = self._random.random() < self._fault_share * _THROTTLED_INVOCATIONS
        count = self._random.choice((1, 1, 1, _PARTITIONS))
        self._throttled_partitions = (
            self._random.sample(range(_PARTITIONS), count) if throttled else ()
        )

    def close(self) -> None:
        """Do nothing, because there are no connections."""

    def settle(self, now: float = float("inf")) -> None:
        """Execute the delayed requests up to this time."""
        for delayed in [delayed for delayed in self._delayed if delayed[0] <= now]:
            self._delayed.remove(delayed)
            self._execute(*delayed[1:])

    def _execute(self, headers: dict[str, str], body: bytes) -> Answer:
        if self.spoiled and not _is_read(body):
            body = self._spoil(body)
        return self._upstream(headers, body)

    def _answer_in_outage(self, code: str, body: bytes) -> Answer:
        self.seen["outage"] += 1
        if code == "silent":
            return self._lose()
        if code in ("AccessDenied", "ResourceNotFound") and not _is_read(body):
            error = {"Error": {"Code": code, "Message": "no"}}
            return _answer(200, {"Responses": [error for _ in json.loads(body)["Statements"]]})
        return _error(400, code if code.endswith("Exception") else f"{code}Exception")

    def _kill(self, headers: dict[str, str], body: bytes) -> Answer:
        self.seen["kill"] += 1
        if self._random.random() < 0.5:
            self._execute(headers, body)
        raise Killed

    def _throttle(self, *_: Any) -> Answer:
        return _error(*self._random.choice(_THROTTLED))

    def _lose(self, *_: Any) -> Answer:
        self._clock.spend(_TIMEOUT_SECONDS)
        raise TransientError("TimeoutError")

    def _lose_answer(self, headers: dict[str, str], body: bytes) -> Answer:
        self._execute(headers, body)
        return self._lose()

    def _delay(self, headers: dict[str, str], body: bytes) -> Answer:
        delay = self._random.uniform(_TIMEOUT_SECONDS, _LONGEST_DELAY_SECONDS)
        executed_at = self._clock.now + delay
        self._delayed.append((executed_at, headers, body))
        return self._lose()

    def _cut(self, headers: dict[str, str], body: bytes) -> Answer:
        answer = self._execute(headers, body)
        half = answer.body[: len(answer.body) // 2]
        return Answer(answer.status, zlib.crc32(answer.body), half)

    def _refuse_some(self, headers: dict[str, str], body: bytes) -> Answer:
        return self._refuse(headers, body, lambda _: self._random.random() < 0.3)

    def _is_throttled(self, target: Any) -> bool:
        """Return whether the partition of `target`, a statement or a key, is throttled."""
        item_or_key = insert(target) if "Statement" in target else target
        session_id = item_or_key["SessionId"]["S"]
        return zlib.crc32(session_id.encode()) // 7 % _PARTITIONS in self._throttled_partitions

    def _refuse(
        self, headers: dict[str, str], body: bytes, is_refused: Callable[[Any], bool]
    ) -> Answer:
        """Execute a part of a request.

        The refused statements of a write get an error. The refused keys of a read are returned as
        unprocessed.
        """
        if _is_read(body):
            [(name, request)] = json.loads(body)["RequestItems"].items()
            keys = [key for key in request["Keys"] if not is_refused(key)]
            unprocessed = [key for key in request["Keys"] if key not in keys]
            result: dict[str, Any] = {"Responses": {}}
            if keys:
                reduced = json.dumps({"RequestItems": {name: {**request, "Keys": keys}}})
                result = json.loads(self._execute(headers, reduced.encode()).body)
            result["UnprocessedKeys"] = {name: {**request, "Keys": unprocessed}}
            return _answer(200, result)
        statements = json.loads(body)["Statements"]
        accepted = [i for i, statement in enumerate(statements) if not is_refused(statement)]
        responses: list[Any] = [
            {"Error": {"Code": self._random.choice(_BY_STATEMENT), "Message": "no"}}
            for _ in statements
        ]
        if accepted:
            reduced = json.dumps({"Statements": [statements[i] for i in accepted]})
            answer = self._execute(headers, reduced.encode())
            if answer.status != 200:
                return answer
            executed = json.loads(answer.body)["Responses"]
            for i, response in zip(accepted, executed, strict=True):
                responses[i] = response
        return _answer(200, {"Responses": responses})

    def _spoil(self, body: bytes) -> bytes:
        """Return the request with values that DynamoDB rejects in the events of the `spoiled`
        sessions, as if the function had a bug.
        """
        request = json.loads(body)
        for statement in request["Statements"]:
            item = insert(statement)
            rule = self.spoiled.get(item["SessionId"]["S"])
            if rule and item["Type"] != {"S": "unreadable"}:
                wrong = {"number": {"N": "1" * 39}, "size": {"S": "x" * 410_000}}[rule]
                statement["Parameters"][list(item).index("At")] = wrong
        return json.dumps(request).encode()


def _is_read(body: bytes) -> bool:
    return "RequestItems" in json.loads(body)


def _targets(body: bytes) -> list[Any]:
    """Return the statements of a request, or the keys that it reads."""
    request = json.loads(body)
    if "Statements" in request:
        statements: list[Any] = request["Statements"]
        return statements
    return [key for table in request["RequestItems"].values() for key in table["Keys"]]


def insert(statement: Any) -> dict[str, Any]:
    """Return the item that a statement inserts."""
    names = re.findall(r"'(\w+)': \?", statement["Statement"])
    return dict(zip(names, statement["Parameters"], strict=True))


def _answer(status: int, result: Any) -> Answer:
    body = json.dumps(result).encode()
    return Answer(status, zlib.crc32(body), body)


def _error(status: int, code: str) -> Answer:
    error = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"}
    return _answer(status, error)
