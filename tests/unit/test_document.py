"""JSON on one side, DynamoDB's types on the other."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sessions.document import from_attributes


@pytest.mark.parametrize(
    ("spelled", "value"),
    [("1E+2", 100), ("100.0", 100), ("-1E+125", -(10**125)), ("1.50", Decimal("1.5"))],
)
def test_number_looks_alike_however_dynamodb_spells_it(spelled: str, value: Any) -> None:
    [found] = from_attributes({"n": {"N": spelled}}).values()

    assert repr(found) == repr(value)
