"""A network between the function and its table, which delays, loses, cuts and refuses requests."""

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
_LATEST_SECONDS = 20.0
_PARTITIONS = 8
# How often a part of the table is throttled, relative to the faults of single requests.
_SPELLS = 0.5


class Network:
    """Sends the requests of the lean client, as its `Transport`.

    `faults` is the share of requests with a fault, with the same share for each kind. `kills` is
    the share of requests in which the function is killed. Sometimes a part of the table is
    throttled for a longer time. `outage` returns how DynamoDB refuses everything at a time: the
    code of an error, "silent", or None. `spoiled` are sessions whose events break a rule of
    DynamoDB: "number" or "size". `seen` counts what happened, by kind.
    """

    host = "dynamodb.us-east-1.amazonaws.com"

    def __init__(
        self, upstream: Upstream, clock: Clock, *, random: Random, faults: float, kills: float
    ) -> None:
        self.seen: Counter[str] = Counter()
        self.requests = 0
        self.outage: Callable[[float], str | None] = lambda _: None
        self.spoiled: dict[str, str] = {}
        self._upstream = upstream
        self._clock = clock
        self._random = random
        self._faults = faults
        self._kills = kills
        self._late: list[tuple[float, dict[str, str], bytes]] = []
        self._hot: Collection[int] = ()
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
            return self._be_out(code, body)
        if self._random.random() < self._kills:
            return self._kill(headers, body)
        if self._hot and any(map(self._is_hot, _parts(body))):
            self.seen["partly refused"] += 1
            return self._refuse(headers, body, self._is_hot)
        if self._random.random() >= self._faults:
            return self._land(headers, body)
        kind = self._random.choice(list(self._kinds))
        self.seen[kind] += 1
        return self._kinds[kind](headers, body)

    def begin(self) -> None:
        """Begin an invocation. During some invocations, a part of the table is throttled."""
        spell = self._random.random() < self._faults * _SPELLS
        parts = self._random.choice((1, 1, 1, _PARTITIONS))
        self._hot = self._random.sample(range(_PARTITIONS), parts) if spell else ()

    def close(self) -> None:
        """Do nothing, because there are no connections."""

    def settle(self, now: float = float("inf")) -> None:
        """Execute the delayed requests up to this time."""
        for late in [late for late in self._late if late[0] <= now]:
            self._late.remove(late)
            self._land(*late[1:])

    def _land(self, headers: dict[str, str], body: bytes) -> Answer:
        spoils = self.spoiled and not _is_read(body)
        return self._upstream(headers, self._spoil(body) if spoils else body)

    def _be_out(self, code: str, body: bytes) -> Answer:
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
            self._land(headers, body)
        raise Killed

    def _throttle(self, *_: Any) -> Answer:
        return _error(*self._random.choice(_THROTTLED))

    def _lose(self, *_: Any) -> Answer:
        self._clock.spend(_TIMEOUT_SECONDS)
        raise TransientError("TimeoutError")

    def _lose_answer(self, headers: dict[str, str], body: bytes) -> Answer:
        self._land(headers, body)
        return self._lose()

    def _delay(self, headers: dict[str, str], body: bytes) -> Answer:
        lands = self._clock.now + self._random.uniform(_TIMEOUT_SECONDS, _LATEST_SECONDS)
        self._late.append((lands, headers, body))
        return self._lose()

    def _cut(self, headers: dict[str, str], body: bytes) -> Answer:
        landed = self._land(headers, body)
        half = landed.body[: len(landed.body) // 2]
        return Answer(landed.status, zlib.crc32(landed.body), half)

    def _refuse_some(self, headers: dict[str, str], body: bytes) -> Answer:
        return self._refuse(headers, body, lambda _: self._random.random() < 0.3)

    def _is_hot(self, part: Any) -> bool:
        """Return whether the part of the table with `part`, a statement or a key, is throttled."""
        session_id = (insert(part) if "Statement" in part else part)["SessionId"]["S"]
        return zlib.crc32(session_id.encode()) // 7 % _PARTITIONS in self._hot

    def _refuse(
        self, headers: dict[str, str], body: bytes, refused: Callable[[Any], bool]
    ) -> Answer:
        """Refuse some statements with an error each, and execute the others.

        In a read, leave some keys unprocessed.
        """
        if _is_read(body):
            [(name, request)] = json.loads(body)["RequestItems"].items()
            keys = [key for key in request["Keys"] if not refused(key)]
            left = [key for key in request["Keys"] if key not in keys]
            result: dict[str, Any] = {"Responses": {}}
            if keys:
                part = json.dumps({"RequestItems": {name: {**request, "Keys": keys}}}).encode()
                result = json.loads(self._land(headers, part).body)
            return _answer(200, {**result, "UnprocessedKeys": {name: {**request, "Keys": left}}})
        statements = json.loads(body)["Statements"]
        passed = [i for i, statement in enumerate(statements) if not refused(statement)]
        responses: list[Any] = [
            {"Error": {"Code": self._random.choice(_BY_STATEMENT), "Message": "no"}}
            for _ in statements
        ]
        if passed:
            rest = json.dumps({"Statements": [statements[i] for i in passed]}).encode()
            answer = self._land(headers, rest)
            if answer.status != 200:
                return answer
            executed = json.loads(answer.body)["Responses"]
            for i, response in zip(passed, executed, strict=True):
                responses[i] = response
        return _answer(200, {"Responses": responses})

    def _spoil(self, body: bytes) -> bytes:
        """Send what DynamoDB rejects, as if the function had a bug."""
        request = json.loads(body)
        for statement in request["Statements"]:
            item = insert(statement)
            how = self.spoiled.get(item["SessionId"]["S"])
            if how and item["Type"] != {"S": "unreadable"}:
                wrong = {"number": {"N": "1" * 39}, "size": {"S": "x" * 410_000}}[how]
                statement["Parameters"][list(item).index("At")] = wrong
        return json.dumps(request).encode()


def _is_read(body: bytes) -> bool:
    return "RequestItems" in json.loads(body)


def _parts(body: bytes) -> list[Any]:
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
