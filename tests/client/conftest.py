"""`service`, on which everything that callers install is tested."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from dynamodb import client as lean
from tests.client.service import Service
from tests.functional.conftest import function, sdk, seam
from tests.template import resources


@pytest.fixture
def tables(dynamodb: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Both tables, empty, named by the attributes `sessions` and `audit`, with boto3's `client`."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb)
    client = sdk(dynamodb)
    for logical_id, table in resources("AWS::DynamoDB::GlobalTable").items():
        client.create_table(
            TableName="audit" if "Audit" in logical_id else "sessions",
            KeySchema=table["KeySchema"],
            AttributeDefinitions=table["AttributeDefinitions"],
            GlobalSecondaryIndexes=table["GlobalSecondaryIndexes"],
            BillingMode=table["BillingMode"],
        )
    with closing(lean.connect()) as functions_client:
        seam.reset(functions_client)
        yield SimpleNamespace(client=client, sessions="sessions", audit="audit")
    for name in ("audit", "sessions"):
        client.delete_table(TableName=name)


@pytest.fixture
def service(tables: Any, dynamodb: str) -> Iterator[Service]:
    """The service, empty, on a port of its own; see `tests/client/service.py` for its faults.

    The environment has credentials that it takes, and its region.
    """
    assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
    service = Service(function("session_api"), tables, dynamodb)
    yield service
    service.stop()
