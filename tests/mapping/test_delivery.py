"""Every change is recorded once, whatever happens to requests, functions and the table.

The real function runs behind a model of the deployed mapping, in simulated time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.mapping.delivery import AuditTable, InMemory, OnDynamoDBLocal
from tests.mapping.scenarios import day, forged, morning, poisoned, trouble

# The number of records on DynamoDB Local, where 10,000 take 20 s. In memory it is always 10,000.
RECORDS = int(os.environ.get("RECORDS", "1000"))
SEED = int(os.environ.get("SEED", "1"))

_KINDS = {
    *("created", "updated", "renewed", "rotated", "revoked", "tampered"),
    *("purged", "expired", "deleted"),
}


@pytest.fixture
def local(dynamodb: str) -> Iterator[AuditTable]:
    with OnDynamoDBLocal(dynamodb).created() as table:
        yield table


def test_every_change_is_on_record_once() -> None:
    """In 10,000 changes of 1,000 sessions, no event is lost, duplicated or out of order."""
    outcome = trouble(InMemory(), 10_000)

    assert outcome.broken == []
    delivery = outcome.delivery
    assert {item["Type"]["S"] for item in delivery.trail} == _KINDS
    assert 0.15 < delivery.network.faults / delivery.network.requests < 0.25
    assert min(delivery.network.seen.values()) > 10
    assert delivery.mapping.reports > 10
    assert delivery.mapping.replays > 10
    print(delivery.figures)


def test_every_change_is_on_record_once_in_dynamodb_local(local: AuditTable) -> None:
    """DynamoDB's own engine executes the statements."""
    outcome = trouble(local, RECORDS, seed=SEED)

    assert outcome.broken == []
    print(outcome.delivery.figures)


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "ResourceNotFoundException",
        "ThrottlingException",
        "AccessDenied",
        "ResourceNotFound",
        "silent",
    ],
)
def test_outage_of_a_morning_costs_nothing(code: str) -> None:
    """No event is lost, nothing goes to the bucket, and the trail catches up in minutes.

    The table refuses requests or statements, or does not answer.
    """
    outcome = morning(InMemory(), code)

    assert outcome.broken == []
    assert outcome.delivery.network.seen["outage"] > 100


def test_outage_of_more_than_a_day_ends_in_the_bucket() -> None:
    """The trail and the bucket together contain everything."""
    outcome = day(InMemory())

    assert outcome.broken == []
    kept, trail = len(outcome.delivery.kept), len(outcome.delivery.trail)
    assert kept > 10
    assert trail > 20


def test_poisoned_records_are_events_and_cost_no_neighbour() -> None:
    assert poisoned(InMemory()).broken == []


def test_poisoned_records_are_events_in_dynamodb_local(local: AuditTable) -> None:
    assert poisoned(local).broken == []


def test_event_whose_key_somebody_wrote_before_is_on_record_once() -> None:
    """There is also a `tampered` event. Repeated deliveries and lost requests change nothing."""
    outcome = forged(InMemory())

    assert outcome.broken == []
    assert outcome.delivery.mapping.reports > 0
