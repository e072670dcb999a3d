"""The tables in memory answer as DynamoDB Local does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from random import Random
from typing import Any

import pytest

from dynamodb.connection import Connections
from dynamodb.credentials import Credentials
from dynamodb.signature import signed_headers
from serverless_sessions.serve.expressions import Unknown, holds, projected, updated
from serverless_sessions.serve.item_size import MAX_ITEM_BYTES, size_of
from serverless_sessions.serve.tables import Tables
from tests.simulation.callers import live
from tests.simulation.story import draw
from tests.simulation.world import START
from tests.support.tables import created_tables, sdk

_STORIES = 60
_WRITES = 3000
_ATTRIBUTES = ("A", "B", "C", "RequestId")


@contextmanager
def empty_tables(endpoint: str) -> Iterator[Any]:
    """Create both tables on DynamoDB Local.

    Return a function that sends an operation and returns the status and the body.
    """
    with created_tables(sdk(endpoint)), closing(Connections(endpoint)) as connections:

        def ask(operation: str, body: bytes) -> tuple[int, Any]:
            key = Credentials("testing", "testing", "")
            headers = signed_headers(
                operation,
                body,
                host=connections.host,
                region="us-east-1",
                credentials=key,
                now=START,
            )
            answer = connections.exchange(headers, body, deadline=float("inf"))
            return answer.status, json.loads(answer.body)

        yield ask


def test_stories_are_answered_as_dynamodb_local_answers_them(dynamodb: str) -> None:
    """All executed requests get the same answers from DynamoDB Local, in the same order."""
    compared = 0
    for seed in range(_STORIES):
        # The index of DynamoDB Local shows a write immediately.
        executed = live(draw(seed)._replace(index_lag=0)).executed
        with empty_tables(dynamodb) as local:
            for operation, body, expected in executed:
                if operation == "TTL":
                    key = {"SessionId": {"S": body.decode()}}
                    request = json.dumps({"TableName": "sessions", "Key": key})
                    local("DeleteItem", request.encode())
                    continue
                compared += 1
                answer = local(operation, body)[1]
                assert _comparable(answer) == _comparable(json.loads(expected)), body
    assert compared > 10 * _STORIES


def test_generated_writes_are_answered_as_dynamodb_local_answers_them(dynamodb: str) -> None:
    """Conditions and updates are generated that do not occur in the stories, on items of all
    shapes.
    """
    random = Random(0)
    tables = Tables(lambda: 0.0, lambda: 0.0, lambda old, new: None)
    statuses: dict[str, int] = {}
    with empty_tables(dynamodb) as local:
        for _ in range(_WRITES):
            operation, request = _write(random)
            body = json.dumps(request).encode()
            status, answer = local(operation, body)
            wanted, expected = tables.answer(operation, body)
            assert status == wanted, request
            assert _comparable(answer) == _comparable(json.loads(expected)), request
            code = answer.get("__type", "done").rpartition("#")[2]
            statuses[code] = statuses.get(code, 0) + 1
    # Each outcome must occur often.
    assert min(statuses.values()) > _WRITES / 20, statuses
    assert statuses.keys() == {"done", "ConditionalCheckFailedException", "ValidationException"}


_TIME = {"N": "1795435200"}
_EVENT = {"SessionId": {"S": "n2qXk8bVQ0mF"}, "EventId": {"S": "1"}}


def _put(**attributes: Any) -> tuple[str, Any]:
    item = {"SessionId": {"S": "n2qXk8bVQ0mF"}} | attributes
    condition = "attribute_not_exists(SessionId)"
    return "PutItem", {"TableName": "sessions", "Item": item, "ConditionExpression": condition}


def _update(expression: str, **values: Any) -> tuple[str, Any]:
    return "UpdateItem", {
        "TableName": "sessions",
        "Key": {"SessionId": {"S": "n2qXk8bVQ0mF"}},
        "UpdateExpression": expression,
        "ConditionExpression": "attribute_exists(SessionId)",
        "ExpressionAttributeValues": {f":{name}": value for name, value in values.items()},
    }


def _inserts(*items: Any) -> tuple[str, Any]:
    return "BatchExecuteStatement", {
        "Statements": [
            {
                "Statement": 'INSERT INTO "audit" VALUE {'
                + ", ".join(f"'{name}': ?" for name in item)
                + "}",
                "Parameters": list(item.values()),
            }
            for item in items
        ]
    }


def _reads(*session_ids: str) -> tuple[str, Any]:
    keys = [{"SessionId": {"S": session_id}} for session_id in session_ids]
    return "BatchGetItem", {"RequestItems": {"sessions": {"Keys": keys, "ConsistentRead": True}}}


# The size of an item with these attributes, and a text of this size in `A`, is the limit.
_LARGEST = 400 * 1024 - len("SessionId") - 12 - len("A")
_REQUESTS = {
    "key": [_put()],
    "empty key": [("PutItem", _put()[1] | {"Item": {"SessionId": {"S": ""}}})],
    "key that is a number": [("PutItem", _put()[1] | {"Item": {"SessionId": {"N": "1"}}})],
    "no key": [("PutItem", _put()[1] | {"Item": {}})],
    "index key": [_put(UserId={"S": "ada"}, CreatedAt=_TIME)],
    "empty index key": [_put(UserId={"S": ""}, CreatedAt=_TIME)],
    "empty index key without its other half": [_put(UserId={"S": ""})],
    "index key that is a number": [_put(UserId={"N": "1"}, CreatedAt=_TIME)],
    "time that is a text": [_put(UserId={"S": "ada"}, CreatedAt={"S": "1"})],
    "index key that becomes empty": [_put(), _update("SET UserId = :id", id={"S": ""})],
    "largest item": [_put(A={"S": "x" * _LARGEST})],
    "item that is too large": [_put(A={"S": "x" * (_LARGEST + 1)})],
    "largest item in UTF-8": [_put(A={"S": "é" * (_LARGEST // 2)})],
    "item in UTF-8 that is too large": [_put(A={"S": "é" * (_LARGEST // 2 + 1)})],
    "item that grows too large": [
        _put(A={"S": "x" * (_LARGEST - 10)}),
        _update("SET B = :b", b={"S": "123456789"}),
        _update("SET B = :b", b={"S": "1234567890"}),
    ],
    "statement": [_inserts(_EVENT)],
    "statement with an empty index key": [
        _inserts(_EVENT | {"UserId": {"S": ""}}, _EVENT | {"EventId": {"S": "2"}})
    ],
    "statement that is repeated": [_inserts(_EVENT), _inserts(_EVENT)],
    "statement with a large item": [
        _inserts(_EVENT | {"A": {"S": "x" * 410_000}}, _EVENT | {"EventId": {"S": "2"}})
    ],
    "statements with one key": [_inserts(_EVENT, _EVENT)],
    "too many statements": [_inserts(*(_EVENT | {"EventId": {"S": f"{i}"}} for i in range(26)))],
    "keys of a batch": [_put(), _reads("n2qXk8bVQ0mF", "absent")],
    "one key of a batch twice": [_reads("n2qXk8bVQ0mF", "n2qXk8bVQ0mF")],
    "too many keys of a batch": [_reads(*(f"{i}" for i in range(101)))],
}


@pytest.mark.parametrize("name", _REQUESTS)
def test_limits_are_those_of_dynamodb_local(dynamodb: str, name: str) -> None:
    """The last request of each row is allowed, or refused as a whole or in one of its parts."""
    tables = Tables(lambda: 0.0, lambda: 0.0, lambda old, new: None)
    with empty_tables(dynamodb) as local:
        for operation, request in _REQUESTS[name]:
            body = json.dumps(request).encode()
            status, answer = local(operation, body)
            wanted, expected = tables.answer(operation, body)
            assert status == wanted, answer
            assert _codes(answer) == _codes(json.loads(expected))


def _codes(answer: Any) -> Any:
    """Return the code of a refusal, or the codes of the statements that are refused."""
    if "__type" in answer:
        return answer["__type"].rpartition("#")[2]
    if isinstance(answer.get("Responses"), list):
        return [response.get("Error", {}).get("Code") for response in answer["Responses"]]
    return None


def test_sizes_of_values_are_those_of_dynamodb_local(dynamodb: str) -> None:
    """Near the limit, an item of values of all types is accepted or refused alike."""
    random = Random(0)
    outcomes = []
    with empty_tables(dynamodb) as local:
        for i in range(60):
            values = {f"{kind}{j}": _sized(random) for j in range(50) for kind in "ab"}
            values["M"] = {"M": {f"é{j}": _sized(random) for j in range(20)}}
            values["L"] = {"L": [_sized(random) for _ in range(20)]}
            item = {"SessionId": {"S": f"{i}"}} | values
            rest = MAX_ITEM_BYTES - size_of(item) - 1
            item["A"] = {"S": "x" * (rest + random.choice((-1, 0, 1, 2)))}
            request = _put()[1] | {"Item": item}
            status, _ = local("PutItem", json.dumps(request).encode())
            outcomes.append((status == 200, size_of(item) <= MAX_ITEM_BYTES))
    assert {ours for _, ours in outcomes} == {True, False}
    assert [theirs for theirs, _ in outcomes] == [ours for _, ours in outcomes]


def _sized(random: Random) -> Any:
    number = random.choice(("0", "1", "-1", "12", "123", "1200", "0.5", "-0.05", "1795435200"))
    return random.choice(
        [
            {"N": number},
            {"N": "-" + "9" * random.randrange(1, 38)},
            {"S": random.choice(("", "a", "é", "😀"))},
            {"B": random.choice(("", "YQ==", "YWI=", "YWJj"))},
            {"BOOL": True},
            {"NULL": True},
            {"M": {}},
            {"L": []},
        ]
    )


def test_a_list_reads_only_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a list among 10,000 sessions would take a tenth of a second."""
    tables = Tables(lambda: 0.0, lambda: 0.0, lambda old, new: None)
    for i in range(2000):
        user_id = {"S": f"user-{i % 2}"}
        operation, request = _put(UserId=user_id, CreatedAt={"N": f"{1 + i // 4}"})
        request["Item"]["SessionId"] = {"S": f"{i:012d}"}
        assert tables.answer(operation, json.dumps(request).encode())[0] == 200
    tests = []

    def counted(expression: str, scope: Any) -> bool:
        tests.append(expression)
        return holds(expression, scope)

    monkeypatch.setattr("serverless_sessions.serve.tables.holds", counted)
    query = {
        "TableName": "sessions",
        "IndexName": "UserIndex",
        "KeyConditionExpression": "UserId = :user AND CreatedAt >= :since",
        "ExpressionAttributeValues": {":user": {"S": "user-1"}, ":since": {"N": "200"}},
        "ScanIndexForward": False,
        "Limit": 100,
    }
    pages: list[Any] = []
    while not pages or "LastEvaluatedKey" in pages[-1]:
        start = {"ExclusiveStartKey": pages[-1]["LastEvaluatedKey"]} if pages else {}
        tests.clear()
        pages.append(json.loads(tables.answer("Query", json.dumps(query | start).encode())[1]))
        assert len(tests) <= 101
    numbers = [int(item["SessionId"]["S"]) for page in pages for item in page["Items"]]
    assert numbers == [i for i in reversed(range(2000)) if i % 2 and 1 + i // 4 >= 200]


def test_nothing_that_has_been_removed_is_kept() -> None:
    """The service runs for days."""
    now = 0.0
    tables = Tables(lambda: now, lambda: 1.0, lambda old, new: None)
    for i in range(10):
        operation, request = _put(UserId={"S": "ada"}, CreatedAt=_TIME)
        request["Item"]["SessionId"] = {"S": f"{i}"}
        tables.answer(operation, json.dumps(request).encode())
    assert len(tables.take_records(100)) == 10
    now = 5.0
    for i in range(9):
        tables.remove_expired(f"{i}")
    tables.forget()
    assert tables.shows("0", 5.5)

    now = 6.0
    tables.forget()

    assert not tables.shows("0", 5.5)
    assert tables.shows("9", 5.5)
    assert len(tables.take_records(5)) + len(tables.take_records(100)) == 9
    assert tables.take_records(100) == []


def test_an_id_that_is_used_again_without_a_user_is_in_no_index() -> None:
    now = 0.0
    tables = Tables(lambda: now, lambda: 1.0, lambda old, new: None)
    for attributes in ({"UserId": {"S": "ada"}, "CreatedAt": _TIME}, {"CreatedAt": _TIME}):
        operation, request = _put(**attributes)
        assert tables.answer(operation, json.dumps(request).encode())[0] == 200
        tables.remove_expired("n2qXk8bVQ0mF")
    now = 2.0
    tables.forget()
    assert not tables.shows("n2qXk8bVQ0mF", 0.9)


@pytest.mark.parametrize(
    "expression",
    ["size(A) > :a", "begins_with(A, :a)", "A", "A = :a AND", "NOT A = :a", "A = :a)", "A[0] = :a"],
)
def test_an_unknown_condition_is_refused(expression: str) -> None:
    """If the tables guessed the result, the simulation would prove nothing."""
    with pytest.raises(Unknown):
        holds(expression, ({"A": {"N": "1"}}, {}, {":a": {"N": "1"}}))


@pytest.mark.parametrize(
    "expression",
    ["ADD A :a", "DELETE A :a", "SET A = list_append(A, :a)", "SET A = if_not_exists(A, A)"]
    + ["SET A = A + :a + :a", "SET A"],
)
def test_an_unknown_update_is_refused(expression: str) -> None:
    """If the tables guessed the result, the simulation would prove nothing."""
    with pytest.raises(Unknown):
        updated(expression, ({"A": {"N": "1"}}, {}, {":a": {"N": "1"}}))


def test_an_unknown_projection_is_refused() -> None:
    """If the tables guessed the result, the simulation would prove nothing."""
    with pytest.raises(Unknown):
        projected("#a, A", {"A": {"N": "1"}})


def _comparable(answer: Any) -> Any:
    """Return the answer without parts that may differ: messages, the order of a batch, and
    capacity.
    """
    if "__type" in answer:
        return answer["__type"].rpartition("#")[2], answer.get("Item")
    if "Responses" in answer and isinstance(answer["Responses"], dict):
        return {
            name: sorted(items, key=lambda item: item["SessionId"]["S"])
            for name, items in answer["Responses"].items()
        }
    if "Items" in answer:  # sessions of the same second may be in any order
        items = sorted(answer["Items"], key=lambda item: sorted(map(str, item.items())))
        return items, answer["Count"], answer.get("LastEvaluatedKey")
    return {
        name: value for name, value in answer.items() if name not in ("ScannedCount", "Responses")
    }


def _write(random: Random) -> tuple[str, dict[str, Any]]:
    """A put or an update of one item, with a condition that may be true."""
    values: dict[str, Any] = {}
    names: dict[str, str] = {}

    def value() -> str:
        name = f":v{len(values)}"
        values[name] = _value(random)
        return name

    def path() -> str:
        if random.random() < 0.3:
            names["#data"] = "Data"
            return f"#data.{random.choice(_ATTRIBUTES)}"
        return random.choice(_ATTRIBUTES)

    def test() -> str:
        match random.randrange(6):
            case 0:
                return f"attribute_exists({path()})"
            case 1:
                return f"attribute_not_exists({path()})"
            case 2:
                name = f":v{len(values)}"
                values[name] = {"S": random.choice("MNSB")}
                return f"attribute_type({path()}, {name})"
            case 3:
                return f"{path()} IN ({value()}, {value()})"
            case 4:
                return f"{path()} {random.choice(['=', '<>'])} {value()}"
            case _:
                name = f":v{len(values)}"
                values[name] = random.choice([{"N": str(random.randrange(4))}, {"S": "b"}])
                return f"{path()} {random.choice(['<', '<=', '>', '>='])} {name}"

    def condition() -> str:
        tests = [test() for _ in range(random.choice([1, 1, 2, 3]))]
        if len(tests) == 3:
            return f"{tests[0]} {random.choice(['AND', 'OR'])} ({tests[1]} OR {tests[2]})"
        return random.choice([" AND ", " OR "]).join(tests)

    key = {"SessionId": {"S": "session"}}
    request: dict[str, Any] = {
        "TableName": "sessions",
        "ConditionExpression": condition(),
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if random.random() < 0.3:
        request["Item"] = key | {
            name: _value(random) for name in _ATTRIBUTES if random.random() < 0.7
        }
        if random.random() < 0.8:
            request["Item"]["Data"] = {"M": {name: _value(random) for name in _ATTRIBUTES[:2]}}
        operation = "PutItem"
    else:
        sets = []
        for _ in range(random.choice([0, 1, 1, 2])):
            right = random.choice(_ATTRIBUTES)
            match random.randrange(5):
                case 0:
                    right = value()
                case 1:
                    # DynamoDB rejects an update with the same path twice.
                    other = random.choice([name for name in _ATTRIBUTES if name != right])
                    default = value() if random.random() < 0.5 else other
                    right = f"if_not_exists({right}, {default})"
                case 2:
                    name = f":v{len(values)}"
                    values[name] = {"N": str(random.randrange(4))}
                    right += f" {random.choice('+-')} {name}"
            sets.append(f"{path()} = {right}")
        removals = [path() for _ in range(random.choice([0, 0, 1, 2]) if sets else 1)]
        update = f"SET {', '.join(sets)} " if sets else ""
        request["UpdateExpression"] = update + (f"REMOVE {', '.join(removals)}" if removals else "")
        request |= {"Key": key, "ReturnValues": "ALL_NEW"}
        operation = "UpdateItem"
    if values:
        request["ExpressionAttributeValues"] = values
    if names:
        request["ExpressionAttributeNames"] = names
    return operation, request


def _value(random: Random) -> Any:
    return random.choice(
        [
            {"N": str(random.randrange(4))},
            {"N": str(random.randrange(4))},
            {"S": random.choice("ab")},
            {"B": random.choice(["YQ==", "Yg=="])},
            {"BOOL": True},
            {"NULL": True},
            {"M": {"A": {"N": "1"}}},
            {"L": [{"N": "1"}, {"S": "a"}]},
        ]
    )
