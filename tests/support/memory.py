"""Both tables in memory, for the functions and for the tests."""

from __future__ import annotations

import json
import threading
from typing import Any

from dynamodb import client as lean
from dynamodb.connection import Answer
from serverless_sessions.serve.tables import Tables

_REGION = "us-east-1"
_ALWAYS = {"ConditionExpression": "attribute_not_exists(Absent)"}


class InMemory:
    """A transport of the functions' client that sends requests to tables in this process."""

    host = f"dynamodb.{_REGION}.amazonaws.com"

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lock = threading.Lock()

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        operation = headers["x-amz-target"].partition(".")[2]
        with self._lock:
            status, answer = self._tables.answer(operation, body)
        return Answer(status, None, answer)

    def close(self) -> None:
        """Do nothing, because there are no connections."""


class MemorySdk(lean.Client):
    """The part of boto3's client that tests use, on tables in memory."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(InMemory(tables), region=_REGION)
        self._tables = tables

    def get_item(self, **request: Any) -> dict[str, Any]:
        return super().get_item(**{"ConsistentRead": True} | request)

    def put_item(self, **request: Any) -> dict[str, Any]:
        return super().put_item(**_ALWAYS | request)

    def update_item(self, **request: Any) -> dict[str, Any]:
        return super().update_item(**_ALWAYS | request)

    def scan(self, TableName: str) -> dict[str, Any]:  # noqa: N803
        items = list(self._tables.items[TableName].values())
        decoded = lean._decode(json.dumps({"Items": items}).encode())
        assert decoded
        return decoded

    def create_table(self, **request: Any) -> None:
        """Do nothing, because both tables exist already and are empty."""

    def delete_table(self, **request: Any) -> None:
        """Do nothing, because the tables disappear with this object."""

    def list_tables(self) -> dict[str, list[str]]:
        return {"TableNames": sorted(self._tables.items)}
