"""The function that sets timers for sessions, so that their ends are noticed promptly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from dynamodb.errors import RequestRefused, TransientError
from tests.support.api import NOW, Api
from tests.support.backend import ON_DYNAMODB_LOCAL
from tests.support.functions import lambda_context, sample
from tests.support.seam import seam
from tests.support.timers import TABLE, created_timers, due_times, expiry_function, record

pytestmark = ON_DYNAMODB_LOCAL

WEEK = 7 * 86_400
ALL_DONE: dict[str, Any] = {"batchItemFailures": []}


@pytest.fixture
def timers(
    api: Api, tables: Any, failed_events: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    monkeypatch.setattr("clock.sleep", lambda _: None)
    with created_timers(tables.client):
        yield expiry_function("session_timers")


def consume(timers: ModuleType, *records: Any) -> Any:
    seam.calls.clear()
    return timers.lambda_handler({"Records": list(records)}, lambda_context())


def session(number: int = 0, end: int = NOW + 1800, **attributes: Any) -> dict[str, Any]:
    """Return an item. An attribute that is None is left out."""
    [sample_record] = sample("stream_created")["Records"]
    item = sample_record["dynamodb"]["NewImage"] | {
        "SessionId": {"S": f"{number:012d}"},
        "ExpirationTime": {"N": str(end)},
        **attributes,
    }
    return {name: value for name, value in item.items() if value is not None}


def inserted(number: int = 0, end: int = NOW + 1800, **attributes: Any) -> dict[str, Any]:
    return record("INSERT", new=session(number, end, **attributes), number=number)


def test_new_session_gets_a_timer_at_its_end(timers: ModuleType, tables: Any) -> None:
    assert consume(timers, *sample("stream_created")["Records"]) == ALL_DONE

    [timer] = tables.client.scan(TableName=TABLE)["Items"]
    minute, _, shard = timer.pop("Slot")["S"].partition("#")
    assert minute == f"{(NOW + 1800) // 60:010d}"
    assert 0 <= int(shard) < 16
    assert timer == {
        "Due": {"S": f"{NOW + 1800}#n2qXk8bVQ0mF"},
        "ExpirationTime": {"N": str(NOW + 1800 + WEEK)},
    }


def test_timers_of_a_minute_are_spread_over_16_partitions(timers: ModuleType, tables: Any) -> None:
    """A partition takes 1,000 write units a second."""
    consume(timers, *map(inserted, range(200)))

    slots = {timer["Slot"]["S"] for timer in tables.client.scan(TableName=TABLE)["Items"]}
    assert slots == {f"{(NOW + 1800) // 60:010d}#{shard}" for shard in range(16)}


@pytest.mark.parametrize("end", [0, NOW - 100, NOW + 4, NOW + 5])
def test_timer_is_never_in_the_past(timers: ModuleType, tables: Any, end: int) -> None:
    """The sweeper could have passed its second already."""
    consume(timers, inserted(end=end))

    assert due_times(tables.client) == [(NOW + 5, "000000000000")]


def test_time_is_taken_anew_for_each_request(
    timers: ModuleType, api: Api, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late request must not set timers in the past, nor must one that is repeated."""

    def wait() -> None:
        api.clock.now += 7

    def wait_and_fail() -> None:
        seam.before = wait
        wait()
        raise TransientError("ThrottlingException")

    seam.before = wait_and_fail
    consume(timers, *(inserted(i, NOW) for i in range(50)))

    assert [name for name, _ in seam.calls] == ["BatchExecuteStatement"] * 3
    dues = [due for due, _ in due_times(tables.client)]
    assert dues == [NOW + 7 + 5] * 25 + [NOW + 14 + 5] * 25


def test_end_is_cut_to_400_days_ahead(timers: ModuleType, tables: Any) -> None:
    """Nobody but an intruder writes an end in milliseconds. Its timer would stay for ever."""
    consume(timers, inserted(end=NOW * 1000))

    assert due_times(tables.client) == [(NOW + 400 * 86_400, "000000000000")]


def test_only_a_shorter_window_sets_another_timer(
    timers: ModuleType, api: Api, tables: Any, stored: Any
) -> None:
    """A renewal is the most frequent write, and must cost nothing more."""
    session_id = api.create("ada", ttl_seconds=600)

    def change(method: str, path: str, body: object = None) -> list[tuple[int, str]]:
        api.clock.now += 60
        old = stored(session_id)
        assert api(method, f"/sessions/{session_id}{path}", body).status in (200, 204)
        assert consume(timers, record("MODIFY", old=old, new=stored(session_id))) == ALL_DONE
        return due_times(tables.client)

    assert change("POST", "/renew") == []
    assert change("PATCH", "", {"data": {"a": 1}}) == []
    assert change("POST", "/renew", {"ttl_seconds": 900}) == []
    assert change("POST", "/rotate", {"grace_seconds": 0}) == []
    assert seam.calls == []
    assert change("POST", "/renew", {"ttl_seconds": 300}) == [(NOW + 300 + 300, session_id)]
    assert change("DELETE", "") == [(NOW + 300 + 300, session_id)]
    assert seam.calls == []


def test_last_window_of_a_visitor_sets_a_timer_if_visitors_are_recorded(
    timers: ModuleType, api: Api, tables: Any, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = api.create(None)
    old = stored(session_id)
    api("POST", f"/sessions/{session_id}/renew", {"ttl_seconds": 60, "final": True})
    changed = record("MODIFY", old=old, new=stored(session_id))

    consume(timers, changed)
    assert due_times(tables.client) == []

    monkeypatch.setattr(timers, "record_anonymous", True)
    consume(timers, changed)
    assert due_times(tables.client) == [(NOW + 60, session_id)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"SessionId": {"S": "not-an-id"}},
        {"SessionId": {"S": "twelve chars"}},
        {"UserId": None},
        {"RevokedAt": {"N": str(NOW)}},
        {"ExpirationTime": None},
        {"ExpirationTime": {"S": str(NOW + 1800)}},
    ],
)
def test_no_timer_is_set_for(timers: ModuleType, attributes: dict[str, Any]) -> None:
    """A foreign id, an anonymous or revoked session, and an item that never expires."""
    assert consume(timers, inserted(**attributes)) == ALL_DONE

    assert seam.calls == []


def test_no_timer_is_set_for_a_removal(
    timers: ModuleType, failed_events: Callable[[], list[Any]]
) -> None:
    """Nor is it a record that can't be read, which somebody would have to look at."""
    assert consume(timers, *sample("stream_expired")["Records"]) == ALL_DONE

    assert seam.calls == []
    assert failed_events() == []


def test_session_that_did_not_expire_gets_a_timer_once_it_does(
    timers: ModuleType, tables: Any
) -> None:
    old = session(ExpirationTime={"S": "never"})
    consume(timers, record("MODIFY", old=old, new=session()))

    assert due_times(tables.client) == [(NOW + 1800, "000000000000")]


def test_sample_of_a_shorter_window_sets_a_timer(timers: ModuleType, tables: Any) -> None:
    assert timers.lambda_handler(sample("timers_shortened"), lambda_context()) == ALL_DONE

    assert due_times(tables.client) == [(NOW + 360, "n2qXk8bVQ0mF")]


def test_session_has_one_timer_per_batch(timers: ModuleType, tables: Any) -> None:
    """The nearest end counts, in whatever order."""
    shortened = record("MODIFY", old=session(), new=session(end=NOW + 60))
    consume(timers, inserted(), shortened)
    consume(timers, shortened, inserted())

    assert due_times(tables.client) == [(NOW + 60, "000000000000")]


def test_repeated_delivery_changes_nothing(timers: ModuleType, tables: Any) -> None:
    batch = list(map(inserted, range(30)))
    consume(timers, *batch)
    before = due_times(tables.client)

    assert consume(timers, *batch) == ALL_DONE
    assert due_times(tables.client) == before
    assert len(before) == 30


def test_100_records_take_four_requests(timers: ModuleType) -> None:
    consume(timers, *map(inserted, range(100)))

    assert [(name, len(request["Statements"])) for name, request in seam.calls] == [
        ("BatchExecuteStatement", 25)
    ] * 4


@pytest.mark.parametrize(
    "failure",
    [
        TransientError("ThrottlingException"),
        RequestRefused("AccessDeniedException", "", {}),
        RequestRefused("ResourceNotFoundException", "", {}),
    ],
)
def test_batch_is_repeated_from_the_lowest_record_without_a_timer(
    timers: ModuleType, tables: Any, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    """A missing permission or table may be back soon, as an outage ends."""

    def fail_second() -> None:
        if len(seam.calls) > 1:
            raise failure

    seam.before = fail_second
    answer = consume(timers, *map(inserted, range(60)))

    assert answer == {"batchItemFailures": [{"itemIdentifier": "25"}]}
    assert len(due_times(tables.client)) == 25
    [logged] = caplog.records
    assert (logged.levelname, logged.message) == ("INFO", "timers set")
    facts = vars(logged)
    assert (facts["timers"], facts["missed"], facts["cause"]) == (25, 35, str(failure))


def test_single_throttled_statement_is_repeated(
    timers: ModuleType, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = seam.client.batch_execute_statement
    throttled = {"Error": {"Code": "ThrottlingError"}}

    def throttle(Statements: Any) -> Any:
        if len(Statements) == 1:
            return {"Responses": [throttled]}
        done = original(Statements=Statements[:2] + Statements[3:])["Responses"]
        return {"Responses": done[:2] + [throttled] + done[2:]}

    monkeypatch.setattr(seam.client, "batch_execute_statement", throttle)
    answer = consume(timers, *map(inserted, range(5)))

    assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    assert len(seam.calls) == 4
    assert len(due_times(tables.client)) == 4


def test_record_that_can_not_be_read_is_kept_and_affects_no_other(
    timers: ModuleType,
    tables: Any,
    failed_events: Callable[[], list[Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = [{"eventName": "INSERT", "dynamodb": {"SequenceNumber": "7"}}, {"eventName": "INSERT"}]

    assert consume(timers, inserted(1), *broken, inserted(2)) == ALL_DONE

    assert len(due_times(tables.client)) == 2
    [kept] = failed_events()
    assert json.loads(kept["payload"])["Records"] == broken
    refused, *_ = caplog.records
    assert (refused.levelname, refused.message) == ("ERROR", "no timer for records")
    assert vars(refused)["records"] == 2


def test_record_whose_timer_is_refused_is_kept_and_affects_no_other(
    timers: ModuleType,
    tables: Any,
    failed_events: Callable[[], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bug of ours must neither lose a timer nor hold up a shard."""
    monkeypatch.setattr("expiry.timers._due", lambda time, now: time)
    endless = inserted(2, end=10**200)

    assert consume(timers, inserted(1), endless, inserted(3)) == ALL_DONE

    assert [session_id for _, session_id in due_times(tables.client)] == [f"{1:012d}", f"{3:012d}"]
    [kept] = failed_events()
    assert json.loads(kept["payload"])["Records"] == [endless]
    _, logged, *_ = caplog.records
    assert (vars(logged)["timers"], vars(logged)["missed"]) == (2, 0)


def test_no_request_or_pause_begins_after_the_deadline(
    timers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic, pauses = [0.0], list[float]()
    monkeypatch.setattr("clock.monotonic", lambda: monotonic[0])
    monkeypatch.setattr("clock.sleep", pauses.append)

    def wait() -> None:
        monotonic[0] += timers.ADD_SECONDS + 1

    seam.after = wait
    answer = consume(timers, *map(inserted, range(60)))

    assert len(seam.calls) == 1
    assert pauses == []
    assert answer == {"batchItemFailures": [{"itemIdentifier": "25"}]}
