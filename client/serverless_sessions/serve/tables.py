"""The service's two tables, in memory and in any time, with DynamoDB's answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from threading import RLock
from typing import Any, NamedTuple

from serverless_sessions.serve.expressions import (
    Invalid,
    Item,
    Unknown,
    check_update,
    holds,
    projected,
    updated,
)
from serverless_sessions.serve.item_size import MAX_ITEM_BYTES, size_of
from serverless_sessions.serve.views import View

Key = tuple[str, ...]
_KEYS = {"sessions": ("SessionId",), "audit": ("SessionId", "EventId")}
# The attributes of keys, with their types.
_TYPES = {"SessionId": "S", "EventId": "S", "UserId": "S", "CreatedAt": "N"}
# The attributes in the keys of UserIndex.
_INDEXES = {"sessions": ("UserId", "CreatedAt"), "audit": ("UserId", "EventId")}
_TTL = {"userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"}}
_INSERT = re.compile(r'INSERT INTO "(.+)" VALUE {(.+)}')
_PARTITION = re.compile(r"(\w+) = (:\w+)(?: AND .+)?")
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
_MAX_STATEMENTS, _MAX_KEYS = 25, 100


class Refused(Exception):
    """DynamoDB rejects the request. `answer` is the body of its response."""

    def __init__(self, code: str, **facts: Any) -> None:
        super().__init__(code)
        self.answer = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", **facts}


class Tables:
    """The tables `sessions` and `audit`, their indexes, and the stream of `sessions`.

    `clock` returns the current time in epoch seconds. `lag` returns the delay in seconds with which
    the index shows the next write. `wrote` is called with the old and the new item after every
    change of `sessions`. Several threads can use the tables.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        lag: Callable[[], float],
        wrote: Callable[[Item, Item], None],
    ) -> None:
        self.lock = RLock()
        self._clock = clock
        self._lag = lag
        self._wrote = wrote
        self._records = 0
        self.clear()

    def clear(self) -> None:
        """Delete everything without a record in the stream."""
        with self.lock:
            self.items: dict[str, dict[Key, Item]] = {name: {} for name in _KEYS}
            self.stream: list[dict[str, Any]] = []
            self._indexes = {
                "sessions": View("UserId", "CreatedAt", keep=("SessionId", "UserId", "CreatedAt")),
                "audit": View("UserId", "EventId"),
            }
            self._events = View("SessionId", "EventId")

    def answer(self, operation: str, body: bytes) -> tuple[int, bytes]:
        """Return the status and the body of DynamoDB's answer to a request."""
        try:
            with self.lock:
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
        with self.lock:
            self._put("sessions", (session_id,), {}, **_TTL)

    def take_records(self, count: int) -> list[dict[str, Any]]:
        """Remove the oldest records from the stream, at most `count`, and return them."""
        with self.lock:
            records, self.stream[:count] = self.stream[:count], []
        return records

    def shows(self, session_id: str, at: float) -> bool:
        """Return whether the index showed a session at the time `at`."""
        return self._indexes["sessions"].shows((session_id,), at)

    def forget(self) -> None:
        """Forget what the indexes no longer show. After that, `shows` is only true of the rest."""
        with self.lock:
            for view in self._indexes.values():
                view.forget(self._clock())

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
        if not by_index and (name != "audit" or request.get("ConsistentRead") is not True):
            raise Unknown("a query of Sessions, or an eventually consistent one")
        view = self._indexes[name] if by_index else self._events
        condition = request["KeyConditionExpression"]
        partition = _PARTITION.fullmatch(condition)
        if not partition or partition[1] != view.partition:
            raise Unknown(condition)
        page = view.find(
            _text(request["ExpressionAttributeValues"][partition[2]]),
            lambda item: holds(condition, _scope(request, item)),
            now=self._clock(),
            limit=request["Limit"],
            after=request.get("ExclusiveStartKey"),
            backwards=request.get("ScanIndexForward") is False,
        )
        keys = {*_KEYS[name], *(_INDEXES[name] if by_index else ())}
        more = len(page) == request["Limit"]
        last = {"LastEvaluatedKey": {key: page[-1][key] for key in keys}} if more else {}
        return {"Items": page, "Count": len(page)} | last

    def _BatchGetItem(self, request: Any) -> Any:  # noqa: N802
        _expect(request, "RequestItems")
        [(name, read)] = request["RequestItems"].items()
        _expect(read, "Keys", "ProjectionExpression", "ConsistentRead")
        if read.get("ConsistentRead") is not True:
            raise Unknown("an eventually consistent read")
        keys = [_key(name, key) for key in read["Keys"]]
        if len(keys) > _MAX_KEYS or len(set(keys)) < len(keys):
            raise Invalid("too many keys, or one twice")
        items = [self.items[name].get(key) for key in keys]
        return {"Responses": {name: [_project(read, item) for item in items if item]}}

    def _BatchExecuteStatement(self, request: Any) -> Any:  # noqa: N802
        _expect(request, "Statements")
        keys = [self._key_of(statement) for statement in request["Statements"]]
        if len(keys) > _MAX_STATEMENTS or len(set(keys)) < len(keys):
            raise Invalid("too many statements, or two for one key")
        return {"Responses": [self._execute(statement) for statement in request["Statements"]]}

    def _key_of(self, statement: Any) -> Any:
        insert = _insert(statement["Statement"])
        return insert.table, *_key(insert.table, insert.item(statement["Parameters"]))

    def _execute(self, statement: Any) -> Any:
        insert = _insert(statement["Statement"])
        item = insert.item(statement["Parameters"])
        key = _key(insert.table, item)
        if key in self.items[insert.table]:
            return {"Error": {"Code": "DuplicateItem", "Message": "exists"}}
        try:
            self._put(insert.table, key, item)
        except Invalid as invalid:
            return {"Error": {"Code": "ValidationError", "Message": str(invalid)}}
        return {"TableName": insert.table}

    def _put(self, name: str, key: Key, new: Item, **identity: Any) -> None:
        """Store an item, or delete it if `new` is {}. The index shows the change later."""
        if new:
            _check(name, new)
        now, old = self._clock(), self.items[name].pop(key, {})
        if new:
            self.items[name][key] = new
        lag = self._lag() if bool(old) != bool(new) else 0.0
        self._indexes[name].put(key, old, new, at=now + lag)
        if name == "audit":
            self._events.put(key, old, new, at=now)
        if name == "sessions" and old != new:
            self._record(now, key, old, new, identity)
            self._wrote(old, new)

    def _record(self, now: float, key: Key, old: Item, new: Item, identity: Any) -> None:
        self._records += 1
        change = {
            "ApproximateCreationDateTime": int(now),
            "Keys": {"SessionId": {"S": key[0]}},
            "SequenceNumber": str(self._records),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **({"OldImage": old} if old else {}),
            **({"NewImage": new} if new else {}),
        }
        kind = "MODIFY" if old and new else "INSERT" if new else "REMOVE"
        self.stream.append({"eventName": kind, "dynamodb": change, **identity})


class _Insert(NamedTuple):
    """A PartiQL INSERT: its table, and the names of the attributes in the order of parameters."""

    table: str
    names: list[str]

    def item(self, parameters: list[Any]) -> Item:
        return dict(zip(self.names, parameters, strict=True))


@cache
def _insert(statement: str) -> _Insert:
    insert = _INSERT.fullmatch(statement)
    if not insert:
        raise Unknown(statement)
    return _Insert(insert[1], re.findall(r"'(\w+)': \?", insert[2]))


def _expect(request: Any, *names: str) -> None:
    if unknown := request.keys() - set(names):
        raise Unknown(f"the parameters {sorted(unknown)}")


def _key(name: str, item: Item) -> Key:
    return tuple(_text(item.get(attribute, {})) for attribute in _KEYS[name])


def _text(value: Any) -> str:
    """Return the text of a key."""
    text = value.get("S")
    if not isinstance(text, str) or not text:
        raise Invalid("a key must be a string that is not empty")
    return text


def _check(name: str, item: Item) -> None:
    """Raise `Invalid` if the index can't take the item, or if it is too large."""
    for attribute in _INDEXES[name]:
        value = item.get(attribute)
        if value is not None and not value.get(_TYPES[attribute]):
            raise Invalid(f"the key {attribute} of the index is empty, or has another type")
    if size_of(item) > MAX_ITEM_BYTES:
        raise Invalid("Item size has exceeded the maximum allowed size")


def _scope(request: Any, item: Item) -> Any:
    names = request.get("ExpressionAttributeNames", {})
    return item, names, request.get("ExpressionAttributeValues", {})


def _project(request: Any, item: Item) -> Item:
    expression = request.get("ProjectionExpression")
    return projected(expression, item) if expression else item
