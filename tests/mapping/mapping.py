"""An event source mapping of a DynamoDB stream as AWS documents it, in simulated time.

The local stack's emulator ignores partial batch responses, retries, bisecting, age and destination.

https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html
https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html

AWS does not document the pauses between retries. Here the first pause is one second, and every
further pause is twice as long as the one before, up to `LONGEST_PAUSE_SECONDS`. Shards neither
split nor end.
"""

from __future__ import annotations

import json
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, NamedTuple

from tests.support.template import resources

LONGEST_PAUSE_SECONDS = 300.0
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
STREAM_RETENTION_SECONDS = 24 * 3600.0
_PAYLOAD_BYTES = 6 * 1024 * 1024


class Killed(BaseException):
    """Raised to end the function in the middle of its work.

    It is a `BaseException`, so the function's own handlers of errors do not catch it.
    """


class Clock:
    """Simulated time in epoch seconds.

    A function that is still working at `killed_at` is killed.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self.killed_at = float("inf")

    def spend(self, seconds: float) -> None:
        if self.now + seconds > self.killed_at:
            self.now = self.killed_at
            raise Killed
        self.now += seconds


class Record(NamedTuple):
    """A record of the stream, with its time of arrival, key, sequence number and JSON."""

    arrived: float
    key: str
    number: str | None
    text: str


class Settings(NamedTuple):
    """The settings of a mapping, with times in seconds.

    If `retries` or `age` is -1, there is no such limit.
    """

    batch_size: int
    window: float
    lots: int
    reports_failures: bool
    bisects: bool
    retries: int
    age: float
    keeps_records: bool

    @classmethod
    def deployed(cls) -> Settings:
        """Return the settings in the template for the stream of sessions."""
        [mapping] = [
            properties
            for properties in resources("AWS::Lambda::EventSourceMapping").values()
            if "SessionAudit" in json.dumps(properties["FunctionName"])
        ]
        destination = mapping["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0]
        return cls(
            batch_size=mapping["BatchSize"],
            window=mapping["MaximumBatchingWindowInSeconds"],
            lots=mapping["ParallelizationFactor"],
            reports_failures=mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"],
            bisects=mapping["BisectBatchOnFunctionError"],
            retries=mapping["MaximumRetryAttempts"],
            age=mapping["MaximumRecordAgeInSeconds"],
            keeps_records=destination in resources("AWS::S3::Bucket"),
        )


class _Batch(NamedTuple):
    records: list[Record]
    retries: int = 0


class _Lot:
    """The records of a shard whose keys have the same hash, modulo the number of lots.

    Lambda processes the batches of a lot one after the other.
    """

    def __init__(self, shard: str) -> None:
        self.shard = shard
        self.unread: deque[Record] = deque()
        self.to_repeat: deque[_Batch] = deque()
        self.pause = 1.0

    @property
    def waiting(self) -> int:
        return len(self.unread) + sum(len(batch.records) for batch in self.to_repeat)

    def due(self, window: float) -> float:
        """Return the time from which the next batch may be sent."""
        return 0.0 if self.to_repeat else self.unread[0].arrived + window

    def next_batch(self, now: float, size: int) -> _Batch:
        """Return the first batch that must be repeated, or a batch of new records that have
        arrived.
        """
        if self.to_repeat:
            return self.to_repeat.popleft()
        records: list[Record] = []
        free_bytes = _PAYLOAD_BYTES
        while self.unread and self.unread[0].arrived <= now and len(records) < size:
            free_bytes -= len(self.unread[0].text)
            if free_bytes < 0 and records:
                break
            records.append(self.unread.popleft())
        return _Batch(records)


class EventSourceMapping:
    """Sends the records of `shards` to `invoke`, which gets the JSON of an event.

    `invoke` returns the function's answer or raises its error. `replay_probability` is the
    probability that a successful batch is delivered again. `destination` contains the objects that
    were written to the bucket for failed batches, by their keys.
    """

    def __init__(
        self,
        settings: Settings,
        shards: Iterable[Iterable[Record]],
        invoke: Callable[[str], Any],
        clock: Clock,
        *,
        random: Random,
        replay_probability: float = 0.0,
    ) -> None:
        self.destination: dict[str, str] = {}
        self.invocations = self.failures = self.reports = self.splits = self.replays = 0
        self.finished = 0.0
        self._settings = settings
        self._invoke = invoke
        self._clock = clock
        self._random = random
        self._replay_probability = replay_probability
        self._due: list[tuple[float, int, _Lot]] = []
        self._order = count()
        for number, records in enumerate(shards):
            lots = [_Lot(f"shardId-{number:020d}-{zlib.crc32(b'%d' % number):08x}")]
            lots += [_Lot(lots[0].shard) for _ in range(settings.lots - 1)]
            for record in records:
                lots[zlib.crc32(record.key.encode()) % settings.lots].unread.append(record)
            for lot in lots:
                self._schedule(lot)

    def run(self, until: float = float("inf")) -> int:
        """Run until all records are finished, or until this time.

        Return the number of records that are still waiting. Lots work in parallel: the clock is set
        back to the time at which the next lot is due. `finished` is the time at which the last
        batch ended.
        """
        while self._due and self._due[0][0] < until:
            self._clock.now, _, lot = heappop(self._due)
            self._send_batch(lot)
            self._schedule(lot)
            self.finished = max(self.finished, self._clock.now)
        return sum(lot.waiting for _, _, lot in self._due)

    def _schedule(self, lot: _Lot) -> None:
        if lot.waiting:
            due = max(self._clock.now, lot.due(self._settings.window))
            heappush(self._due, (due, next(self._order), lot))

    def _send_batch(self, lot: _Lot) -> None:
        batch = self._without_expired(
            lot, lot.next_batch(self._clock.now, self._settings.batch_size)
        )
        if not batch.records:
            return
        self.invocations += 1
        try:
            done = self._checkpoint(batch, self._invoke(_event(batch.records)))
        except (Exception, Killed):
            self._handle_failure(lot, batch)
            return
        self.reports += done < len(batch.records)
        if done == len(batch.records):
            lot.pause = 1.0
            if self._random.random() < self._replay_probability:
                # Lambda did not store the checkpoint, so it reads again from the previous one.
                self.replays += 1
                self._repeat(lot, batch)
        elif done:
            # The batch is bisected at the checkpoint, which does not count as a retry.
            self.splits += 1
            lot.to_repeat.appendleft(_Batch(batch.records[done:], batch.retries))
        else:
            self._retry(lot, batch)

    def _repeat(self, lot: _Lot, batch: _Batch) -> None:
        if lot.to_repeat:
            lot.to_repeat.appendleft(batch)
        else:
            lot.unread.extendleft(reversed(batch.records))

    def _checkpoint(self, batch: _Batch, answer: Any) -> int:
        """Return how many records are finished: those before the first record that the answer
        reports as failed.

        Raises `ValueError` if the whole batch counts as failed.
        """
        failures = (answer or {}).get("batchItemFailures") or []
        if not self._settings.reports_failures or not failures:
            return len(batch.records)
        places = {record.number: i for i, record in enumerate(batch.records)}
        named = [failure.get("itemIdentifier") for failure in failures]
        if not all(number and number in places for number in named):
            raise ValueError("no such record")
        return min(places[number] for number in named)

    def _handle_failure(self, lot: _Lot, batch: _Batch) -> None:
        self.failures += 1
        middle = len(batch.records) // 2
        if self._settings.bisects and middle:
            # Bisecting does not count as a retry.
            self.splits += 1
            lot.to_repeat.appendleft(_Batch(batch.records[middle:], batch.retries))
            lot.to_repeat.appendleft(_Batch(batch.records[:middle], batch.retries))
        else:
            self._retry(lot, batch)

    def _retry(self, lot: _Lot, batch: _Batch) -> None:
        if batch.retries == self._settings.retries:
            self._discard(lot, batch, "RetryAttemptsExhausted")
            return
        self._clock.now += lot.pause
        lot.pause = min(2 * lot.pause, LONGEST_PAUSE_SECONDS)
        lot.to_repeat.appendleft(_Batch(batch.records, batch.retries + 1))

    def _without_expired(self, lot: _Lot, batch: _Batch) -> _Batch:
        """Return the batch without the records that are too old.

        Records over the maximum age go to the destination. Records that the stream has already
        deleted are lost.
        """
        now, age = self._clock.now, self._settings.age
        records = [
            record for record in batch.records if now - record.arrived <= STREAM_RETENTION_SECONDS
        ]
        young = [record for record in records if age < 0 or now - record.arrived <= age]
        if len(young) < len(records):
            old = _Batch(records[: len(records) - len(young)], batch.retries)
            self._discard(lot, old, "RecordAgeExceeded")
        return _Batch(young, batch.retries)

    def _discard(self, lot: _Lot, batch: _Batch, condition: str) -> None:
        """Write a failed batch to the destination, in Lambda's own format.

        A queue as destination would get the same document without `payload`.
        """
        first, last = batch.records[0], batch.records[-1]
        document = {
            "requestContext": {
                "requestId": self._uuid(),
                "functionArn": "arn:aws:lambda:us-east-1:111122223333:function:SessionAudit:live",
                "condition": condition,
                "approximateInvokeCount": batch.retries + 1,
            },
            "responseContext": {"statusCode": 200, "executedVersion": "1", "functionError": None},
            "version": "1.0",
            "timestamp": _utc("%Y-%m-%dT%H:%M:%S.000Z", self._clock.now),
            "DDBStreamBatchInfo": {
                "shardId": lot.shard,
                "startSequenceNumber": first.number,
                "endSequenceNumber": last.number,
                "approximateArrivalOfFirstRecord": _utc("%Y-%m-%dT%H:%M:%SZ", first.arrived),
                "approximateArrivalOfLastRecord": _utc("%Y-%m-%dT%H:%M:%SZ", last.arrived),
                "batchSize": len(batch.records),
                "streamArn": "arn:aws:dynamodb:us-east-1:111122223333:table/Sessions/stream/1",
            },
        }
        if self._settings.keeps_records:
            document["payload"] = _event(batch.records)
        folder = f"aws/lambda/{uuid.UUID(int=1)}/{lot.shard}"
        place = _utc("%Y/%m/%d/%Y-%m-%dT%H.%M.%S", self._clock.now)
        self.destination[f"{folder}/{place}-{self._uuid()}"] = json.dumps(document)

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def _event(records: Iterable[Record]) -> str:
    return '{"Records": [' + ", ".join(record.text for record in records) + "]}"


def _utc(form: str, seconds: float) -> str:
    return time.strftime(form, time.gmtime(seconds))
