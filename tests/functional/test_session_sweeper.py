"""The function that deletes expired sessions promptly, so that their ends are recorded."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from audit.classify import classify
from dynamodb.errors import RequestRefused, TransientError
from expiry.timers import SHARDS
from tests.support.api import BY_OTHER, NOW, Api
from tests.support.backend import ON_DYNAMODB_LOCAL
from tests.support.functions import lambda_context, sample
from tests.support.seam import seam
from tests.support.timers import (
    TABLE,
    created_timers,
    done_before,
    due_times,
    expiry_function,
    record,
)

pytestmark = ON_DYNAMODB_LOCAL

WEEK = 7 * 86_400
ID = "0" * 12


class Expiry:
    """Both functions, with the API's clock. `sleeps` are the pauses that they wanted to make."""

    def __init__(self, api: Api, tables: Any, printed: Callable[[], str]) -> None:
        self.api = api
        self.client = tables.client
        self.timers = expiry_function("session_timers")
        self.sweeper = expiry_function("session_sweeper")
        self.sleeps: list[float] = []
        self._printed = printed

    def store(self, *items: dict[str, Any]) -> None:
        """Store sessions. The consumer of their stream sets their timers."""
        for start in range(0, len(items), 25):
            requests = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
            self.client.batch_write_item(RequestItems={"sessions": requests})
        for start in range(0, len(items), 100):
            records = [record("INSERT", new=item) for item in items[start : start + 100]]
            answer = self.timers.lambda_handler({"Records": records}, lambda_context())
            assert answer == {"batchItemFailures": []}
        seam.calls.clear()

    def set_timer(self, due: int, session_id: str = ID, **attributes: Any) -> None:
        """Set a timer, in the past as well."""
        slot = {"S": f"{due // 60:010d}#0"}
        key = {"S": f"{due}#{session_id}"}
        self.client.put_item(TableName=TABLE, Item={"Slot": slot, "Due": key})

    def sweep(self) -> dict[str, Any]:
        """Run the sweeper and return the metrics that it logs."""
        seam.calls.clear()
        event = sample("sweeper_every_minute")
        assert self.sweeper.lambda_handler(event, lambda_context()) is None
        [line] = self._printed().splitlines()
        metrics: dict[str, Any] = json.loads(line)
        return metrics

    def sweep_until(self, time: int) -> None:
        """Let a minute pass before each run, until it is `time`."""
        while self.api.clock.now < time:
            self.api.clock.now = min(time, self.api.clock.now + 60)
            self.sweep()

    def sessions(self) -> set[str]:
        pages = self.client.get_paginator("scan").paginate(TableName="sessions")
        return {item["SessionId"]["S"] for page in pages for item in page["Items"]}

    def due_times(self) -> list[tuple[int, str]]:
        return due_times(self.client)

    def done_before(self) -> int | None:
        return done_before(self.client)

    def operations(self) -> Counter[str]:
        return Counter(name for name, _ in seam.calls)


@pytest.fixture
def expiry(
    api: Api,
    tables: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Expiry]:
    with created_timers(tables.client):
        expiry = Expiry(api, tables, lambda: capsys.readouterr().out)
        start_cursor(expiry, NOW - 120)
        monkeypatch.setattr("clock.sleep", expiry.sleeps.append)
        yield expiry


def session(
    number: int = 0, *, end: int = NOW, created: int = NOW - 1800, **attributes: Any
) -> dict[str, Any]:
    """Return an item. An attribute that is None is left out."""
    [sample_record] = sample("stream_created")["Records"]
    item = sample_record["dynamodb"]["NewImage"] | {
        "SessionId": {"S": f"{number:012d}"},
        "ExpirationTime": {"N": str(end)},
        "CreatedAt": {"N": str(created)},
        **attributes,
    }
    return {name: value for name, value in item.items() if value is not None}


def put(expiry: Expiry, item: dict[str, Any]) -> None:
    """Store a session of which the consumer of the stream learns nothing."""
    expiry.client.put_item(TableName="sessions", Item=item)


def test_expired_session_is_deleted_and_recorded_within_two_minutes(
    expiry: Expiry, api: Api, stored: Any
) -> None:
    """The trail names the time at which the session expired, not that of the deletion."""
    session_id = api.create("ada", ttl_seconds=291)
    item = stored(session_id)
    expiry.store(item)

    expiry.sweep_until(NOW + 300)
    assert stored(session_id) == item
    expiry.sweep_until(NOW + 360)
    assert stored(session_id) == {}

    removal = record("REMOVE", old=item)
    removal["dynamodb"]["ApproximateCreationDateTime"] = api.clock.now
    event = classify(removal, not_before=0)
    assert (event.type, event.cause, event.removed_by) == ("expired", "idle", "unknown")
    assert event.at == NOW + 291
    assert event.recorded_at - event.at <= 120


def test_session_is_deleted_10_seconds_after_its_end(expiry: Expiry) -> None:
    """A renewal that is under way takes up to 7 s, and the clocks of hosts differ by up to 2 s."""
    put(expiry, session(1, end=NOW - 9))
    put(expiry, session(2, end=NOW - 10))
    for number in (1, 2):
        expiry.set_timer(NOW - 60, f"{number:012d}")

    expiry.sweep()

    assert expiry.sessions() == {f"{1:012d}"}


def test_session_is_not_deleted_within_60_seconds_of_its_creation(expiry: Expiry) -> None:
    """A creation may be repeated for a minute, and would make the session again."""
    put(expiry, session(1, end=NOW - 20, created=NOW - 59))
    put(expiry, session(2, end=NOW - 20, created=NOW - 60))
    for number in (1, 2):
        expiry.set_timer(NOW - 30, f"{number:012d}")

    expiry.sweep()

    assert expiry.sessions() == {f"{1:012d}"}


@pytest.mark.parametrize(
    ("end", "created", "due"),
    [
        (NOW + 900, NOW - 900, NOW + 900),
        (NOW + 1, NOW - 900, NOW + 5),
        (NOW, NOW - 900, NOW + 10),
        (NOW - 9, NOW - 900, NOW + 5),
        (NOW - 2, NOW - 59, NOW + 11),
        (NOW - 2, NOW - 62, NOW + 8),
        (NOW - 30, NOW - 35, NOW + 35),
        (NOW - 30, NOW - 59, NOW + 11),
        (NOW * 1000, NOW - 900, NOW + 400 * 86_400),
        (NOW - 30, NOW * 1000, NOW + 400 * 86_400),
    ],
)
def test_session_that_can_not_be_deleted_yet_gets_a_new_timer(
    expiry: Expiry, end: int, created: int, due: int
) -> None:
    put(expiry, session(end=end, created=created))
    expiry.set_timer(NOW - 30)

    metrics = expiry.sweep()

    assert expiry.sessions() == {ID}
    assert expiry.due_times() == [(NOW - 30, ID), (due, ID)]
    assert metrics["deleted"] == 0


@pytest.mark.parametrize(
    "item",
    [
        None,
        session(RevokedAt={"N": str(NOW - 30)}, end=NOW - 30),
        session(RevokedAt={"NULL": True}, end=NOW - 30),
        session(ExpirationTime=None),
        session(ExpirationTime={"S": str(NOW - 30)}),
    ],
)
def test_sweeper_leaves_alone(expiry: Expiry, item: Any) -> None:
    """An absent session, a revoked one, and an item that never expires."""
    if item:
        put(expiry, item)
    expiry.set_timer(NOW - 20)

    expiry.sweep()

    assert expiry.operations() == {"Query": 2 * SHARDS + 1, "BatchGetItem": 1, "UpdateItem": 2}
    assert expiry.due_times() == [(NOW - 20, ID)]
    assert expiry.sessions() == ({ID} if item else set())


def test_session_is_still_deleted_if_its_other_attributes_are_malformed(expiry: Expiry) -> None:
    """TTL would delete it as well."""
    put(expiry, {"SessionId": {"S": ID}, "ExpirationTime": {"N": str(NOW - 30)}})
    expiry.set_timer(NOW - 20)

    expiry.sweep()

    assert expiry.sessions() == set()


def test_renewed_session_lives_on_until_its_new_end(expiry: Expiry, api: Api, stored: Any) -> None:
    session_id = api.create("ada", ttl_seconds=300)
    expiry.store(stored(session_id))
    api.clock.now += 200
    api("POST", f"/sessions/{session_id}/renew")

    expiry.sweep_until(NOW + 200 + 300)
    assert stored(session_id)
    assert expiry.due_times() == [(NOW + 300, session_id), (NOW + 500, session_id)]

    expiry.sweep_until(NOW + 500 + 120)
    assert stored(session_id) == {}


def meanwhile(change: Callable[[], object]) -> None:
    """Make a change between the look at the sessions and the next request."""

    def before() -> None:
        if seam.calls[-1][0] == "BatchExecuteStatement":
            seam.before = lambda: None
            change()

    seam.before = before


def test_session_that_is_renewed_after_the_look_is_not_deleted(expiry: Expiry, stored: Any) -> None:
    """The condition of the deletion decides. A new timer makes sure of another look."""
    put(expiry, session(end=NOW - 10))
    expiry.set_timer(NOW - 10)
    meanwhile(lambda: put(expiry, session(end=NOW - 9)))

    assert expiry.sweep()["deleted"] == 0

    assert stored(ID)["ExpirationTime"] == {"N": str(NOW - 9)}
    assert expiry.due_times() == [(NOW - 10, ID), (NOW + 5, ID)]
    expiry.sweep_until(NOW + 60)
    assert stored(ID) == {}


def test_session_that_is_revoked_after_the_look_stays_for_ttl(
    expiry: Expiry, other: Any, stored: Any
) -> None:
    """Its end is on record already, with a reason. The revoking host's clock may be behind."""
    put(expiry, session(end=NOW - 10))
    expiry.set_timer(NOW - 10)

    def revoke() -> None:
        expiry.api.clock.now -= 10
        other.revoke(ID, reason="logout", by=BY_OTHER)
        expiry.api.clock.now += 10

    meanwhile(revoke)
    expiry.sweep()
    expiry.sweep_until(NOW + 180)

    assert stored(ID)["RevokedReason"] == {"S": "logout"}


def test_time_of_the_deletion_is_taken_anew_for_each_request(
    expiry: Expiry, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was put back must not delete sessions on the strength of an earlier look."""
    expiry.store(*(session(i, end=NOW - 60) for i in range(50)))
    api.clock.now += 60

    def put_back() -> None:
        if seam.calls[-1][0] == "BatchExecuteStatement":
            api.clock.now -= 1

    seam.after = put_back
    expiry.sweep()

    bounds = [
        {statement["Parameters"][1]["N"] for statement in request["Statements"]}
        for name, request in seam.calls
        if name == "BatchExecuteStatement"
    ]
    assert bounds == [{str(NOW + 60 - 10)}, {str(NOW + 59 - 10)}]


def test_reads_are_strongly_consistent_and_without_data(expiry: Expiry) -> None:
    expiry.set_timer(NOW - 20)

    expiry.sweep()

    reads = [request for name, request in seam.calls if name == "Query"]
    reads += [
        request["RequestItems"]["sessions"]
        for name, request in seam.calls
        if name == "BatchGetItem"
    ]
    assert len(reads) == 2 * SHARDS + 1 + 1
    assert all(request["ConsistentRead"] is True for request in reads)
    assert reads[-1]["ProjectionExpression"] == "SessionId, ExpirationTime, CreatedAt, RevokedAt"


def test_absent_cursor_starts_an_hour_back(expiry: Expiry) -> None:
    put(expiry, session(1))
    put(expiry, session(2))
    key = {"Slot": {"S": "cursor"}, "Due": {"S": "cursor"}}
    expiry.client.delete_item(TableName=TABLE, Key=key)
    api = expiry.api
    expiry.set_timer(NOW - 3600 + 100, f"{1:012d}")
    expiry.set_timer(NOW - 3600 + 99, f"{2:012d}")
    api.clock.now += 100

    expiry.sweep()

    assert expiry.sessions() == {f"{2:012d}"}
    assert expiry.done_before() == NOW + 100 - 10 + 1


def start_cursor(expiry: Expiry, second: int) -> None:
    """Set the cursor as an earlier run would have done."""
    item = {
        "Slot": {"S": "cursor"},
        "Due": {"S": "cursor"},
        "DoneBefore": {"N": str(second)},
    }
    expiry.client.put_item(TableName=TABLE, Item=item)


def slots() -> list[int]:
    """Return the minutes that the last run has read, in order."""
    read = [
        request["ExpressionAttributeValues"][":slot"]["S"].partition("#")
        for name, request in seam.calls
        if name == "Query" and ":slot" in request["ExpressionAttributeValues"]
    ]
    return list(dict.fromkeys(int(minute) for minute, _, _ in read))


@pytest.mark.parametrize(
    ("ago", "expected"), [(WEEK + 3600, WEEK), (WEEK - 3600, WEEK - 3600), (100, 100)]
)
def test_cursor_goes_back_a_week_at_most(
    expiry: Expiry, monkeypatch: pytest.MonkeyPatch, ago: int, expected: int
) -> None:
    """TTL has deleted the timers from before that."""
    start_cursor(expiry, NOW - ago)
    monotonic = [0.0]
    monkeypatch.setattr("clock.monotonic", lambda: monotonic[0])

    def out_of_time_after_the_first_shard() -> None:
        if ":start" in seam.calls[-1][1]["ExpressionAttributeValues"]:
            monotonic[0] += 1000

    seam.after = out_of_time_after_the_first_shard
    expiry.sweep()

    [request] = [
        request
        for name, request in seam.calls
        if name == "Query" and ":start" in request["ExpressionAttributeValues"]
    ]
    assert request["ExpressionAttributeValues"][":start"] == {"S": str(NOW - expected)}


def test_run_reads_32_partitions_a_minute(expiry: Expiry) -> None:
    """It costs as much whether there is anything to do or not."""
    expiry.sweep()
    expiry.api.clock.now += 60

    metrics = expiry.sweep()

    # One more Query reads the cursor, and the cursor moves after each of the two minutes.
    assert expiry.operations() == {"Query": 33, "UpdateItem": 2}
    assert metrics["cursor_age_seconds"] == 9


def test_current_minute_is_read_up_to_10_seconds_ago(expiry: Expiry) -> None:
    """A timer that was set later in this minute must not be passed, though the minute was empty."""
    assert NOW % 60 == 0
    for number in (1, 2):
        put(expiry, session(number, end=NOW))
    expiry.api.clock.now = NOW + 40
    expiry.sweep()
    assert expiry.done_before() == NOW + 31

    expiry.set_timer(NOW + 40, f"{1:012d}")
    expiry.set_timer(NOW + 41, f"{2:012d}")
    expiry.api.clock.now = NOW + 50
    expiry.sweep()

    assert expiry.sessions() == {f"{2:012d}"}
    expiry.api.clock.now = NOW + 51
    expiry.sweep()
    assert expiry.sessions() == set()


def test_timer_that_is_being_written_is_not_passed(expiry: Expiry) -> None:
    """A request takes up to 7 s, and the sweeper's clock may be 2 s ahead of the consumer's."""
    item = session(end=NOW - 100)
    put(expiry, item)

    def slow() -> None:
        seam.before = lambda: None
        expiry.api.clock.now += 7 + 2
        expiry.sweep()

    seam.before = slow
    records = {"Records": [record("INSERT", new=item)]}
    expiry.timers.lambda_handler(records, lambda_context())
    assert expiry.sessions() == {ID}

    expiry.api.clock.now += 60
    expiry.sweep()
    assert expiry.sessions() == set()


def test_cursor_moves_after_each_minute(expiry: Expiry) -> None:
    start_cursor(expiry, NOW - 130)

    expiry.sweep()

    moved = [
        int(request["ExpressionAttributeValues"][":second"]["N"])
        for name, request in seam.calls
        if name == "UpdateItem"
    ]
    assert moved == [NOW - 120, NOW - 60, NOW - 9]
    assert slots() == [NOW // 60 - 3, NOW // 60 - 2, NOW // 60 - 1]


def test_cursor_never_moves_back(expiry: Expiry) -> None:
    """Another sweeper is further, or has a clock that is ahead."""
    start_cursor(expiry, NOW - 130)

    def overtake() -> None:
        seam.before = lambda: None
        start_cursor(expiry, NOW - 8)

    seam.before = lambda: setattr(seam, "before", overtake)
    expiry.sweep()
    assert expiry.done_before() == NOW - 8

    assert expiry.sweep()["cursor_age_seconds"] == 8
    assert expiry.operations() == {"Query": 1}


@pytest.mark.parametrize("session_id", ["", "x" * 900, "%", "x#y"])
def test_timer_that_is_refused_costs_no_neighbour(
    expiry: Expiry, caplog: pytest.LogCaptureFixture, session_id: str
) -> None:
    """Somebody else has written it. DynamoDB refuses the whole request that contains it."""
    expiry.store(*(session(i, end=NOW - 20) for i in range(5)))
    expiry.set_timer(NOW + 5, session_id)
    expiry.api.clock.now += 60

    metrics = expiry.sweep()

    assert expiry.sessions() == set()
    assert (metrics["deleted"], metrics["timers_failed"]) == (5, int(session_id == ""))
    assert expiry.done_before() == NOW + 60 - 9
    refused = [entry for entry in caplog.records if entry.message == "timer refused"]
    assert len(refused) == metrics["timers_failed"]
    assert expiry.sweep()["timers_failed"] == 0


def test_refused_deletion_costs_no_neighbour(
    expiry: Expiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should DynamoDB ever refuse one, the sweeper must not stand still because of it."""
    expiry.store(*(session(i, end=NOW - 20) for i in range(5)))
    expiry.api.clock.now += 60
    original = seam.client.batch_execute_statement

    def refuse(Statements: Any) -> Any:
        if any(statement["Parameters"][0]["S"] == f"{2:012d}" for statement in Statements):
            raise RequestRefused("ValidationException", "", {})
        return original(Statements=Statements)

    monkeypatch.setattr(seam.client, "batch_execute_statement", refuse)
    metrics = expiry.sweep()

    assert (metrics["deleted"], metrics["timers_failed"]) == (4, 1)
    assert expiry.sessions() == {f"{2:012d}"}
    assert expiry.done_before() == NOW + 60 - 9


@pytest.mark.parametrize("key", ["9999999999999", f"{NOW}", "x", f"{NOW - 30}x"])
def test_forged_timer_does_not_move_the_cursor(expiry: Expiry, key: str) -> None:
    """Its time is not one that the sweeper would read. The run stops at it."""
    start_cursor(expiry, NOW - 60)
    slot = {"S": f"{(NOW - 60) // 60:010d}#0"}
    due = {"S": f"{NOW - 30}"[:9] + key + "#" + ID}
    expiry.client.put_item(TableName=TABLE, Item={"Slot": slot, "Due": due})

    def stop() -> None:
        if seam.calls[-1][0] == "BatchGetItem":
            raise TransientError("ThrottlingException")

    seam.before = stop
    expiry.sweep()

    second = expiry.done_before()
    assert second is not None
    assert NOW - 60 <= second < NOW


@pytest.mark.parametrize(
    ("operation", "successes"),
    [
        ("Query", 1 + SHARDS),
        ("BatchGetItem", 0),
        ("BatchExecuteStatement", 0),
        ("BatchExecuteStatement", 1),
        ("BatchExecuteStatement", 2),
    ],
)
@pytest.mark.parametrize(
    "failure",
    [
        TransientError("ThrottlingException"),
        RequestRefused("AccessDeniedException", "", {}),
    ],
)
def test_outage_ends_the_run_and_loses_nothing(
    expiry: Expiry,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    successes: int,
    failure: Exception,
) -> None:
    """The cursor stays before the first session that is not finished."""
    start_cursor(expiry, NOW - 60)
    expiry.store(session(1, end=NOW - 20), session(2, end=NOW + 600))
    put(expiry, session(3, end=NOW - 120))
    expiry.set_timer(NOW - 30, f"{3:012d}")
    expiry.set_timer(NOW + 6, f"{2:012d}")
    expiry.api.clock.now += 60

    def fail() -> None:
        if seam.calls[-1][0] == operation and expiry.operations()[operation] > successes:
            raise failure

    seam.before = fail
    metrics = expiry.sweep()

    second = expiry.done_before()
    assert second is not None
    assert second <= NOW + 6
    assert metrics["cursor_age_seconds"] == NOW + 60 - second
    [stopped] = [entry for entry in caplog.records if entry.message == "stopped"]
    assert stopped.levelno == logging.ERROR
    assert vars(stopped)["cause"] == str(failure)

    seam.before = lambda: None
    expiry.sweep()
    assert expiry.sessions() == {f"{2:012d}"}
    assert (NOW + 600, f"{2:012d}") in expiry.due_times()


def test_lost_new_timer_ends_the_run(expiry: Expiry) -> None:
    """Without it, nobody would look at the session again until TTL."""
    start_cursor(expiry, NOW - 60)
    put(expiry, session(end=NOW + 600))
    expiry.set_timer(NOW - 20)

    def fail() -> None:
        if seam.calls[-1][0] == "BatchExecuteStatement":
            raise TransientError("ThrottlingException")

    seam.before = fail
    expiry.sweep()
    assert expiry.done_before() == NOW - 20

    seam.before = lambda: None
    expiry.sweep()
    assert (NOW + 600, ID) in expiry.due_times()


def test_cursor_that_can_not_be_moved_ends_the_run(
    expiry: Expiry, caplog: pytest.LogCaptureFixture
) -> None:
    """The next run does the minute again, which does no harm."""
    expiry.store(session(end=NOW - 20))
    expiry.api.clock.now += 60

    def fail() -> None:
        if seam.calls[-1][0] == "UpdateItem":
            raise TransientError("ThrottlingException")

    seam.before = fail
    assert expiry.sweep()["deleted"] == 0

    assert expiry.operations()["UpdateItem"] == 1
    assert [entry.message for entry in caplog.records] == ["timers set", "stopped"]
    assert expiry.done_before() == NOW - 120
    seam.before = lambda: None
    assert expiry.sweep()["deleted"] == 1


def test_metrics_of_a_run_that_fails_unexpectedly_are_logged(expiry: Expiry) -> None:
    """The alarm on the cursor's age needs them."""

    def fail() -> None:
        if seam.calls[-1][0] == "BatchGetItem":
            raise ZeroDivisionError

    expiry.set_timer(NOW - 20)
    seam.before = fail
    with pytest.raises(ZeroDivisionError):
        expiry.sweeper.lambda_handler({}, lambda_context())

    assert json.loads(expiry._printed())["cursor_age_seconds"] == 20


def test_cursor_that_can_not_be_read_gives_no_age(expiry: Expiry) -> None:
    """The alarm treats a missing age like one that is too high."""

    def fail() -> None:
        raise TransientError("ThrottlingException")

    seam.before = fail
    metrics = expiry.sweep()

    assert "cursor_age_seconds" not in metrics
    assert (metrics["deleted"], metrics["timers_failed"]) == (0, 0)


def test_cursor_in_the_future_has_an_age(expiry: Expiry) -> None:
    """Somebody has moved it, and no timer would be read until then."""
    start_cursor(expiry, NOW + 7200)

    assert expiry.sweep()["cursor_age_seconds"] == 7200


def test_run_that_is_out_of_time_goes_on_a_minute_later(
    expiry: Expiry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The cursor moves within a minute as well, so even a minute with too many sessions ends.

    This is not an error, whatever the run was doing at that time.
    """
    start_cursor(expiry, NOW - 60)
    for number in range(300):
        put(expiry, session(number, end=NOW - 100))
        expiry.set_timer(NOW - 60 + number // 10, f"{number:012d}")
    began: list[float] = []
    monotonic = [0.0]
    monkeypatch.setattr("clock.monotonic", lambda: monotonic[0])

    def pass_time() -> None:
        if seam.calls[-1][0] == "BatchExecuteStatement":
            began.append(monotonic[0])
            monotonic[0] += 7

    seam.before = pass_time
    left = []
    for _ in range(3):
        monotonic[0], limit = 0.0, expiry.sweeper.SWEEP_SECONDS
        expiry.sweep()
        left.append(len(expiry.sessions()))
        assert max(began, default=0) <= limit

    assert left == [150, 0, 0]
    assert [(entry.levelname, entry.message) for entry in caplog.records] == [
        ("WARNING", "out of time")
    ]
    assert expiry.done_before() == NOW - 9


def test_deletions_are_paced(expiry: Expiry, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take write units from the table that requests use.

    The time that their own requests take counts, so a slow run does not pause.
    """
    monotonic = [0.0]
    monkeypatch.setattr("clock.monotonic", lambda: monotonic[0])
    expiry.store(*(session(i, end=NOW - 20) for i in range(250)))
    expiry.api.clock.now += 60
    durations = iter([0.01] * 4 + [0.03] * 4 + [0.02] * 2)

    def pass_time() -> None:
        if seam.calls[-1][0] == "BatchExecuteStatement":
            monotonic[0] += next(durations)

    seam.after = pass_time
    expiry.sweep()

    assert expiry.sleeps == pytest.approx([0.1 - 4 * 0.01, 0.05 - 2 * 0.02])


def test_metrics_are_those_of_the_alarms(expiry: Expiry) -> None:
    expiry.store(session(1, end=NOW - 20), session(2, end=NOW + 600))
    expiry.api.clock.now += 60

    assert expiry.sweep() == {
        "_aws": {
            "Timestamp": int((NOW + 60.9) * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": "ServerlessSessions",
                    "Dimensions": [["FunctionName"]],
                    "Metrics": [
                        {"Name": "deleted", "Unit": "Count"},
                        {"Name": "timers_failed", "Unit": "Count"},
                        {"Name": "cursor_age_seconds", "Unit": "Seconds"},
                    ],
                }
            ],
        },
        "FunctionName": "function",
        "deleted": 1,
        "timers_failed": 0,
        "cursor_age_seconds": 9,
    }


class Stream:
    """The stream of the table `sessions` on DynamoDB Local."""

    def __init__(self, client: Any) -> None:
        view = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        description = client.update_table(TableName="sessions", StreamSpecification=view)
        self._arn = description["TableDescription"]["LatestStreamArn"]
        self._client = boto3.client("dynamodbstreams", endpoint_url=client.meta.endpoint_url)

    def removals(self) -> list[str]:
        """Return the ids of the sessions that were deleted, in order."""
        removed = []
        for shard in self._client.describe_stream(StreamArn=self._arn)["StreamDescription"][
            "Shards"
        ]:
            iterator = self._client.get_shard_iterator(
                StreamArn=self._arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while iterator:
                page = self._client.get_records(ShardIterator=iterator)
                removed += [
                    entry["dynamodb"]["Keys"]["SessionId"]["S"]
                    for entry in page["Records"]
                    if entry["eventName"] == "REMOVE"
                ]
                iterator = page.get("NextShardIterator") if page["Records"] else None
        return removed


def test_two_sweepers_at_once_do_no_harm(expiry: Expiry) -> None:
    """EventBridge may call the function twice, or again while a run is still under way."""
    stream = Stream(expiry.client)
    expiry.store(*(session(i, end=NOW - 20) for i in range(60)))
    expiry.store(*(session(i, end=NOW + 600) for i in range(60, 70)))
    expiry.api.clock.now += 60
    others = iter(range(3))

    def run_another() -> None:
        if seam.calls[-1][0] == "BatchExecuteStatement" and next(others, None) is not None:
            expiry.sweeper.lambda_handler({}, lambda_context())

    seam.before = run_another
    expiry.sweeper.lambda_handler({}, lambda_context())
    seam.before = lambda: None
    expiry._printed()
    expiry.sweep_until(NOW + 180)

    assert Counter(stream.removals()) == {f"{i:012d}": 1 for i in range(60)}
    expiry.sweep_until(NOW + 720)
    assert Counter(stream.removals()) == {f"{i:012d}": 1 for i in range(70)}


def test_sweeper_that_stood_still_for_three_hours_catches_up(expiry: Expiry) -> None:
    """All sessions are deleted afterwards, in the order of their ends, and none of them twice."""
    count, still = 2000, 3 * 3600
    stream = Stream(expiry.client)
    expiry.sweep()
    expiry.store(
        *(
            session(i, created=NOW - 60, end=NOW + 60 + i * (still - 120) // count)
            for i in range(count)
        )
    )
    expiry.api.clock.now += still

    metrics = expiry.sweep()

    assert metrics["deleted"] == count
    assert metrics["cursor_age_seconds"] == 9
    assert expiry.sessions() == set()
    assert stream.removals() == [f"{i:012d}" for i in range(count)]
