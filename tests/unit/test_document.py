"""Conversion between JSON and DynamoDB's types."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sessions.document import from_attributes


@pytest.mark.parametrize(
    ("spelled", "value"),
    [
        ("1E+2", 100),
        ("100.0", 100),
        ("-0", 0),
        ("-7", -7),
        ("1.50", Decimal("1.5")),
        ("1E+37", 10**37),
        (str(10**37), 10**37),
        ("-1E+38", Decimal("-1E+38")),
        (str(10**38), Decimal("1E+38")),
        ("1" + "0" * 125, Decimal("1E+125")),
        ("9" * 38 + "0", int("9" * 38 + "0")),
        ("9" * 38 + "00000", int("9" * 38 + "00000")),
        ("9" * 38 + "0" * 9, Decimal("9." + "9" * 37 + "E46")),
    ],
)
def test_number_does_not_depend_on_dynamodbs_format(spelled: str, value: Any) -> None:
    [number] = from_attributes({"n": {"N": spelled}}).values()

    assert repr(number) == repr(value)
