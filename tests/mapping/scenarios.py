"""Scenarios for the delivery of a stream into the trail, and the promises that they break."""

from __future__ import annotations

import json
from collections import Counter
from typing import NamedTuple

from tests.mapping.changes import Changes, Item, changes
from tests.mapping.delivery import AuditTable, Delivery
from tests.mapping.mapping import LONGEST_PAUSE_SECONDS, Record
from tests.mapping.poisoned import NAMES, Poison, poison

HOUR = 3600
# After the last change or outage, all repeated records are finished within this time.
_CATCH_UP_SECONDS = LONGEST_PAUSE_SECONDS + 300


class Outcome(NamedTuple):
    """The delivery, and a sentence for each broken promise."""

    delivery: Delivery
    broken: list[str]


def trouble(table: AuditTable, count: int, *, fault_share: float = 0.14, seed: int = 1) -> Outcome:
    """About a fifth of all requests has a fault, and the function is sometimes killed.

    The mapping is created after 90 % of the changes, and reads them from TRIM_HORIZON on.
    """
    story = changes(count, sessions=count // 10, seed=seed)
    begins = story.records[count * 9 // 10].arrived
    delivery = Delivery(story.records, table, begins=begins, fault_share=fault_share, seed=seed)
    delivery.run(until=story.ended + HOUR)
    return Outcome(delivery, delivery.broken(story) + _unnecessary(delivery))


def morning(table: AuditTable, code: str, *, hours: float = 6) -> Outcome:
    """An outage of the audit table begins an hour after the first change."""
    story = changes(200, sessions=20, pace=160)
    begins, ends = _outage(story, hours)
    delivery = Delivery(
        story.records, table, begins=story.records[0].arrived, fault_share=0.05, shards=1
    )
    delivery.network.outage = lambda now: code if begins <= now < ends else None
    delivery.run(until=max(story.ended, ends) + _CATCH_UP_SECONDS)
    return Outcome(delivery, delivery.broken(story) + _unnecessary(delivery))


def day(table: AuditTable, *, hours: float = 24.5) -> Outcome:
    """The outage is longer than the time for which Lambda retries, so the oldest records go to the
    bucket.
    """
    story = changes(200, sessions=20, pace=160)
    begins, ends = _outage(story, hours)
    delivery = Delivery(
        story.records, table, begins=story.records[0].arrived, fault_share=0.05, shards=1
    )
    delivery.network.outage = lambda now: "AccessDeniedException" if begins <= now < ends else None
    delivery.run(until=ends + _CATCH_UP_SECONDS)
    latest = ends + _CATCH_UP_SECONDS - delivery.settings.age
    in_bucket = {record["dynamodb"]["SequenceNumber"] for record in delivery.records_in_bucket}
    young = [
        record
        for record in story.records
        if record.number in in_bucket and not begins - 60 <= record.arrived <= latest
    ]
    broken = [f"{len(young)} records went to the bucket too early"] if young else []
    return Outcome(delivery, delivery.broken(story) + broken)


def poisoned(
    table: AuditTable, *, fault_share: float = 0.3, shards: int = 4, seed: int = 1
) -> Outcome:
    """Some records can't be read, or DynamoDB rejects their events permanently."""
    story = changes(300, sessions=30, seed=seed)
    records, poisons = list[Record](), list[Poison]()
    # A poisoned record follows every tenth record. It is delivered twice, as Lambda may do.
    for i, record in enumerate(story.records):
        records.append(record)
        if i % 10 == 0 and len(poisons) < len(NAMES):
            poisons.append(poison(NAMES[len(poisons)], record))
            records += [poisons[-1].record] * 2
    # All records are in the stream before the mapping is created. So poisoned and other records
    # share batches.
    delivery = Delivery(
        records, table, begins=story.ended, fault_share=fault_share, shards=shards, seed=seed
    )
    delivery.network.spoiled = {
        poison.session_id: poison.broken_rule for poison in poisons if poison.broken_rule
    }
    delivery.run(until=story.ended + HOUR)
    ignored = {poison.session_id for poison in poisons}
    broken = delivery.broken(story, ignored) + _unrecorded(delivery, poisons)
    return Outcome(delivery, broken)


def forged(table: AuditTable, *, seed: int = 1) -> Outcome:
    """Before the delivery, somebody forges a third of the events: other events under their keys."""
    story = changes(300, sessions=30, seed=seed)
    forged_keys = sorted(story.expected)[::3]
    for key in forged_keys:
        table.put(_forgery(story.expected[key]))
    delivery = Delivery(story.records, table, begins=story.ended, fault_share=0.3, seed=seed)
    delivery.run(until=story.ended + HOUR)
    trail = {(item["SessionId"]["S"], item["EventId"]["S"]): item for item in delivery.trail}
    broken = [
        f"the event under the key {key} is wrong"
        for key, event in story.expected.items()
        if trail.pop(key) != (_forgery(event) if key in forged_keys else event)
    ]
    unmatched: Counter[str] = Counter(_without_key(item) for item in trail.values())
    for key in forged_keys:
        event = story.expected[key]
        shared = ("SessionId", "UserId", "RecordedAt", "ExpirationTime")
        report = {name: event[name] for name in shared if name in event}
        report |= {"Type": {"S": "tampered"}, "At": event["RecordedAt"]}
        report["Changed"] = {"L": [{"S": "EventId"}]}
        unmatched -= Counter([_without_key(event), _without_key(report)])
    broken += [f"there are {count} unexpected events {text}" for text, count in unmatched.items()]
    missing = 2 * len(forged_keys) - len(trail)
    return Outcome(delivery, broken + ([f"{missing} events are missing"] if missing else []))


def _forgery(event: Item) -> Item:
    return {**event, "UserId": {"S": "eve"}}


def _without_key(item: Item) -> str:
    return json.dumps({**item, "EventId": None}, sort_keys=True)


def _outage(story: Changes, hours: float) -> tuple[float, float]:
    begins = story.records[0].arrived + HOUR
    return begins, begins + hours * HOUR


def _unnecessary(delivery: Delivery) -> list[str]:
    """Return a sentence for each record in the bucket whose event can be written."""
    records = delivery.records_in_bucket
    return [f"{len(records)} records are in the bucket, such as {records[0]}"] if records else []


def _unrecorded(delivery: Delivery, poisons: list[Poison]) -> list[str]:
    events = Counter((item["SessionId"]["S"], item["Type"]["S"]) for item in delivery.trail)
    wanted = Counter((poison.session_id, poison.type) for poison in poisons)
    broken = [
        f"there are {events[event]} events {event} instead of {count}"
        for event, count in wanted.items()
        if events[event] != count
    ]
    in_bucket = delivery.records_in_bucket
    unreadable = [
        json.loads(poison.record.text) for poison in poisons if poison.type == "unreadable"
    ]
    if missing := [record for record in unreadable if record not in in_bucket]:
        broken.append(f"{len(missing)} records are missing in the bucket, such as {missing[0]}")
    if others := [record for record in in_bucket if record not in unreadable]:
        broken.append(f"{len(others)} other records are in the bucket, such as {others[0]}")
    return broken
