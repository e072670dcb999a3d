"""Scenarios for the delivery of a stream into the trail, and the promises that they break."""

from __future__ import annotations

import json
from collections import Counter
from typing import NamedTuple

from tests.mapping.changes import Changes, Item, changes
from tests.mapping.delivery import AuditTable, Delivery
from tests.mapping.mapping import LONGEST_PAUSE, Record
from tests.mapping.poisoned import NAMES, Poison, poison

HOUR = 3600
# Repeated records are finished soon after the last change, if there are no more faults.
_SOON = LONGEST_PAUSE + 300


class Outcome(NamedTuple):
    """The delivery, and a sentence for each broken promise."""

    delivery: Delivery
    broken: list[str]


def trouble(table: AuditTable, count: int, *, faults: float = 0.14, seed: int = 1) -> Outcome:
    """A fifth of all requests meets a fault, and the function is sometimes killed.

    The mapping is created after most changes. It reads them from TRIM_HORIZON on.
    """
    story = changes(count, sessions=count // 10, seed=seed)
    begins = story.records[count * 9 // 10].arrived
    delivery = Delivery(story.records, table, begins=begins, faults=faults, seed=seed)
    delivery.run(until=story.ended + HOUR)
    return Outcome(delivery, delivery.broken(story) + _needless(delivery))


def morning(table: AuditTable, code: str, *, hours: float = 6) -> Outcome:
    """From an hour after the first change on, there is an outage of the audit table for this
    time.
    """
    story = changes(200, sessions=20, pace=160)
    begins, ends = _outage(story, hours)
    delivery = Delivery(
        story.records, table, begins=story.records[0].arrived, faults=0.05, shards=1
    )
    delivery.network.outage = lambda now: code if begins <= now < ends else None
    delivery.run(until=max(story.ended, ends) + _SOON)
    return Outcome(delivery, delivery.broken(story) + _needless(delivery))


def day(table: AuditTable, *, hours: float = 24.5) -> Outcome:
    """The outage is longer than Lambda retries, so the oldest records go to the bucket."""
    story = changes(200, sessions=20, pace=160)
    begins, ends = _outage(story, hours)
    delivery = Delivery(
        story.records, table, begins=story.records[0].arrived, faults=0.05, shards=1
    )
    delivery.network.outage = lambda now: "AccessDeniedException" if begins <= now < ends else None
    delivery.run(until=ends + _SOON)
    oldest = ends + _SOON - delivery.settings.age
    kept = {record["dynamodb"]["SequenceNumber"] for record in delivery.kept}
    young = [
        record
        for record in story.records
        if record.number in kept and not begins - 60 <= record.arrived <= oldest
    ]
    broken = [f"{len(young)} given up too early"] if young else []
    return Outcome(delivery, delivery.broken(story) + broken)


def poisoned(table: AuditTable, *, faults: float = 0.3, shards: int = 4, seed: int = 1) -> Outcome:
    """Some records can't be read, or DynamoDB rejects their events permanently."""
    story = changes(300, sessions=30, seed=seed)
    records, poisons = list[Record](), list[Poison]()
    # There is one after every tenth record. It is delivered twice, as Lambda may do.
    for i, record in enumerate(story.records):
        records.append(record)
        if i % 10 == 0 and len(poisons) < len(NAMES):
            poisons.append(poison(NAMES[len(poisons)], record))
            records += [poisons[-1].record] * 2
    # All records wait already, so that poisoned and other records share a batch.
    delivery = Delivery(records, table, begins=story.ended, faults=faults, shards=shards, seed=seed)
    delivery.network.spoiled = {
        poison.session_id: poison.refused for poison in poisons if poison.refused
    }
    delivery.run(until=story.ended + HOUR)
    besides = {poison.session_id for poison in poisons}
    broken = delivery.broken(story, besides) + _unrecorded(delivery, poisons)
    return Outcome(delivery, broken)


def forged(table: AuditTable, *, seed: int = 1) -> Outcome:
    """Somebody has forged events under the keys of a third of the records before."""
    story = changes(300, sessions=30, seed=seed)
    taken = sorted(story.expected)[::3]
    for key in taken:
        table.put(_of_eve(story.expected[key]))
    delivery = Delivery(story.records, table, begins=story.ended, faults=0.3, seed=seed)
    delivery.run(until=story.ended + HOUR)
    trail = {(item["SessionId"]["S"], item["EventId"]["S"]): item for item in delivery.trail}
    broken = [
        f"{key} is not as it was"
        for key, event in story.expected.items()
        if trail.pop(key) != (_of_eve(event) if key in taken else event)
    ]
    unmatched: Counter[str] = Counter(_but_for_its_key(item) for item in trail.values())
    for key in taken:
        event = story.expected[key]
        shared = ("SessionId", "UserId", "RecordedAt", "ExpirationTime")
        report = {name: event[name] for name in shared if name in event}
        report |= {"Type": {"S": "tampered"}, "At": event["RecordedAt"]}
        report["Changed"] = {"L": [{"S": "EventId"}]}
        unmatched -= Counter([_but_for_its_key(event), _but_for_its_key(report)])
    broken += [f"{times} times {text}" for text, times in unmatched.items()]
    missing = 2 * len(taken) - len(trail)
    return Outcome(delivery, broken + ([f"{missing} events are missing"] if missing else []))


def _of_eve(event: Item) -> Item:
    return {**event, "UserId": {"S": "eve"}}


def _but_for_its_key(item: Item) -> str:
    return json.dumps({**item, "EventId": None}, sort_keys=True)


def _outage(story: Changes, hours: float) -> tuple[float, float]:
    begins = story.records[0].arrived + HOUR
    return begins, begins + hours * HOUR


def _needless(delivery: Delivery) -> list[str]:
    """Return a sentence for each record in the bucket whose event can be written."""
    kept = delivery.kept
    return [f"{len(kept)} in the bucket, such as {kept[0]}"] if kept else []


def _unrecorded(delivery: Delivery, poisons: list[Poison]) -> list[str]:
    events = Counter((item["SessionId"]["S"], item["Type"]["S"]) for item in delivery.trail)
    wanted = Counter((poison.session_id, poison.type) for poison in poisons)
    broken = [
        f"{events[event]} events {event} for {times} records"
        for event, times in wanted.items()
        if events[event] != times
    ]
    whole = [json.loads(poison.record.text) for poison in poisons if poison.type == "unreadable"]
    if missing := [record for record in whole if record not in delivery.kept]:
        broken.append(f"{len(missing)} not kept whole, such as {missing[0]}")
    if needless := [record for record in delivery.kept if record not in whole]:
        broken.append(f"{len(needless)} neighbours in the bucket, such as {needless[0]}")
    return broken
