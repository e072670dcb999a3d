"""Meters the units that requests consume on DynamoDB Local."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynamodb.errors import RequestRefused

PRICES = {"read": 0.125, "write": 0.625}  # dollars for a million units, on demand, us-east-1


class Meter:
    """A client that passes requests on and adds up the units that they consumed."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.table = self.index = 0.0
        self.kind = ""

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            self.kind = "read" if operation in ("get_item", "query", "batch_get_item") else "write"
            try:
                answer = getattr(self.client, operation)(
                    **request, ReturnConsumedCapacity="INDEXES"
                )
            except RequestRefused:
                # It is billed like a write of up to 1 KB, but the answer does not contain the
                # units.
                self.table += 1
                raise
            consumed = answer.get("ConsumedCapacity", [])
            for capacity in consumed if isinstance(consumed, list) else [consumed]:
                self.table += capacity["Table"]["CapacityUnits"]
                for index in capacity.get("GlobalSecondaryIndexes", {}).values():
                    self.index += index["CapacityUnits"]
            return answer

        return call

    def reset(self) -> None:
        self.table = self.index = 0

    @property
    def units(self) -> str:
        """The units in the format of that table."""
        index = f" + {self.index:g} of the index" if self.index else ""
        return f"{self.table:g} {self.kind}{index}"

    @property
    def dollars(self) -> str:
        return f"${(self.table + self.index) * PRICES[self.kind] + 1e-9:.2f}"
