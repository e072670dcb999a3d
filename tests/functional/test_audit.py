"""The stream consumer, and `GET /events`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from io import StringIO
from types import ModuleType
from typing import Any

import msgspec
import pytest
from boto3.dynamodb.types import TypeSerializer
from msgspec import structs

from dynamodb.errors import RequestRefused, TransientError
from tests.support.api import NOW, Api
from tests.support.backend import IN_MEMORY, NOT_IN_MEMORY, ON_BOTH
from tests.support.functions import function, lambda_context, sample
from tests.support.seam import seam
from tests.support.template import resources

# The two clients differ most in PartiQL, batches and errors.
pytestmark = ON_BOTH

SESSION = "n2qXk8bVQ0mF"
RETENTION = 400 * 86_400


Kept = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def audit(tables: Any, failed_events: Kept, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("clock.sleep", lambda _: None)
    return function("session_audit")


def record(audit: ModuleType, event: dict[str, Any]) -> Any:
    return audit.lambda_handler(event, lambda_context())


def inserts(count: int, *, user_id: str = "ada", start: int = NOW) -> dict[str, Any]:
    """Return a batch of INSERT records. Each has its own second and session."""
    [base] = sample("stream_created")["Records"]
    records = []
    for i in range(count):
        copied = json.loads(json.dumps(base))
        change = copied["dynamodb"]
        change["Keys"]["SessionId"]["S"] = f"{i:012d}"
        change["SequenceNumber"] = str(10**20 + i)
        change["ApproximateCreationDateTime"] = start + i
        change["NewImage"]["SessionId"]["S"] = f"{i:012d}"
        change["NewImage"]["UserId"]["S"] = user_id
        for value in change["NewImage"].values():
            if int(value.get("N", 0)) >= NOW:
                value["N"] = str(int(value["N"]) - NOW + start + i)
        records.append(copied)
    return {"Records": records}


def items(tables: Any) -> list[dict[str, Any]]:
    stored: list[dict[str, Any]] = tables.client.scan(TableName=tables.audit)["Items"]
    return stored


def test_event_is_stored_with_its_retention(audit: ModuleType, tables: Any) -> None:
    assert record(audit, sample("stream_expired")) == {"batchItemFailures": []}

    [item] = items(tables)
    serialize = TypeSerializer().serialize
    event_id = item["EventId"]["S"]
    assert event_id.startswith(f"{NOW + 2340}#")
    assert len(event_id) == 10 + 1 + 40
    assert item == {
        "SessionId": serialize(SESSION),
        "EventId": serialize(event_id),
        "UserId": serialize("ada"),
        "Type": serialize("expired"),
        "At": serialize(NOW + 1800),
        "RecordedAt": serialize(NOW + 2340),
        "Cause": serialize("idle"),
        "RemovedBy": serialize("ttl"),
        "TtlLagSeconds": serialize(540),
        "ExpirationTime": serialize(NOW + 2340 + RETENTION),
    }


def test_trail_of_a_session_reads_back_over_http(audit: ModuleType, api: Api) -> None:
    """The events of all sample records are returned in the order in which they happened."""
    for name in ("created", "updated", "revoked"):
        record(audit, sample(f"stream_{name}"))

    answer = api("GET", "/events", query={"session_id": SESSION, "order": "asc"})

    assert answer.status == 200
    events = answer.json["items"]
    common = {"session_id": SESSION, "user_id": "ada"}
    common["actor"] = "arn:aws:iam::111122223333:user/backend"
    assert [
        {k: v for k, v in event.items() if k not in ("event_id", "request_id")} for event in events
    ] == [
        common | {"type": "created", "at": NOW, "recorded_at": NOW, "expires_at": NOW + 1800},
        common
        | {
            "type": "updated",
            "at": NOW + 60,
            "recorded_at": NOW + 60,
            "changed": ["cart", "theme"],
        },
        common | {"type": "revoked", "at": NOW + 120, "recorded_at": NOW + 120, "reason": "logout"},
    ]
    assert api.send(sample("api_read_events")).json["items"] == events


def test_repeated_delivery_changes_nothing(audit: ModuleType, tables: Any) -> None:
    """Lambda repeats all records from the lowest failure on."""
    batch = inserts(30)
    record(audit, batch)
    before = items(tables)

    assert record(audit, batch) == {"batchItemFailures": []}
    assert items(tables) == before


def with_forged_event(audit: ModuleType) -> dict[str, Any]:
    """Return a batch for whose record somebody has forged an event before, for another user."""
    real = sample("stream_revoked")
    forged = json.loads(json.dumps(real))
    for image in ("OldImage", "NewImage"):
        forged["Records"][0]["dynamodb"][image]["UserId"] = {"S": "eve"}
    assert record(audit, forged) == {"batchItemFailures": []}
    return real


def test_event_is_recorded_though_a_forged_event_has_its_key(
    audit: ModuleType, tables: Any, failed_events: Kept
) -> None:
    """Anybody who may call the function could write the key first, so that the real event would be
    lost.
    """
    real = with_forged_event(audit)
    [forged] = items(tables)

    assert record(audit, real) == {"batchItemFailures": []}

    stored = sorted(items(tables), key=lambda item: str(item["Type"]["S"]))
    events = [(item["Type"]["S"], item["UserId"]["S"]) for item in stored]
    assert sorted(events) == [("revoked", "ada"), ("revoked", "eve"), ("tampered", "ada")]
    assert forged in stored
    assert stored[2]["Changed"] == {"L": [{"S": "EventId"}]}
    assert len({item["EventId"]["S"] for item in stored}) == 3

    for _ in range(2):
        assert record(audit, real) == {"batchItemFailures": []}
    assert len(items(tables)) == 3
    assert failed_events() == []


@NOT_IN_MEMORY
def test_event_under_a_new_not_before_is_the_same_event(
    audit: ModuleType, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that is played back gives a different event if `not_before` has ended its session in
    the meantime.
    """
    expired, renewed = sample("stream_expired"), sample("stream_updated")
    batch = {"Records": expired["Records"] + renewed["Records"]}
    record(audit, batch)
    before = sorted(items(tables), key=str)
    monkeypatch.setattr(audit, "not_before", NOW + 1)
    monkeypatch.setattr(audit, "started_at", 0)

    record(audit, batch)
    assert sorted(items(tables), key=str) == before

    # An older environment with the former setting may also process the record again.
    for item in before:
        key = {name: item[name] for name in ("SessionId", "EventId")}
        tables.client.delete_item(TableName=tables.audit, Key=key)
    record(audit, batch)
    judged = sorted(items(tables), key=str)
    assert {item["Type"]["S"] for item in judged} == {"expired", "tampered"}
    monkeypatch.setattr(audit, "started_at", NOW * 2)
    record(audit, batch)
    assert sorted(items(tables), key=str) == judged


def test_repeated_record_is_only_read(audit: ModuleType, tables: Any) -> None:
    batch = inserts(30)
    record(audit, batch)
    before = items(tables)
    seam.calls.clear()

    assert record(audit, batch) == {"batchItemFailures": []}

    assert [name for name, _ in seam.calls] == [*["BatchExecuteStatement"] * 2, "BatchGetItem"]
    assert items(tables) == before


def test_event_under_a_new_retention_is_the_same_event(
    audit: ModuleType, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = inserts(1)
    record(audit, batch)
    monkeypatch.setattr(audit, "retention_seconds", 60)

    record(audit, batch)

    assert len(items(tables)) == 1


def test_record_is_repeated_if_the_existing_event_can_not_be_read(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = inserts(3)
    record(audit, batch)

    def refuse(**_: Any) -> Any:
        raise TransientError("throttled")

    monkeypatch.setattr(seam.client, "batch_get_item", refuse)

    first = batch["Records"][0]["dynamodb"]["SequenceNumber"]
    assert record(audit, batch) == {"batchItemFailures": [{"itemIdentifier": first}]}


def test_same_record_twice_in_a_batch_is_one_event(audit: ModuleType, tables: Any) -> None:
    batch = sample("stream_created")
    batch["Records"] *= 2

    assert record(audit, batch) == {"batchItemFailures": []}
    assert len(items(tables)) == 1


def test_batch_of_100_takes_four_requests(
    audit: ModuleType, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    original = seam.client.batch_execute_statement

    def count(Statements: Any) -> Any:
        sizes.append(len(Statements))
        return original(Statements=Statements)

    monkeypatch.setattr(seam.client, "batch_execute_statement", count)

    record(audit, inserts(100))

    assert sizes == [25] * 4
    assert len(items(tables)) == 100


def test_poisoned_record_does_not_affect_other_records(
    audit: ModuleType, tables: Any, failed_events: Kept, logged: StringIO
) -> None:
    """The record becomes an `unreadable` event at once.

    It is never retried. The bucket has the complete record, and the log says where.
    """
    batch = sample("stream_poisoned")

    assert record(audit, batch) == {"batchItemFailures": []}

    assert sorted(item["Type"]["S"] for item in items(tables)) == [
        "created",
        "expired",
        "unreadable",
    ]
    [unreadable] = [item for item in items(tables) if item["Type"]["S"] == "unreadable"]
    error, summary = map(json.loads, logged.getvalue().splitlines())
    assert (error["level"], error["message"]) == ("ERROR", "unreadable stream record")
    assert error["event_id"] == unreadable["EventId"]["S"]
    assert (summary["message"], summary["events"]) == ("recorded", 3)
    assert (summary["missed"], summary["unreadable"]) == (0, 1)
    [kept] = failed_events()
    assert json.loads(kept["payload"])["Records"] == [batch["Records"][1]]


def test_renewal_is_not_recorded_by_default(audit: ModuleType, tables: Any) -> None:
    batch = sample("stream_created")
    [renewal] = batch["Records"]
    change = renewal["dynamodb"]
    renewal["eventName"], change["OldImage"] = "MODIFY", change["NewImage"]
    change["NewImage"] = change["OldImage"] | {
        "RequestId": {"S": "renewal"},
        "ExpirationTime": {"N": str(NOW + 1860)},
        "RenewedAt": {"N": str(NOW + 60)},
    }

    assert record(audit, batch) == {"batchItemFailures": []}
    assert items(tables) == []


# An event of this user can't be written, because DynamoDB rejects an empty string as an index's
# key.
def unwritable(audit: ModuleType, monkeypatch: pytest.MonkeyPatch, *sessions: int) -> None:
    """Return a function that simulates a bug: the events of these sessions break a rule of
    DynamoDB.
    """
    events_in = audit.events_in
    names = {f"{i:012d}" for i in sessions}

    def wrong(record: Any, **switch: int) -> Any:
        [event] = events_in(record, **switch)
        return [structs.replace(event, user_id="") if event.session_id in names else event]

    monkeypatch.setattr(audit, "events_in", wrong)


def test_permanently_rejected_event_is_unreadable_and_its_record_kept(
    audit: ModuleType,
    tables: Any,
    failed_events: Kept,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Our own bugs must lose nothing, and only an outage may delay a shard."""
    unwritable(audit, monkeypatch, 3, 28)
    batch = inserts(30)

    assert record(audit, batch) == {"batchItemFailures": []}

    types = {item["SessionId"]["S"]: item["Type"]["S"] for item in items(tables)}
    spoiled = [f"{i:012d}" for i in (3, 28)]
    assert types == {f"{i:012d}": "created" for i in range(30)} | dict.fromkeys(
        spoiled, "unreadable"
    )
    [kept] = failed_events()
    assert json.loads(kept["payload"])["Records"] == [batch["Records"][3], batch["Records"][28]]


def test_statement_that_fails_its_request_does_not_affect_others(
    audit: ModuleType, tables: Any, failed_events: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A malformed number fails all 25 statements of a request.

    Sent alone, only this statement fails.
    """
    original = seam.client.batch_execute_statement
    sizes = []

    def answer(Statements: Any) -> Any:
        sizes.append(len(Statements))
        text = json.dumps(Statements)
        if f"{3:012d}" in text and '"unreadable"' not in text:
            raise RequestRefused("ValidationException", "not a number", {})
        return original(Statements=Statements)

    monkeypatch.setattr(seam.client, "batch_execute_statement", answer)

    assert record(audit, inserts(30)) == {"batchItemFailures": []}

    assert sorted(item["Type"]["S"] for item in items(tables)) == ["created"] * 29 + ["unreadable"]
    assert sizes == [25, *[1] * 25, 5, 1]
    assert len(failed_events()) == 1


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "ResourceNotFoundException", "UnrecognizedClientException"]
)
def test_missing_permission_or_table_is_an_outage(
    audit: ModuleType, failed_events: Kept, code: str
) -> None:
    """Somebody can fix it, and until then the stream keeps the records."""

    def refuse_all() -> None:
        raise RequestRefused(code, "no", {})

    seam.before = refuse_all

    answer = record(audit, inserts(30))

    assert answer == {"batchItemFailures": [{"itemIdentifier": str(10**20)}]}
    assert failed_events() == []


def test_record_that_lambda_repeats_is_not_kept_yet(
    audit: ModuleType, tables: Any, failed_events: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an outage would fill the bucket with copies of the record."""
    unwritable(audit, monkeypatch, 3, 28)
    refuse(audit, monkeypatch, {10}, times=99)
    batch = inserts(30)

    assert record(audit, batch) == {"batchItemFailures": [{"itemIdentifier": str(10**20 + 10)}]}

    [kept] = failed_events()
    assert json.loads(kept["payload"])["Records"] == [batch["Records"][3]]


def test_failing_bucket_is_an_outage(
    audit: ModuleType, tables: Any, monkeypatch: pytest.MonkeyPatch, logged: StringIO
) -> None:
    """A record is repeated until the bucket has it. The events of the other records are stored."""
    unwritable(audit, monkeypatch, 3)
    monkeypatch.setattr(audit, "bucket", "absent")

    answer = record(audit, inserts(5))

    assert answer == {"batchItemFailures": [{"itemIdentifier": str(10**20 + 3)}]}
    assert len(items(tables)) == 5
    assert '"cause":"NoSuchBucket"' in logged.getvalue()


@pytest.mark.parametrize(
    "code", ["ThrottlingError", "ProvisionedThroughputExceeded", "AccessDenied"]
)
def test_refused_statements_are_tried_again(
    audit: ModuleType, tables: Any, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    refuse(audit, monkeypatch, {3, 7}, times=2, code=code)

    assert record(audit, inserts(10)) == {"batchItemFailures": []}
    assert len(items(tables)) == 10


def test_lowest_refused_record_is_reported(
    audit: ModuleType, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda uses it as the checkpoint. The other records are written nevertheless."""
    refuse(audit, monkeypatch, {40, 7, 9}, times=99)

    answer = record(audit, inserts(50))

    assert answer == {"batchItemFailures": [{"itemIdentifier": str(10**20 + 7)}]}
    assert len(items(tables)) == 47


def test_sequence_numbers_are_compared_as_numbers(
    audit: ModuleType, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequence numbers have different lengths. As strings, "100" would come before "99"."""
    refuse(audit, monkeypatch, {0, 1}, times=99)
    batch = inserts(2)
    for record_, number in zip(batch["Records"], ("100", "99"), strict=True):
        record_["dynamodb"]["SequenceNumber"] = number

    assert record(audit, batch) == {"batchItemFailures": [{"itemIdentifier": "99"}]}


@pytest.mark.parametrize("number", [None, "x"])
def test_refused_record_without_a_sequence_number_repeats_the_batch(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, number: Any
) -> None:
    """Otherwise Lambda would skip the records before the checkpoint.

    Events that were written stay written.
    """
    batch = inserts(3)
    batch["Records"][0]["dynamodb"]["SequenceNumber"] = number

    def refuse_all() -> None:
        raise TransientError("ThrottlingException")

    seam.before = refuse_all

    assert record(audit, batch) == {"batchItemFailures": [{"itemIdentifier": ""}]}


def test_records_that_were_not_sent_before_the_deadline_are_reported(
    audit: ModuleType, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statements of a rejected request are sent alone, the last one first.

    At the deadline, the statements that were not sent come before those that are written. They must
    not count as written.
    """
    clock = [0.0]
    original = seam.client.batch_execute_statement

    def answer(Statements: Any) -> Any:
        clock[0] += 7
        if len(Statements) > 1:
            raise RequestRefused("ValidationException", "not a number", {})
        return original(Statements=Statements)

    monkeypatch.setattr(seam.client, "batch_execute_statement", answer)
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])

    reported = record(audit, inserts(60))["batchItemFailures"]

    written = {item["SessionId"]["S"] for item in items(tables)}
    assert 0 < len(written) < 10
    missing = min(set(range(60)) - set(map(int, written)))
    assert reported == [{"itemIdentifier": str(10**20 + missing)}]


def test_silent_table_fails_all_records_in_time(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function must end before its timeout.

    If Lambda killed it, it could not report anything.
    """
    clock = [0.0]

    def time_out() -> None:
        clock[0] += 7  # the longest time that a request takes
        raise TransientError("TimeoutError")

    seam.before = time_out
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])

    answer = record(audit, inserts(100))

    assert answer == {"batchItemFailures": [{"itemIdentifier": str(10**20)}]}
    [timeout] = {
        properties["Timeout"]
        for properties in resources("AWS::Lambda::Function").values()
        if properties["Handler"].startswith("session_audit.")
    }
    assert clock[0] < timeout - 15


def refuse(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    indexes: set[int],
    *,
    times: int,
    code: str = "ThrottlingError",
) -> None:
    """Let DynamoDB reject the inserts of these sessions for a number of times.

    All other inserts succeed.
    """
    original = seam.client.batch_execute_statement
    refused = {f"{i:012d}": times for i in indexes}

    def answer(Statements: Any) -> Any:
        responses: list[Any] = []
        for statement in Statements:
            [session_id] = [
                p["S"] for p in statement["Parameters"] if p.get("S", "x")[:9] == "0" * 9
            ]
            if refused.get(session_id, 0):
                refused[session_id] -= 1
                responses.append({"Error": {"Code": code, "Message": "slow down"}})
            else:
                responses += original(Statements=[statement])["Responses"]
        return {"Responses": responses}

    monkeypatch.setattr(seam.client, "batch_execute_statement", answer)


def ids(api: Api, **query: Any) -> list[str]:
    answer = api("GET", "/events", query={"user_id": "ada", **query})
    return [event["session_id"].lstrip("0") or "0" for event in answer.json["items"]]


def test_events_of_a_user_by_time_of_record(audit: ModuleType, api: Api) -> None:
    """`since` is inclusive, and `until` is exclusive."""
    record(audit, inserts(6))
    record(audit, inserts(2, user_id="eve", start=NOW + 100))

    assert ids(api) == ["5", "4", "3", "2", "1", "0"]
    assert ids(api, order="asc") == ["0", "1", "2", "3", "4", "5"]
    assert ids(api, since=NOW + 2, until=NOW + 4) == ["3", "2"]
    assert ids(api, since=NOW + 2, until=NOW + 2) == []
    assert ids(api, since=NOW + 99) == []


def test_page_has_25_events_by_default(audit: ModuleType, api: Api) -> None:
    record(audit, inserts(26))

    assert len(ids(api)) == 25


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_contain_all_events(audit: ModuleType, api: Api, order: str) -> None:
    record(audit, inserts(7))
    found: list[str] = []
    query: dict[str, Any] = {"user_id": "ada", "limit": 3, "order": order, "since": NOW + 1}
    while True:
        page = api("GET", "/events", query=query).json
        assert len(page["items"]) <= 3
        found += [event["session_id"][-1] for event in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    expected = ["1", "2", "3", "4", "5", "6"]
    assert found == (expected if order == "asc" else expected[::-1])


def test_cursor_of_other_events_is_refused(audit: ModuleType, api: Api) -> None:
    record(audit, inserts(3))
    query = {"user_id": "ada", "limit": 1}
    cursor = api("GET", "/events", query=query).json["next_cursor"]

    def status(**other: Any) -> int:
        return api("GET", "/events", query=query | {"cursor": cursor} | other).status

    assert status() == 200
    assert status(limit=2) == 200
    assert status(order="asc") == 422
    assert status(since=1) == 422
    assert status(until=NOW) == 422
    assert status(user_id="eve") == 422
    assert api("GET", "/sessions", query={"user_id": "ada", "cursor": cursor}).status == 422


def test_page_of_the_longest_events_is_cut_to_lambdas_limit(audit: ModuleType, api: Api) -> None:
    """Each of these characters takes seven bytes in an answer, and the key of a user has 2 KB."""
    user_id = "\x01" * 2048
    batch = inserts(100)
    for number, stream_record in enumerate(batch["Records"]):
        new = stream_record["dynamodb"]["NewImage"]
        new["UserId"] = {"S": user_id}
        stream_record["dynamodb"]["Keys"]["SessionId"]["S"] = f"{number:02d}" + "\x01" * 2046
        old = {f"{name:02d}" + "\x01" * 48: {"S": "x"} for name in range(100)}
        stream_record |= {"eventName": "MODIFY"}
        stream_record["dynamodb"]["OldImage"] = new | old
    for start in range(0, 100, 20):  # batches of the trail's own stream are larger
        record(audit, {"Records": batch["Records"][start : start + 20]})

    trail, position, read = api.handler.trail, None, list[str]()
    while True:
        page = trail.read(
            *("UserId", user_id),
            **{"since": 0, "until": 10**10 - 1, "newest_first": False, "limit": 100},
            after=position,
        )
        body = json.dumps({"body": msgspec.json.encode(page.events).decode()}, ensure_ascii=False)
        assert len(body.encode()) < 6 * 1024 * 1024
        read += [event.session_id for event in page.events]
        position = page.position
        if position is None:
            break
    assert len(set(read)) == len(read) == 100


def expire(api: Api) -> str:
    session_id = api.create(ttl_seconds=10)
    api.clock.now = NOW + 10
    return session_id


def pending(api: Api, session_id: str, **query: Any) -> Any:
    return api("GET", "/events", query={"session_id": session_id, **query}).json["pending"]


def test_pending_shows_an_expiry_before_ttl_deletes_the_item(audit: ModuleType, api: Api) -> None:
    """TTL may take days, but the cause of the end is known before."""
    session_id = expire(api)

    assert pending(api, session_id) == {
        "type": "expired",
        "at": NOW + 10,
        "cause": "idle",
        "expected_by": None,
    }
    assert api.requests == ["GetItem", "Query"]

    removal = sample("stream_expired")
    change = removal["Records"][0]["dynamodb"]
    change["Keys"]["SessionId"]["S"] = change["OldImage"]["SessionId"]["S"] = session_id
    record(audit, removal)
    assert pending(api, session_id) is None


def test_nothing_is_pending_for_a_live_or_revoked_session(audit: ModuleType, api: Api) -> None:
    alive, revoked = api.create(), api.create()
    api("DELETE", f"/sessions/{revoked}")

    for session_id in (alive, revoked, SESSION):
        assert pending(api, session_id) is None


def test_end_by_not_before_is_pending_from_that_time_on(
    audit: ModuleType, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = api.create()
    monkeypatch.setattr(api.handler.sessions, "_not_before", NOW + 60)
    api.clock.now = NOW + 60

    assert pending(api, session_id) == {
        "type": "expired",
        "at": NOW + 60,
        "cause": "not_before",
        "expected_by": None,
    }


@IN_MEMORY
@pytest.mark.parametrize(
    ("created", "end", "expected_by"),
    [
        (NOW, NOW + 79, NOW + 200),
        (NOW, NOW + 81, NOW + 201),
        (NOW + 1800, NOW + 1800, NOW + 2000),
        (None, NOW + 1800, NOW + 1920),
        (NOW + 1801, NOW + 1800, None),
        (10**12, NOW + 1800, None),
    ],
)
def test_pending_says_by_when_prompt_expiry_records_the_end(
    audit: ModuleType,
    api: Api,
    tables: Any,
    stored: Any,
    monkeypatch: pytest.MonkeyPatch,
    created: int | None,
    end: int,
    expected_by: int | None,
) -> None:
    """The sweeper does not delete a session shortly after its creation.

    A creation after the end was not written by the service, and puts the deletion off.
    """
    monkeypatch.setattr(api.handler, "prompt_expiry", True)
    session_id = api.create()
    item = stored(session_id) | {"ExpirationTime": {"N": str(end)}}
    item["CreatedAt"] = {"N": str(created)}
    if created is None:  # the index accepts no malformed time
        del item["CreatedAt"]
    tables.client.put_item(TableName=tables.sessions, Item=item)
    api.clock.now = end

    assert pending(api, session_id) == {
        "type": "expired",
        "at": end,
        "cause": "idle",
        "expected_by": expected_by,
    }


@IN_MEMORY
def test_end_by_not_before_is_not_expected_promptly(
    audit: ModuleType, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its item stays until the end that the session would have had."""
    monkeypatch.setattr(api.handler, "prompt_expiry", True)
    session_id = api.create()
    monkeypatch.setattr(api.handler.sessions, "_not_before", NOW + 60)
    api.clock.now = NOW + 60

    answer = pending(api, session_id)
    assert (answer["cause"], answer["expected_by"]) == ("not_before", None)


def test_only_the_first_page_of_a_session_reads_the_item(audit: ModuleType, api: Api) -> None:
    record(audit, inserts(3))
    page = api("GET", "/events", query={"user_id": "ada", "limit": 1})
    assert "pending" not in page.json
    assert api.requests == ["Query"]

    record(audit, sample("stream_created"))
    record(audit, sample("stream_updated"))
    query = {"session_id": SESSION, "limit": 1}
    cursor = api("GET", "/events", query=query).json["next_cursor"]
    assert "pending" not in api("GET", "/events", query=query | {"cursor": cursor}).json
    assert api.requests == ["Query"]


def test_cursor_of_a_user_is_invalid_for_a_session_of_the_same_name(
    audit: ModuleType, api: Api
) -> None:
    record(audit, inserts(2, user_id=SESSION))
    page = api("GET", "/events", query={"user_id": SESSION, "limit": 1}).json

    query = {"session_id": SESSION, "cursor": page["next_cursor"]}
    assert api("GET", "/events", query=query).status == 422


def test_forged_position_leads_to_no_other_session(audit: ModuleType, api: Api) -> None:
    """The partition key always comes from the query."""
    record(audit, sample("stream_created"))
    record(audit, sample("stream_updated"))
    query = {"session_id": SESSION, "limit": 1}
    cursor = api("GET", "/events", query=query).json["next_cursor"]
    (_, event_id), digest = json.loads(base64.urlsafe_b64decode(cursor))
    forged = json.dumps([["B" * 12, event_id], digest]).encode()

    answer = api(
        "GET", "/events", query=query | {"cursor": base64.urlsafe_b64encode(forged).decode()}
    )

    assert answer.status == 200
    [(_, request)] = seam.calls
    assert request["ExclusiveStartKey"] == {"SessionId": {"S": SESSION}, "EventId": {"S": event_id}}


def test_forged_position_outside_of_the_query_is_refused(audit: ModuleType, api: Api) -> None:
    """DynamoDB would reject it, because it is outside of the query's boundaries."""
    record(audit, inserts(3))
    query = {"user_id": "ada", "limit": 1, "since": NOW, "until": NOW + 9}
    cursor = api("GET", "/events", query=query).json["next_cursor"]
    (session_id, event_id), digest = json.loads(base64.urlsafe_b64decode(cursor))

    def status(position: Any) -> int:
        forged = base64.urlsafe_b64encode(json.dumps([position, digest]).encode()).decode()
        return api("GET", "/events", query=query | {"cursor": forged}).status

    assert status([session_id, event_id]) == 200
    assert status([session_id, f"{NOW - 1}{event_id[10:]}"]) == 422
    assert status([session_id, f"{NOW + 9}{event_id[10:]}"]) == 422
    assert status([session_id, event_id[:-1]]) == 422
    assert status([session_id, event_id + "\n"]) == 422
    assert status([session_id]) == 422
    assert status([session_id, event_id, "x"]) == 422
    assert status(["", event_id]) == 422
    assert status(["é" * 1024, event_id]) == 200
    assert status(["é" * 1024 + "x", event_id]) == 422
