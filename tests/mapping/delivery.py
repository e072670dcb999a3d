"""Delivers a stream through the deployed mapping and the real function into an audit table."""

from __future__ import annotations

import json
import logging
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from random import Random
from typing import Any, Protocol

import pytest
from botocore.exceptions import ClientError

import clock
from dynamodb import client as lean
from dynamodb.connection import Answer, Connections
from serverless_sessions.serve.expressions import Invalid
from serverless_sessions.serve.tables import Tables
from tests.mapping.changes import Changes, Item, Key
from tests.mapping.mapping import Clock, EventSourceMapping, Record, Settings
from tests.mapping.network import Network, insert
from tests.support.functions import function, lambda_context
from tests.support.seam import seam
from tests.support.tables import created_tables, sdk
from tests.support.template import resources

_S3_FAULT_SHARE = 0.3


class AuditTable(Protocol):
    """A DynamoDB with an empty audit table."""

    def answer(self, headers: dict[str, str], body: bytes) -> Answer:
        """Execute a request of the lean client."""

    def items(self) -> list[Item]:
        """Return all items of the table."""

    def put(self, item: Item) -> None:
        """Write an item without any checks."""


class _Tables(Tables):
    """The in-memory tables, which also enforce a rule that a correct insert never violates."""

    def _BatchExecuteStatement(self, request: Any) -> Any:  # noqa: N802
        for statement in request["Statements"]:
            if any(len(value.get("N", "")) > 38 for value in insert(statement).values()):
                raise Invalid("DynamoDB only supports precision up to 38 digits")
        return super()._BatchExecuteStatement(request)


class InMemory:
    """The audit table in memory."""

    def __init__(self) -> None:
        self._tables = _Tables(lambda: 0.0, lambda: 0.0, lambda *_: None)

    def answer(self, headers: dict[str, str], body: bytes) -> Answer:
        operation = headers["x-amz-target"].partition(".")[2]
        status, answer = self._tables.answer(operation, body)
        return Answer(status, zlib.crc32(answer), answer)

    def items(self) -> list[Item]:
        return list(self._tables.items["audit"].values())

    def put(self, item: Item) -> None:
        self._tables.items["audit"][_key(item)] = item


class OnDynamoDBLocal:
    """The tables of the template on DynamoDB Local."""

    def __init__(self, endpoint: str) -> None:
        self._connections = Connections(endpoint)
        self._sdk = sdk(endpoint)

    def answer(self, headers: dict[str, str], body: bytes) -> Answer:
        return self._connections.exchange(headers, body, clock.monotonic() + 60)

    def items(self) -> list[Item]:
        pages = self._sdk.get_paginator("scan").paginate(TableName="audit")
        return [item for page in pages for item in page["Items"]]

    def put(self, item: Item) -> None:
        self._sdk.put_item(TableName="audit", Item=item)

    @contextmanager
    def created(self) -> Iterator[OnDynamoDBLocal]:
        """Create the tables, and delete them at the end of the block."""
        with created_tables(self._sdk), closing(self._connections):
            yield self


class _Bucket:
    """Replaces boto3's S3 client. It rejects some requests."""

    def __init__(self, random: Random) -> None:
        self.objects: dict[str, str] = {}
        self.faults = 0
        self._random = random

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:  # noqa: N803
        assert (Bucket, ContentType) == ("failed-events", "application/json")
        if self._random.random() < _S3_FAULT_SHARE:
            self.faults += 1
            raise ClientError({"Error": {"Code": "SlowDown"}}, "PutObject")
        self.objects[Key] = Body.decode()


class Delivery:
    """Delivers a stream into the trail. Any request of the function may fail.

    Before `run`, a test may change the `settings` of the mapping and the `network`.
    """

    def __init__(
        self,
        records: Sequence[Record],
        table: AuditTable,
        *,
        begins: float,
        fault_share: float = 0.14,
        kill_share: float = 0.03,
        replay_probability: float = 0.1,
        shards: int = 4,
        seed: int = 1,
    ) -> None:
        """`begins` is the time when the mapping is created, in epoch seconds.

        The mapping reads from TRIM_HORIZON on, that is, from the oldest record in the stream.
        """
        self.records = records
        self.settings = Settings.deployed()
        self.clock = Clock(begins)
        self.random = Random(seed)
        self.network = Network(
            table.answer,
            self.clock,
            random=self.random,
            fault_share=fault_share,
            kill_share=kill_share,
        )
        self._table = table
        self._replay_probability = replay_probability
        self._shards = shards
        self._bucket = _Bucket(self.random)
        self._handler = function("session_audit")
        [self._timeout] = [
            float(properties["Timeout"])
            for properties in resources("AWS::Lambda::Function").values()
            if properties["Handler"].startswith("session_audit.")
        ]

    def run(self, until: float = float("inf")) -> Delivery:
        """Run until the mapping has finished with every record, or until this time."""
        shards: list[list[Record]] = [[] for _ in range(self._shards)]
        for record in self.records:
            shards[zlib.crc32(record.key[::-1].encode()) % self._shards].append(record)
        self.mapping = EventSourceMapping(
            self.settings,
            shards,
            self._invoke,
            self.clock,
            random=self.random,
            replay_probability=self._replay_probability,
        )
        with self._installed():
            self.waiting = self.mapping.run(until)
            self.network.settle()
        self.trail = self._table.items()
        objects = {**self.mapping.destination, **self._bucket.objects}
        self.records_in_bucket = [
            record for document in objects.values() for record in _records(document)
        ]
        return self

    @contextmanager
    def _installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "testing")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
            for name in ("time", "monotonic"):
                patch.setattr(clock, name, lambda: self.clock.now)
            patch.setattr(clock, "sleep", self.clock.spend)
            patch.setattr(lean, "_random", self.random)
            patch.setattr("boto3.client", lambda name, config: {"s3": self._bucket}[name])
            logging.disable()
            seam.reset(lean.Client(self.network, region="us-east-1"))
            try:
                yield
            finally:
                logging.disable(logging.NOTSET)
                seam.reset(None)

    def _invoke(self, event: str) -> Any:
        self.network.begin()
        self.clock.killed_at = self.clock.now + self._timeout
        try:
            answer = self._handler.lambda_handler(json.loads(event), lambda_context())
        finally:
            self.clock.killed_at = float("inf")
            seam.calls.clear()
        return json.loads(json.dumps(answer))

    def broken(self, changes: Changes, ignored: Collection[str] = ()) -> list[str]:
        """Return a sentence for each broken promise.

        `ignored` are the ids of sessions that are not in `changes`. This check ignores their events
        in the trail.
        """
        trail = [item for item in self.trail if item["SessionId"]["S"] not in ignored]
        broken = list(_broken(changes, trail, self.records_in_bucket))
        if self.waiting:
            broken.append(f"{self.waiting} records are still waiting")
        return broken

    @property
    def figures(self) -> dict[str, Any]:
        return {
            "records": len(self.records),
            "requests": self.network.requests,
            "faults": self.network.faults,
            **self.network.seen,
            "S3 faults": self._bucket.faults,
            "invocations": self.mapping.invocations,
            "failed": self.mapping.failures,
            "reported": self.mapping.reports,
            "splits": self.mapping.splits,
            "replays": self.mapping.replays,
            "events": len(self.trail),
            "in the bucket": len(self.records_in_bucket),
        }


def _broken(changes: Changes, trail: list[Item], in_bucket: list[Any]) -> Iterator[str]:
    events = {_key(item): item for item in trail}
    stream = {record.number: json.loads(record.text) for record in changes.records}
    if altered := [
        record
        for record in in_bucket
        if _number(record) in stream and record != stream[_number(record)]
    ]:
        yield f"{len(altered)} records in the bucket differ from the stream, such as {altered[0]}"
    numbers_in_bucket = {number for number in map(_number, in_bucket) if number}
    missing = changes.expected.keys() - events.keys()
    lost = [key for key in missing if changes.numbers[key] not in numbers_in_bucket]
    if lost:
        example = changes.expected[min(lost)]
        yield f"{len(lost)} events are neither in the trail nor in the bucket, such as {example}"
    foreign = events.keys() - changes.expected.keys()
    if foreign:
        example = events[min(foreign)]
        yield f"{len(foreign)} events in the trail belong to no change, such as {example}"
    wrong = [key for key in events.keys() - foreign if events[key] != changes.expected[key]]
    if wrong:
        event, expected = events[wrong[0]], changes.expected[wrong[0]]
        yield f"{len(wrong)} events are wrong, such as {event} instead of {expected}"
    numbers = Counter(int(event_id.partition("#")[2]) for _, event_id in events)
    doubled = [number for number, times in numbers.items() if times > 1]
    if doubled:
        yield f"{len(doubled)} sequence numbers have more than one event, such as {doubled[0]}"
    sessions = {session_id for session_id, _ in changes.expected}
    orders: dict[str, list[int]] = {session_id: [] for session_id in sessions}
    for session_id, event_id in sorted(events):
        orders.setdefault(session_id, []).append(int(event_id.partition("#")[2]))
    if disordered := [
        session_id for session_id in sessions if orders[session_id] != sorted(orders[session_id])
    ]:
        yield f"{len(disordered)} sessions have events out of order, such as {disordered[0]}"


def _key(item: Item) -> Key:
    return item["SessionId"]["S"], item["EventId"]["S"]


def _number(record: Any) -> Any:
    change = record.get("dynamodb") if isinstance(record, dict) else None
    return change.get("SequenceNumber") if isinstance(change, dict) else None


def _records(document: str) -> list[Any]:
    """Return the records in a document of the bucket.

    Some documents contain only the records' positions in the stream. For these the list is empty.
    """
    payload = json.loads(document).get("payload", '{"Records": []}')
    records: list[Any] = json.loads(payload)["Records"]
    return records
