"""Events that are sent to the bus, and the handling of its failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from types import ModuleType
from typing import Any

import boto3
import moto
import msgspec
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, ConnectTimeoutError

from audit.event import AuditEvent
from session_events.event_bus import EventBus
from tests.support.api import NOW, Api
from tests.support.functions import function, lambda_context, log_stream, sample
from tests.support.template import resources

SESSION = "n2qXk8bVQ0mF"


class Bus:
    """EventBridge with its documented limits.

    A test fails single entries with the code that `judge` returns for a detail, or whole requests
    by raising in `before`.
    """

    def __init__(self) -> None:
        self.requests: list[list[dict[str, str]]] = []
        self.taken: list[dict[str, str]] = []
        self.judge: Callable[[Any], str | None] = lambda detail: None
        self.before: Callable[[], None] = lambda: None

    def put_events(self, *, Entries: list[dict[str, str]]) -> dict[str, Any]:
        self.requests.append(Entries)
        self.before()
        if not 1 <= len(Entries) <= 10:
            raise refusal("ValidationException")
        if len(json.dumps({"Entries": Entries})) > 256 * 1024:
            raise refusal("413", status=413)
        answers = []
        for entry in Entries:
            code = self.judge(json.loads(entry["Detail"]))
            if code:
                answers.append({"ErrorCode": code, "ErrorMessage": "why"})
            else:
                self.taken.append(entry)
                answers.append({"EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860"})
        failed = [answer for answer in answers if "ErrorCode" in answer]
        return {"FailedEntryCount": len(failed), "Entries": answers}

    @property
    def details(self) -> list[Any]:
        return [json.loads(entry["Detail"]) for entry in self.taken]


def refusal(code: str, status: int = 400) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": "why"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "PutEvents")


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def kept() -> list[Any]:
    """Return the records in the bucket."""
    return []


@pytest.fixture
def events(bus: Bus, kept: list[Any], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    handler = function("session_events", "local")

    def keep(records: list[Any], *, bucket: str) -> bool:
        assert bucket == "undelivered"
        kept.extend(records)
        return True

    monkeypatch.setattr(handler, "bus", EventBus(bus, "default"))
    monkeypatch.setattr("audit.failed_events.keep", keep)
    monkeypatch.setattr("clock.sleep", lambda _: None)
    return handler


@pytest.fixture
def events_log(events: ModuleType) -> StringIO:
    return log_stream()


def send(events: ModuleType, batch: list[Any]) -> str | None:
    """Send the records. Return the number from which Lambda must repeat, or None."""
    answer = events.lambda_handler({"Records": batch}, lambda_context())
    failures: list[dict[str, str]] = answer["batchItemFailures"]
    assert len(failures) <= 1
    return failures[0]["itemIdentifier"] if failures else None


def record(number: int, item: dict[str, Any]) -> dict[str, Any]:
    """Return the stream record of this item of the trail."""
    [base] = sample("trail_revoked")["Records"]
    change: dict[str, Any] = base["dynamodb"]
    change["SequenceNumber"] = str(number)
    change["Keys"] = {name: item[name] for name in ("SessionId", "EventId") if name in item}
    change["NewImage"] = item
    return base  # type: ignore[no-any-return]


def batch(count: int, **attributes: Any) -> list[dict[str, Any]]:
    """Return records of `revoked` events.

    Each request id is the position of the record in the batch.
    """
    [base] = sample("trail_revoked")["Records"]
    image = base["dynamodb"]["NewImage"]
    return [
        record(98 + place, image | {"RequestId": {"S": str(place)}} | attributes)
        for place in range(count)
    ]


def places(details: list[Any]) -> list[int]:
    return [int(detail["request_id"]) for detail in details]


def test_detail_is_the_event_of_get_events(
    events: ModuleType, bus: Bus, api: Api, tables: Any
) -> None:
    """The record comes from the table that the audit function wrote."""
    audit = function("session_audit")
    for name in ("created", "updated", "revoked", "expired"):
        audit.lambda_handler(sample(f"stream_{name}"), lambda_context())
    items = tables.client.scan(TableName=tables.audit)["Items"]

    assert send(events, [record(i, item) for i, item in enumerate(items)]) is None

    trail = api("GET", "/events", query={"session_id": SESSION, "order": "asc"}).json["items"]
    assert [event["type"] for event in trail] == ["created", "updated", "revoked", "expired"]
    assert sorted(bus.details, key=lambda detail: str(detail["event_id"])) == trail
    for entry in bus.taken:
        assert entry["DetailType"] == json.loads(entry["Detail"])["type"]
        assert (entry["Source"], entry["EventBusName"]) == ("serverless-sessions", "default")


def test_sdk_accepts_the_functions_requests() -> None:
    with moto.mock_aws():
        events = function("session_events", "local")
        assert send(events, sample("trail_revoked")["Records"]) is None


def test_batch_of_100_takes_ten_requests(events: ModuleType, bus: Bus) -> None:
    assert send(events, batch(100)) is None

    assert [len(request) for request in bus.requests] == [10] * 10
    assert places(bus.details) == list(range(100))


def test_longest_events_are_packed_by_size(events: ModuleType, bus: Bus) -> None:
    """Events are hardly longer than this, because `functions/audit/images.py` cuts the texts in
    them.
    """
    text, name = "\x01" * 512, "\x01" * 2048
    longest = {
        "UserId": {"S": name},
        "SessionId": {"S": name},
        "Actor": {"S": text},
        "Reason": {"S": text},
        "Changed": {"L": [{"S": text}] * 9},
    }
    mixed = [*batch(7, **longest), *batch(3), *batch(6, **longest)]
    for number, stream_record in enumerate(mixed):
        stream_record["dynamodb"]["SequenceNumber"] = str(number)

    assert send(events, mixed) is None

    assert len(bus.taken) == len(mixed)
    assert [len(request) for request in bus.requests] == [3, 3, 6, 3, 1]
    assert max(len(entry["Detail"].encode()) for entry in bus.taken) > 58_000


@pytest.mark.parametrize("text", ["\x01", '"', "\\", "é", "\U0001f600"])
def test_request_is_packed_by_the_bytes_that_boto3_sends(
    events: ModuleType, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """`Detail` is JSON within JSON, and boto3 escapes every character that is not ASCII."""
    sizes = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        sizes.append(len(request.body))
        entries = json.loads(request.body)["Entries"]
        return sdk_response(
            200, {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}] * len(entries)}
        )

    monkeypatch.setattr(events, "bus", EventBus(sdk_client(events, answer), "default"))

    assert send(events, batch(40, Changed={"L": [{"S": text * 4000}]})) is None

    assert max(sizes) <= 256 * 1024
    assert len(sizes) < 10 or min(sizes[:-1]) > 200 * 1024  # as full as possible


def test_request_may_have_exactly_256_kb(events: ModuleType, bus: Bus) -> None:
    send(events, batch(2, Actor={"S": ""}))
    room = 256 * 1024 - len(json.dumps({"Entries": bus.requests.pop()}))
    records = batch(2, Actor={"S": ""})
    actor = records[0]["dynamodb"]["NewImage"]["Actor"] = {"S": "x" * room}

    send(events, records)
    actor["S"] += "x"
    send(events, records)

    assert [len(request) for request in bus.requests] == [2, 1, 1]


def sdk_client(events: ModuleType, answer: Callable[..., AWSResponse]) -> Any:
    """boto3's client. Its requests are answered without being sent."""
    client = boto3.client("events", region_name="us-east-1", config=events.client.meta.config)
    client.meta.events.register("before-send.events.PutEvents", answer)
    return client


def sdk_response(status: int, body: Any = None) -> AWSResponse:
    """Return an answer of EventBridge, by default without a body."""
    headers: Any = {}
    response = AWSResponse("https://events", status, headers, None)
    vars(response)["_content"] = b"" if body is None else json.dumps(body).encode()
    return response


def test_request_that_is_too_large_is_split(
    events: ModuleType, kept: list[Any], monkeypatch: pytest.MonkeyPatch, events_log: StringIO
) -> None:
    """EventBridge only returns the status.

    An entry that is too large by itself is put into the bucket and never repeated.

    https://github.com/boto/boto3/issues/3411
    """
    records = batch(10)
    records[6]["dynamodb"]["NewImage"]["Actor"] = {"S": "x" * 5000}
    requests: list[int] = []
    taken: list[Any] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        entries = json.loads(request.body)["Entries"]
        requests.append(len(entries))
        if len(request.body) > 2000:
            return sdk_response(413)
        taken.extend(json.loads(entry["Detail"]) for entry in entries)
        return sdk_response(
            200, {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}] * len(entries)}
        )

    monkeypatch.setattr(events, "bus", EventBus(sdk_client(events, answer), "default"))

    assert send(events, records) is None

    assert places(taken) == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert len(requests) < 2 * len(records)
    assert kept == [records[6]]
    error, _ = map(json.loads, events_log.getvalue().splitlines())
    assert (error["message"], error["cause"]) == ("event refused", "RequestEntityTooLarge")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ValidationException", 400),
        ("SerializationException", 400),
        ("RequestEntityTooLargeException", 413),
        ("413", 413),
    ],
)
def test_permanently_failing_request_does_not_delay_other_events(
    events: ModuleType, bus: Bus, kept: list[Any], code: str, status: int
) -> None:
    records = batch(10)

    def refuse() -> None:
        if any('"request_id":"4"' in entry["Detail"] for entry in bus.requests[-1]):
            raise refusal(code, status)

    bus.before = refuse

    assert send(events, records) is None
    assert places(bus.details) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert kept == [records[4]]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("AccessDeniedException", 400),
        ("ExpiredTokenException", 400),
        ("UnrecognizedClientException", 400),
        ("InvalidSignatureException", 400),
        ("ResourceNotFoundException", 400),
        ("ThrottlingException", 400),
        ("400", 400),
        ("403", 403),
        ("404", 404),
        ("408", 408),
        ("429", 429),
        ("503", 503),
    ],
)
def test_temporarily_failing_request_is_repeated(
    events: ModuleType, bus: Bus, kept: list[Any], code: str, status: int
) -> None:
    """The status is not enough: AWS's JSON protocols answer 400 to nearly every error."""

    def refuse() -> None:
        raise refusal(code, status)

    bus.before = refuse

    assert send(events, batch(10)) == "98"
    assert [len(request) for request in bus.requests] == [10] * 4
    assert kept == []


def test_item_that_boto3_rejects_does_not_delay_other_events(
    events: ModuleType, monkeypatch: pytest.MonkeyPatch, kept: list[Any]
) -> None:
    """boto3 rejects the item, which something else wrote into the trail."""
    records = batch(5)
    records[2]["dynamodb"]["NewImage"]["Type"] = {"N": "7"}
    taken: list[Any] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        entries = json.loads(request.body)["Entries"]
        taken.extend(json.loads(entry["Detail"]) for entry in entries)
        return sdk_response(
            200, {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}] * len(entries)}
        )

    monkeypatch.setattr(events, "bus", EventBus(sdk_client(events, answer), "default"))

    assert send(events, records) is None
    assert places(taken) == [0, 1, 3, 4]
    assert kept == [records[2]]


def test_only_failed_entries_are_sent_again(events: ModuleType, bus: Bus) -> None:
    failing = [3, 7, 3]

    def fail(detail: Any) -> str | None:
        place = int(detail["request_id"])
        if place not in failing:
            return None
        failing.remove(place)
        return "InternalFailure"

    bus.judge = fail

    assert send(events, batch(20)) is None
    assert [len(request) for request in bus.requests] == [10, 10, 2, 1]
    assert sorted(places(bus.details)) == list(range(20))


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "InternalFailure", "AccessDeniedException", "Whatever"]
)
def test_lowest_failed_record_is_reported(
    events: ModuleType, bus: Bus, kept: list[Any], code: str
) -> None:
    """The lowest number counts, not the lowest string: "100" would come before "99".

    The other events are on the bus.
    """
    bus.judge = lambda detail: code if detail["request_id"] in ("9", "1", "2") else None

    assert send(events, batch(12)) == "99"
    assert len(bus.taken) == 9
    assert kept == []


@pytest.mark.parametrize(
    "code",
    [
        "MalformedDetail",
        "InvalidArgument",
        "NotAuthorizedForDetailTypeException",
        "NotAuthorizedForSourceException",
    ],
)
def test_permanently_refused_entry_does_not_delay_other_events(
    events: ModuleType, bus: Bus, kept: list[Any], events_log: StringIO, code: str
) -> None:
    """It is never sent again. The bucket has the complete record, and the log names the event."""
    records = batch(5)
    bus.judge = lambda detail: code if detail["request_id"] == "2" else None

    assert send(events, records) is None

    assert places(bus.details) == [0, 1, 3, 4]
    assert len(bus.requests) == 1
    assert kept == [records[2]]
    error, summary = map(json.loads, events_log.getvalue().splitlines())
    assert (error["level"], error["message"], error["cause"]) == ("ERROR", "event refused", code)
    assert error["event_id"] == records[2]["dynamodb"]["Keys"]["EventId"]["S"]
    assert (summary["message"], summary["events"], summary["refused"]) == ("sent", 4, 1)


@pytest.mark.parametrize(
    "item", [{}, {"SessionId": {"S": "x"}}, {"Type": {"S": "created"}, "At": {"N": "1.5"}}]
)
def test_item_that_is_not_an_event_does_not_delay_other_events(
    events: ModuleType, bus: Bus, kept: list[Any], item: dict[str, Any]
) -> None:
    records = batch(3)
    records[1]["dynamodb"]["NewImage"] = item

    assert send(events, records) is None
    assert places(bus.details) == [0, 2]
    assert kept == [records[1]]


def test_refused_record_that_lambda_repeats_is_not_kept_yet(
    events: ModuleType, bus: Bus, kept: list[Any]
) -> None:
    records = batch(6)
    verdicts = {"1": "MalformedDetail", "3": "InternalFailure", "5": "MalformedDetail"}
    bus.judge = lambda detail: verdicts.get(detail["request_id"])

    assert send(events, records) == records[3]["dynamodb"]["SequenceNumber"]
    assert kept == [records[1]]


def test_refused_record_is_repeated_if_the_bucket_fails(
    events: ModuleType, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda repeats from the lowest number on, not from the lowest string: "100" would come before
    "99".
    """
    bus.judge = lambda detail: "MalformedDetail" if detail["request_id"] in ("1", "2") else None
    monkeypatch.setattr("audit.failed_events.keep", lambda records, bucket: False)

    assert send(events, batch(4)) == "99"


def test_silent_bus_is_given_up_within_the_functions_time(
    events: ModuleType, bus: Bus, kept: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Lambda killed the function, it could not report anything."""
    clock = [0.0]

    def time_out() -> None:
        clock[0] += 11  # two attempts of at most 1 s + 4 s, and 1 s between them
        raise ConnectTimeoutError(endpoint_url="https://events.us-east-1.amazonaws.com")

    bus.before = time_out
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])

    assert send(events, batch(100)) == "98"

    config = events.client.meta.config
    assert config.connect_timeout + config.read_timeout == 5
    assert config.retries["total_max_attempts"] == 2
    [timeout] = {
        properties["Timeout"]
        for properties in resources("AWS::Lambda::Function", "local").values()
        if properties["Handler"].startswith("session_events.")
    }
    assert clock[0] < timeout - 15  # the rest is for the bucket
    assert kept == []


def test_outage_of_the_bus_for_an_hour_loses_nothing(
    events: ModuleType, bus: Bus, kept: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda repeats from the lowest failure on, for 22 hours.

    In the second half, the bus fails at random.
    """
    clock = [0.0]

    def be_away() -> None:
        clock[0] += 7
        if clock[0] < 3600:
            raise refusal("ServiceUnavailable")

    bus.before = be_away
    bus.judge = lambda detail: (
        "ThrottlingException" if len(bus.requests) % 3 and clock[0] < 7200 else None
    )
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])
    records = waiting = batch(100)

    while waiting:
        lowest = send(events, waiting)
        numbers = [entry["dynamodb"]["SequenceNumber"] for entry in waiting]
        waiting = waiting[numbers.index(lowest) :] if lowest else []

    assert 3600 < clock[0] < 22 * 3600
    assert set(places(bus.details)) == set(range(len(records)))
    assert kept == []


def test_repeated_event_has_the_same_detail(events: ModuleType, bus: Bus) -> None:
    """Only EventBridge's own id differs."""
    send(events, batch(1))
    send(events, batch(1))

    first, second = bus.taken
    assert first == second


def test_same_record_twice_in_a_batch_is_sent_once(events: ModuleType, bus: Bus) -> None:
    send(events, batch(1) * 2)

    assert len(bus.taken) == 1


def test_log_has_the_cause_but_no_user(events: ModuleType, bus: Bus, events_log: StringIO) -> None:
    bus.judge = lambda detail: "AccessDeniedException"

    send(events, batch(3, UserId={"S": "grace@example.com"}))

    summary = json.loads(events_log.getvalue())
    assert (summary["events"], summary["missed"]) == (0, 3)
    assert summary["causes"] == ["AccessDeniedException"]
    assert "grace" not in events_log.getvalue()


def test_every_member_of_an_event_is_sent() -> None:
    """Events may get more members, and all of them must be in the item of the table."""
    from audit import trail as audit_trail

    event = AuditEvent(
        event_id="1",
        type="expired",
        session_id=SESSION,
        user_id=None,
        at=NOW,
        recorded_at=NOW,
        cause="idle",
        removed_by="ttl",
        changed=["a", "ä"],
        changed_count=2,
        expires_at=NOW,
        expired_at=NOW,
        ttl_lag_seconds=0,
    )

    item = audit_trail._to_item(event, NOW)

    assert msgspec.json.encode(audit_trail.from_item(item)) == msgspec.json.encode(event)
