"""Both tables in memory, for the tests."""

from __future__ import annotations

import json
from typing import Any

from dynamodb import client as lean
from serverless_sessions.serve.service import REGION, InMemory
from serverless_sessions.serve.tables import Tables

_ALWAYS = {"ConditionExpression": "attribute_not_exists(Absent)"}


class MemorySdk(lean.Client):
    """The part of boto3's client that tests use, on tables in memory."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(InMemory(tables), region=REGION)
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
