"""The model of the mapping does what AWS documents, with any function."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.mapping.mapping import Clock, EventSourceMapping, Killed, Record, Settings

START = 1_795_435_200.0
HOUR = 3600.0
SETTINGS = Settings(
    batch_size=10,
    window=1,
    lots=1,
    reports_failures=True,
    bisects=True,
    retries=-1,
    age=22 * HOUR,
    keeps_records=True,
)


class Function:
    """A function that answers with `respond`.

    `batches` contains the sequence numbers in each event, and `times` the seconds since `START`.
    """

    def __init__(self, respond: Callable[[list[str]], Any]) -> None:
        self.clock = Clock(START)
        self.batches: list[list[str]] = []
        self.times: list[float] = []
        self._respond = respond

    def __call__(self, event: str) -> Any:
        numbers = [entry["dynamodb"]["SequenceNumber"] for entry in json.loads(event)["Records"]]
        self.batches.append(numbers)
        self.times.append(self.clock.now - START)
        return self._respond(numbers)


def record(number: int, *, key: str = "a", arrived: float = START, more: str = "") -> Record:
    change = {"SequenceNumber": str(number), "Keys": {"SessionId": {"S": key}}, "More": more}
    return Record(arrived, key, str(number), json.dumps({"dynamodb": change}))


def records(*numbers: int) -> list[Record]:
    return [record(number) for number in numbers]


def deliver(
    function: Function, *shards: list[Record], settings: Settings = SETTINGS, **options: Any
) -> EventSourceMapping:
    mapping = EventSourceMapping(
        settings, shards, function, function.clock, random=Random(1), **options
    )
    assert mapping.run() == 0
    return mapping


def failing(*poisoned: str, times: int = 10**6) -> Callable[[list[str]], Any]:
    """Return a function that reports these records as failed, in at most `times` batches."""
    left = [times]

    def respond(numbers: list[str]) -> Any:
        failed = [number for number in numbers if number in poisoned]
        left[0] -= bool(failed)
        names = failed if left[0] >= 0 else []
        return {"batchItemFailures": [{"itemIdentifier": number} for number in names]}

    return respond


def raising(*poisoned: str) -> Callable[[list[str]], Any]:
    def respond(numbers: list[str]) -> None:
        if set(numbers) & set(poisoned):
            raise KeyError

    return respond


@pytest.mark.parametrize(
    "answer", [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}]
)
def test_answer_without_failures_is_a_success(answer: Any) -> None:
    function = Function(lambda _: answer)

    deliver(function, records(*range(25)))

    assert [len(batch) for batch in function.batches] == [10, 10, 5]


def test_all_records_from_the_lowest_failure_on_are_repeated() -> None:
    function = Function(failing("7", "4", times=1))

    deliver(function, records(*range(1, 10)))

    assert function.batches == [list("123456789"), list("456789")]


@pytest.mark.parametrize("identifier", ["", None, "99", "unknown"])
def test_unknown_identifier_fails_the_batch(identifier: Any) -> None:
    answers = [{"batchItemFailures": [{"itemIdentifier": identifier}]}, None, None]
    function = Function(lambda _: answers.pop(0))

    deliver(function, records(1, 2, 3, 4))

    assert function.batches == [list("1234"), list("12"), list("34")]


def test_without_partial_answers_a_failure_report_is_a_success() -> None:
    function = Function(failing("2"))

    deliver(function, records(1, 2, 3), settings=SETTINGS._replace(reports_failures=False))

    assert function.batches == [["1", "2", "3"]]


def test_bisect_isolates_a_record_that_breaks_the_function_and_uses_up_no_retry() -> None:
    function = Function(raising("3"))

    mapping = deliver(function, records(1, 2, 3, 4), settings=SETTINGS._replace(retries=0))

    assert function.batches == [list("1234"), list("12"), list("34"), ["3"], ["4"]]
    [document] = mapping.destination.values()
    assert json.loads(document)["DDBStreamBatchInfo"]["batchSize"] == 1


def test_without_bisect_the_whole_batch_is_given_up() -> None:
    function = Function(raising("3"))

    mapping = deliver(
        function, records(1, 2, 3, 4), settings=SETTINGS._replace(retries=2, bisects=False)
    )

    assert function.batches == [list("1234")] * 3
    [document] = mapping.destination.values()
    assert json.loads(document)["requestContext"]["condition"] == "RetryAttemptsExhausted"


def test_failing_record_delays_later_records_until_it_is_too_old() -> None:
    function = Function(failing("1"))
    later = record(2, arrived=START + HOUR)

    mapping = deliver(function, [*records(1), later])

    assert function.batches[-1] == ["2"]
    assert function.times[-1] > 22 * HOUR
    [document] = mapping.destination.values()
    assert json.loads(document)["requestContext"]["condition"] == "RecordAgeExceeded"


def test_destination_gets_whole_records_in_lambdas_format() -> None:
    """The format is that of the example in AWS's documentation."""
    function = Function(failing("2"))
    all_records = records(1, 2, 3)

    mapping = deliver(function, all_records, settings=SETTINGS._replace(retries=1))

    [(key, document)] = mapping.destination.items()
    assert key.split("/")[:2] == ["aws", "lambda"]
    assert key.split("/")[3].startswith("shardId-")
    assert key.split("/")[4:7] == ["2026", "11", "23"]
    invocation = json.loads(document)
    assert invocation["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert invocation["DDBStreamBatchInfo"]["startSequenceNumber"] == "2"
    assert invocation["DDBStreamBatchInfo"]["endSequenceNumber"] == "3"
    payload = json.loads(invocation["payload"])["Records"]
    assert payload == [json.loads(entry.text) for entry in all_records[1:]]


def test_queue_as_destination_gets_only_positions() -> None:
    function = Function(failing("1"))

    mapping = deliver(
        function, records(1), settings=SETTINGS._replace(retries=0, keeps_records=False)
    )

    [document] = mapping.destination.values()
    assert "payload" not in json.loads(document)


def test_without_an_age_the_stream_drops_failing_records() -> None:
    """It drops them after 24 hours, and nothing is written to the destination."""
    function = Function(failing("1"))

    mapping = deliver(function, records(1), settings=SETTINGS._replace(age=-1))

    assert function.times[-1] > 23 * HOUR
    assert mapping.destination == {}


def test_lots_of_a_shard_work_in_parallel_and_records_of_a_key_stay_in_order() -> None:
    """A failing key only delays its own lot."""
    keys = "abcdefgh"
    stream = [record(10 * i + ord(key), key=key) for i in range(3) for key in keys]
    failed = str(ord("a"))
    function = Function(failing(failed, times=30))

    deliver(function, stream, settings=SETTINGS._replace(lots=4, batch_size=2))

    first = {number: function.times[i] for i, b in enumerate(function.batches) for number in b}
    delayed = {number for number, time in first.items() if time > 60}
    assert failed in delayed
    assert 3 <= len(delayed) < len(stream) / 2
    for key in keys:
        own = [str(10 * i + ord(key)) for i in range(3)]
        seen = [number for batch in function.batches for number in batch if number in own]
        assert [number for i, number in enumerate(seen) if number not in seen[:i]] == own


def test_replayed_batch_contains_later_records_too() -> None:
    function = Function(lambda _: None)

    mapping = deliver(function, records(*range(200)), replay_probability=0.3)

    seen = [number for batch in function.batches for number in batch]
    assert mapping.replays > 2
    assert len(seen) > 200
    assert list(dict.fromkeys(seen)) == [str(i) for i in range(200)]


def test_killed_function_is_a_failure() -> None:
    killed = [True]

    def respond(_: list[str]) -> None:
        if killed:
            killed.pop()
            raise Killed

    function = Function(respond)

    deliver(function, records(1, 2))

    assert function.batches == [["1", "2"], ["1"], ["2"]]


def test_function_that_takes_too_long_is_killed() -> None:
    clock = Clock(START)
    clock.killed_at = START + 60

    clock.spend(59)
    with pytest.raises(Killed):
        clock.spend(2)
    assert clock.now == START + 60


def test_batch_waits_for_its_window_and_contains_at_most_six_megabytes() -> None:
    function = Function(lambda _: None)
    half_a_second_later = record(2, arrived=START + 0.5)
    giants = [record(i, arrived=START + 100, more="x" * 2_500_000) for i in (3, 4, 5)]

    deliver(function, [*records(1), half_a_second_later, *giants])

    assert function.batches == [["1", "2"], ["3", "4"], ["5"]]
    assert function.times[0] == 1


def test_deployed_settings_are_those_of_the_failure_plan() -> None:
    """The settings come from the template, so the scenarios test the deployed mapping."""
    deployed = Settings.deployed()

    assert deployed == Settings(
        batch_size=100,
        window=1,
        lots=4,
        reports_failures=True,
        bisects=True,
        retries=-1,
        age=22 * HOUR,
        keeps_records=True,
    )
