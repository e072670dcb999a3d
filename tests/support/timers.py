"""The `Timers` table, and the two functions of prompt expiry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from tests.support.functions import function
from tests.support.template import FULL, resources

TABLE = "timers"


@contextmanager
def created_timers(client: Any) -> Iterator[None]:
    """Create the table, which is empty, and delete it at the end."""
    [table] = [
        table
        for logical_id, table in resources("AWS::DynamoDB::GlobalTable", FULL).items()
        if logical_id.startswith("StorageTimers")
    ]
    members = ("KeySchema", "AttributeDefinitions", "BillingMode")
    client.create_table(TableName=TABLE, **{name: table[name] for name in members})
    try:
        yield
    finally:
        client.delete_table(TableName=TABLE)


def expiry_function(package: str) -> ModuleType:
    """Return the handler of `session_timers` or `session_sweeper`. It is imported once."""
    return function(package, FULL)


def record(kind: str, *, old: Any = None, new: Any = None, number: int = 1) -> dict[str, Any]:
    """Return the stream record of a change from the item `old` to the item `new`."""
    images = {"OldImage": old, "NewImage": new}
    return {
        "eventName": kind,
        "dynamodb": {
            "ApproximateCreationDateTime": 1_795_435_200,
            "Keys": {"SessionId": (new or old)["SessionId"]},
            "SequenceNumber": str(number),
            **{name: image for name, image in images.items() if image},
        },
    }


def due_times(client: Any) -> list[tuple[int, str]]:
    """Return the times of all timers and their sessions, in order."""
    pages = client.get_paginator("scan").paginate(TableName=TABLE)
    keys = [item["Due"]["S"] for page in pages for item in page["Items"]]
    split = [key.partition("#") for key in keys if key != "cursor"]
    return sorted((int(due), session_id) for due, _, session_id in split)


def done_before(client: Any) -> int | None:
    """Return the position of the cursor, or None if there is none."""
    key = {"Slot": {"S": "cursor"}, "Due": {"S": "cursor"}}
    item = client.get_item(TableName=TABLE, Key=key, ConsistentRead=True).get("Item")
    if item is None:
        return None
    assert item.keys() == {"Slot", "Due", "DoneBefore"}, "TTL must not delete the cursor"
    return int(item["DoneBefore"]["N"])
