"""The functions of prompt expiry in simulated time, on tables in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from dynamodb.connection import Answer
from serverless_sessions.serve.expressions import Item, Unknown, holds, updated
from serverless_sessions.serve.tables import Refused, Tables
from tests.simulation.world import Call, Request, World
from tests.support.functions import lambda_context
from tests.support.timers import TABLE, expiry_function

# Fewer partitions than in the functions, so that a run takes fewer requests.
SHARDS = 2
_INSERT = re.compile(rf"INSERT INTO \"{TABLE}\" VALUE {{(.+)}}")
_DELETE = re.compile(r'DELETE FROM "sessions" WHERE SessionId = \? AND (.+)')


class Killed(Exception):
    """Lambda or the host has ended the function."""


class TimerTables(Tables):
    """The tables of the service, and `Timers`, whose items are in `timers` by both keys."""

    def __init__(
        self,
        clock: Callable[[], float],
        lag: Callable[[], float],
        wrote: Callable[[Item, Item], None],
    ) -> None:
        super().__init__(clock, lag, wrote)
        self.timers: dict[str, dict[str, Item]] = {}

    def _Query(self, request: Any) -> Any:  # noqa: N802
        if request["TableName"] != TABLE:
            return super()._Query(request)
        if request.get("ConsistentRead") is not True:
            raise Unknown("an eventually consistent read")
        values = {n: v["S"] for n, v in request["ExpressionAttributeValues"].items()}
        if request["KeyConditionExpression"] == "Slot = :cursor":
            return {"Items": list(self.timers.get(values[":cursor"], {}).values())}
        if request["KeyConditionExpression"] != "Slot = :slot AND Due BETWEEN :start AND :stop":
            raise Unknown(request["KeyConditionExpression"])
        after = request.get("ExclusiveStartKey", {"Due": {"S": ""}})["Due"]["S"]
        items = [
            item
            for due, item in sorted(self.timers.get(values[":slot"], {}).items())
            if values[":start"] <= due <= values[":stop"] and due > after
        ]
        page = items[: request["Limit"]]
        key = {name: page[-1][name] for name in ("Slot", "Due")} if page != items else {}
        return {"Items": page} | ({"LastEvaluatedKey": key} if key else {})

    def _UpdateItem(self, request: Any) -> Any:  # noqa: N802
        if request["TableName"] != TABLE:
            return super()._UpdateItem(request)
        slot, due = (request["Key"][name]["S"] for name in ("Slot", "Due"))
        old = self.timers.get(slot, {}).get(due, {})
        values = request["ExpressionAttributeValues"]
        if not holds(request["ConditionExpression"], (old, {}, values)):
            raise Refused("ConditionalCheckFailedException")
        new = updated(request["UpdateExpression"], (old or request["Key"], {}, values))
        self.timers.setdefault(slot, {})[due] = new
        return {}

    def _key_of(self, statement: Any) -> Any:
        return str(statement["Parameters"][:2])

    def _execute(self, statement: Any) -> Any:
        if delete := _DELETE.fullmatch(statement["Statement"]):
            return self._delete(delete[1], *statement["Parameters"])
        insert = _INSERT.fullmatch(statement["Statement"])
        if not insert:
            return super()._execute(statement)
        names = re.findall(r"'(\w+)': \?", insert[1])
        item = dict(zip(names, statement["Parameters"], strict=True))
        slot = self.timers.setdefault(item["Slot"]["S"], {})
        if item["Due"]["S"] in slot:
            return {"Error": {"Code": "DuplicateItem", "Message": "exists"}}
        slot[item["Due"]["S"]] = item
        return {}

    def _delete(self, conditions: str, key: Any, *values: Any) -> Any:
        """Like DynamoDB Local, report no error if there is nothing to delete."""
        item = self.session(key["S"])
        expression = re.sub(r"(\w+) IS MISSING", r"attribute_not_exists(\1)", conditions)
        scope: Any = (item, {}, {":value": values[0]})
        if item and not holds(expression.replace("?", ":value"), scope):
            return {"Error": {"Code": "ConditionalCheckFailed", "Message": "failed"}}
        if item:
            self._put("sessions", (key["S"],), {})
        return {}


class ExpiryWorld(World):
    """A deployment with prompt expiry. `metrics` are those of the sweeper's runs."""

    tables: TimerTables

    def __init__(
        self, ttl_late: float, on_write: Callable[[Item, Item, Request | None], None]
    ) -> None:
        super().__init__(1.0, ttl_late, on_write)
        self.tables = TimerTables(lambda: self.time.now, lambda: 1.0, self._wrote)
        self.timers = expiry_function("session_timers")
        self.sweeper = expiry_function("session_sweeper")
        self.metrics: list[dict[str, Any]] = []

    @contextmanager
    def installed(self) -> Iterator[ExpiryWorld]:
        def emit(sweep: Any, _: str) -> None:
            self.metrics.append(vars(sweep))

        with super().installed(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.timers, "record_anonymous", True)
            patch.setattr(self.sweeper, "_emit_metrics", emit)
            patch.setattr("expiry.timers.SHARDS", SHARDS)
            yield self

    def set_timers(self, call: Call, records: list[dict[str, Any]]) -> None:
        """Send a batch to the consumer. `call.body` is None if the consumer was killed."""

        def handle() -> None:
            with suppress(Killed):
                call.body = self.timers.lambda_handler({"Records": records}, lambda_context())

        self._run(call, handle)

    def sweep(self, call: Call) -> None:
        def handle() -> None:
            with suppress(Killed):
                self.sweeper.lambda_handler({}, lambda_context())

        self._run(call, handle)

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        """The number of requests after which a function is killed is in its call's facts."""
        assert self.call
        if len(self.call.requests) >= self.call.facts.get("killed_after", 10**9):
            raise Killed
        return super().exchange(headers, body, deadline)
