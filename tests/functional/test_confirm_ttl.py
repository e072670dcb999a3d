"""What `make deploy` ends with."""

from __future__ import annotations

from typing import Any

import pytest

from infra.confirm_ttl import confirm

OUTPUTS = {"SessionsTableName": "sessions"}


def enable(tables: Any, attribute: str, *, enabled: bool = True) -> None:
    tables.client.update_time_to_live(
        TableName=tables.sessions,
        TimeToLiveSpecification={"Enabled": enabled, "AttributeName": attribute},
    )


def test_ttl_on_expiration_time_is_confirmed(tables: Any) -> None:
    enable(tables, "ExpirationTime")

    assert confirm(OUTPUTS) == "TTL of sessions is ENABLED on ExpirationTime."


def test_ttl_on_another_attribute_fails(tables: Any) -> None:
    enable(tables, "expires_at")

    with pytest.raises(SystemExit, match="is ENABLED on expires_at; it is to be on ExpirationTime"):
        confirm(OUTPUTS)


def test_no_ttl_fails(tables: Any) -> None:
    with pytest.raises(SystemExit, match="is DISABLED"):
        confirm(OUTPUTS)
