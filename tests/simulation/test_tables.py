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
