"""The service's two tables, in memory and in simulated time, with DynamoDB's answers."""

from __future__ import annotations

import json
import re
from bisect import insort
from collections.abc import Callable
from typing import Any

from serverless_sessions.serve.expressions import (
    Invalid,
    Item,
    Unknown,
    check_update,
    holds,
    order,
    projected,
    updated,
)

Key = tuple[str, ...]
_TABLES = {"sessions": ("SessionId",), "audit": ("SessionId", "EventId")}
_INDEXES = {"sessions": ("UserId", "CreatedAt"), "audit": ("UserId", "EventId")}
_TTL = {"userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"}}
_INSERT = re.compile(r'INSERT INTO "(.+)" VALUE {(.+)}')


class Refused(Exception):
    """DynamoDB rejects the request. `answer` is the body of its response."""

    def __init__(self, code: str, **facts: Any) -> None:
        super().__init__(code)
        self.answer = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", **facts}


class Tables:
    """The tables `sessions` and `audit`, their indexes, and the stream of `sessions`.

    `clock` returns the current time in epoch seconds. `lag` returns the delay in seconds with which
    the index shows the next write. `wrote` is called with the old and the new item after every
    change of `sessions`.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        lag: Callable[[], float],
        wrote: Callable[[Item, Item], None],
    ) -> None:
        self.items: dict[str, dict[Key, Item]] = {name: {} for name in _TABLES}
        self.stream: list[dict[str, Any]] = []
        self._clock = clock
        self._lag = lag
        self._wrote = wrote
        # The index entries by key: the item, and the time from which and until which it is shown.
        self._index: dict[str, dict[Key, list[Any]]] = {name: {} for name in _TABLES}

    def answer(self, operation: str, body: bytes) -> tuple[int, bytes]:
        """Return the status and the body of DynamoDB's answer to a request."""
        try:
            result = getattr(self, f"_{operation}")(json.loads(body))
        except Refused as refused:
            return 400, json.dumps(refused.answer).encode()
        except Invalid as invalid:
            error = {"__type": "x#ValidationException", "message": str(invalid)}
            return 400, json.dumps(error).encode()
        return 200, json.dumps(result).encode()

    def session(self, session_id: str) -> Item:
        """Return the session's item, or {} if there is none."""
        return self.items["sessions"].get((session_id,), {})

    def remove_expired(self, session_id: str) -> None:
        """Delete a session as TTL does."""
        self._put("sessions", (session_id,), {}, **_TTL)

    def shows(self, session_id: str, at: float) -> bool:
        """Return whether the index showed a session at the time `at`."""
        entry = self._index["sessions"].get((session_id,))
        return entry is not None and entry[1] <= at < entry[2]

    def _GetItem(self, request: Any) -> Any:  # noqa: N802
        _expect(request, "TableName", "Key", "ConsistentRead", "ProjectionExpression")
        if request.get("ConsistentRead") is not True:
            raise Unknown("an eventually consistent read")
        item = self.items[request["TableName"]].get(_key(request["TableName"], request["Key"]))
        return {"Item": _project(request, item)} if item else {}

    def _PutItem(self, request: Any) -> Any:  # noqa: N802
        name, item = request["TableName"], request["Item"]
        self._write(request, name, _key(name, item), lambda _: item)
        return {}

    def _UpdateItem(self, request: Any) -> Any:  # noqa: N802
        name, key = request["TableName"], _key(request["TableName"], request["Key"])
        check_update(request["UpdateExpression"], request.get("ExpressionAttributeNames", {}))

        def update(old: Item) -> Item:
            return updated(request["UpdateExpression"], _scope(request, old or request["Key"]))

        new = self._write(request, name, key, update)
        return {"Attributes": new} if request.get("ReturnValues") == "ALL_NEW" else {}

    def _write(self, request: Any, name: str, key: Key, change: Callable[[Item], Item]) -> Item:
        _expect(
            request,
            *("TableName", "Key", "Item", "ConditionExpression", "UpdateExpression"),
            *("ExpressionAttributeNames", "ExpressionAttributeValues"),
            *("ReturnValues", "ReturnValuesOnConditionCheckFailure"),
        )
        old = self.items[name].get(key, {})
        if not holds(request["ConditionExpression"], _scope(request, old)):
            has_item = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and old
            raise Refused("ConditionalCheckFailedException", **({"Item": old} if has_item else {}))
        new = change(old)
        self._put(name, key, new)
        return new

    def _Query(self, request: Any) -> Any:  # noqa: N802
        _expect(
            request,
            *("TableName", "IndexName", "KeyConditionExpression", "ExpressionAttributeValues"),
            *("ScanIndexForward", "Limit", "ExclusiveStartKey", "ConsistentRead"),
        )
        name, by_index = request["TableName"], "IndexName" in request
        if not by_index and request.get("ConsistentRead") is not True:
            raise Unknown("an eventually consistent read")
        sort = (_INDEXES if by_index else _TABLES)[name][1]

        def position(item: Item) -> Any:
            return order(item[sort]), order(item["SessionId"])

        candidates: list[Item] = []
        for item in self._visible(name) if by_index else self.items[name].values():
            if holds(request["KeyConditionExpression"], _scope(request, item)):
                insort(candidates, item, key=position)
        newest_first = request.get("ScanIndexForward") is False
        if newest_first:
            candidates.reverse()
        if start := request.get("ExclusiveStartKey"):
            last_position = position(start)
            candidates = [
                item
                for item in candidates
                if (
                    position(item) < last_position
                    if newest_first
                    else position(item) > last_position
                )
            ]
        page = candidates[: request["Limit"]]
        keys = {*_TABLES[name], *(_INDEXES[name] if by_index else ())}
        more = len(page) == request["Limit"]
        last = {"LastEvaluatedKey": {key: page[-1][key] for key in keys}} if more else {}
        if by_index and name == "sessions":  # KEYS_ONLY
            page = [{key: item[key] for key in keys} for item in page]
        return {"Items": page, "Count": len(page)} | last

    def _BatchGetItem(self, request: Any) -> Any:  # noqa: N802
        _expect(request, "RequestItems")
        [(name, read)] = request["RequestItems"].items()
        _expect(read, "Keys", "ProjectionExpression", "ConsistentRead")
        if read.get("ConsistentRead") is not True:
            raise Unknown("an eventually consistent read")
        items = [self.items[name].get(_key(name, key)) for key in read["Keys"]]
        return {"Responses": {name: [_project(read, item) for item in items if item]}}

    def _BatchExecuteStatement(self, request: Any) -> Any:  # noqa: N802
        _expect(request, "Statements")
        return {"Responses": [self._insert(statement) for statement in request["Statements"]]}

    def _insert(self, statement: Any) -> Any:
        insert = _INSERT.fullmatch(statement["Statement"])
        if not insert:
            raise Unknown(statement["Statement"])
        names = re.findall(r"'(\w+)': \?", insert[2])
        item = dict(zip(names, statement["Parameters"], strict=True))
        key = _key(insert[1], item)
        if key in self.items[insert[1]]:
            return {"Error": {"Code": "DuplicateItem", "Message": "exists"}}
        self._put(insert[1], key, item)
        return {"TableName": insert[1]}

    def _put(self, name: str, key: Key, new: Item, **identity: Any) -> None:
        """Store an item, or delete it if `new` is {}. The index shows the change later."""
        now, old = self._clock(), self.items[name].pop(key, {})
        if new:
            self.items[name][key] = new
        if new and not old:
            self._index[name][key] = [new, now + self._lag(), float("inf")]
        if old and not new:
            self._index[name][key][2] = max(now + self._lag(), self._index[name][key][1])
        if name == "sessions" and old != new:
            self._record(now, key, old, new, identity)
            self._wrote(old, new)

    def _record(self, now: float, key: Key, old: Item, new: Item, identity: Any) -> None:
        change = {
            "ApproximateCreationDateTime": int(now),
            "Keys": {"SessionId": {"S": key[0]}},
            "SequenceNumber": str(len(self.stream) + 1),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **({"OldImage": old} if old else {}),
            **({"NewImage": new} if new else {}),
        }
        kind = "MODIFY" if old and new else "INSERT" if new else "REMOVE"
        self.stream.append({"eventName": kind, "dynamodb": change, **identity})

    def _visible(self, name: str) -> list[Item]:
        now = self._clock()
        return [item for item, since, until in self._index[name].values() if since <= now < until]


def _expect(request: Any, *names: str) -> None:
    if unknown := request.keys() - set(names):
        raise Unknown(f"the parameters {sorted(unknown)}")


def _key(name: str, item: Item) -> Key:
    return tuple(item[attribute]["S"] for attribute in _TABLES[name])


def _scope(request: Any, item: Item) -> Any:
    names = request.get("ExpressionAttributeNames", {})
    return item, names, request.get("ExpressionAttributeValues", {})


def _project(request: Any, item: Item) -> Item:
    expression = request.get("ProjectionExpression")
    return projected(expression, item) if expression else item
