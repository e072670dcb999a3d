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
    *("created", "updated", "renewed", "rotated", "authenticated", "revoked", "tampered"),
    *("purged", "expired", "deleted"),
}


@pytest.fixture
def local(dynamodb: str) -> Iterator[AuditTable]:
    with OnDynamoDBLocal(dynamodb).created() as table:
        yield table


def test_every_change_is_recorded_once() -> None:
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


def test_every_change_is_recorded_once_in_dynamodb_local(local: AuditTable) -> None:
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
def test_no_event_is_lost_in_an_outage_of_six_hours(code: str) -> None:
    """Nothing goes to the bucket, and the trail catches up in minutes.

    `code` is the error of all requests or statements, or "silent" if the table does not answer.
    """
    outcome = morning(InMemory(), code)

    assert outcome.broken == []
    assert outcome.delivery.network.seen["outage"] > 100


def test_records_go_to_the_bucket_in_an_outage_of_more_than_a_day() -> None:
    """The trail and the bucket together contain everything."""
    outcome = day(InMemory())

    assert outcome.broken == []
    assert len(outcome.delivery.records_in_bucket) > 10
    assert len(outcome.delivery.trail) > 20


def test_poisoned_record_becomes_an_event_and_does_not_affect_other_records() -> None:
    assert poisoned(InMemory()).broken == []


def test_poisoned_record_becomes_an_event_in_dynamodb_local(local: AuditTable) -> None:
    assert poisoned(local).broken == []


def test_event_whose_key_was_forged_before_is_recorded_once() -> None:
    """The event gets another key, and a `tampered` event is recorded. Repeated deliveries and lost
    requests add no further events.
    """
    outcome = forged(InMemory())

    assert outcome.broken == []
    assert outcome.delivery.mapping.reports > 0
