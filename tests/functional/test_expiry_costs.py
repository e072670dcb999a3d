"""What prompt expiry costs, in the units that DynamoDB Local reports.

It reports none for PartiQL, so these tests make the same writes without PartiQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.backend import ON_DYNAMODB_LOCAL
from tests.support.functions import lambda_context
from tests.support.meter import Meter
from tests.support.seam import seam
from tests.support.timers import TABLE, created_timers, expiry_function, record

pytestmark = ON_DYNAMODB_LOCAL

INDEXED = "1 write + 1 of the index"


@pytest.fixture
def meter(api: Api, tables: Any, failed_events: Any) -> Iterator[Meter]:
    """Meters the requests of the tests themselves."""
    with created_timers(tables.client):
        yield Meter(tables.client)


def create(api: Api, stored: Any, size: int = 100) -> dict[str, Any]:
    """Create a session with about `size` bytes of data, and let its timer be set."""
    item: dict[str, Any] = stored(api.create("u" * 36, data={"text": "x" * size}))
    records = {"Records": [record("INSERT", new=item)]}
    handler = expiry_function("session_timers").lambda_handler
    assert handler(records, lambda_context()) == {"batchItemFailures": []}
    return item


def sweep(api: Api, after: int) -> list[tuple[str, Any]]:
    """Run the sweeper. Returns its requests about sessions that have a timer."""
    api.clock.now += after
    seam.calls.clear()
    expiry_function("session_sweeper").lambda_handler({}, lambda_context())
    return [call for call in seam.calls if call[0].startswith("Batch")]


def test_timer_costs_one_write_unit(api: Api, meter: Meter, tables: Any, stored: Any) -> None:
    create(api, stored)
    [timer] = tables.client.scan(TableName=TABLE)["Items"]

    meter.put_item(TableName=TABLE, Item=timer | {"Due": {"S": "another"}})

    assert (meter.units, meter.dollars) == ("1 write", "$0.63")


@pytest.mark.parametrize(("size", "units"), [(3000, "1 read"), (4000, "2 read")])
def test_look_costs_a_read_unit_per_4_kb(
    api: Api, meter: Meter, tables: Any, stored: Any, size: int, units: str
) -> None:
    """The data is not returned, but billed."""
    item = create(api, stored, size)
    [(_, look), _] = sweep(api, after=1890)
    tables.client.put_item(TableName="sessions", Item=item)

    meter.batch_get_item(**look)

    assert meter.units == units
    assert meter.dollars == ("$0.13" if size == 3000 else "$0.25")


@pytest.mark.parametrize(("size", "units"), [(100, INDEXED), (1500, "2 write + 1 of the index")])
def test_deletion_costs_a_write_unit_per_kb_and_one_of_the_index(
    api: Api, meter: Meter, stored: Any, size: int, units: str
) -> None:
    item = create(api, stored, size)

    meter.delete_item(TableName="sessions", Key={"SessionId": item["SessionId"]})

    assert meter.units == units
    assert meter.dollars == ("$1.25" if size == 100 else "$1.88")


def test_expired_session_takes_a_look_and_a_deletion(api: Api, meter: Meter, stored: Any) -> None:
    create(api, stored)

    [(look, _), (deletion, request)] = sweep(api, after=1890)

    assert (look, deletion) == ("BatchGetItem", "BatchExecuteStatement")
    assert [statement["Statement"].split()[0] for statement in request["Statements"]] == ["DELETE"]


def test_renewed_session_takes_a_look_and_a_timer(api: Api, meter: Meter, stored: Any) -> None:
    """Its renewals set none, and cost what they always did."""
    item = create(api, stored)
    session_id = item["SessionId"]["S"]
    renewal = seam.client = Meter(seam.client)
    for _ in range(3):
        api.clock.now += 60
        renewal.reset()
        assert api("POST", f"/sessions/{session_id}/renew").status == 200
        assert renewal.units == "1 write"
        seam.calls.clear()
        changed = record("MODIFY", old=item, new=stored(session_id))
        expiry_function("session_timers").lambda_handler({"Records": [changed]}, lambda_context())
        assert seam.calls == []

    [(look, _), (insertion, request)] = sweep(api, after=1890 - 180)

    assert (look, insertion) == ("BatchGetItem", "BatchExecuteStatement")
    assert [statement["Statement"].split()[0] for statement in request["Statements"]] == ["INSERT"]


def test_revoked_session_takes_a_look(api: Api, meter: Meter, stored: Any) -> None:
    item = create(api, stored)
    api("DELETE", f"/sessions/{item['SessionId']['S']}")

    assert [name for name, _ in sweep(api, after=1890)] == ["BatchGetItem"]
