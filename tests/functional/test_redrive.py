"""`redrive`: what it sends to the function, what it keeps, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from io import BytesIO, StringIO
from types import SimpleNamespace
from typing import Any

import boto3
import moto
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from serverless_sessions.operate import deployment
from serverless_sessions.operate.account import Account
from serverless_sessions.operate.deployment import Deployment, OperationError
from serverless_sessions.operate.redrive import FailedEvents, batches, buckets, redrive
from serverless_sessions.operate.report import as_json
from tests.support.aws import Aws, documented_actions

BUCKET = "failed-events"
TAKEN: dict[str, Any] = {"batchItemFailures": []}


def record(number: int, table: str = "sessions", **more: Any) -> dict[str, Any]:
    """Return a stream record as Lambda delivers it, with the parts that `redrive` needs."""
    return {
        "eventSourceARN": f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}/stream/now",
        "eventName": "INSERT",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_795_435_200 + number,
            "Keys": {"SessionId": {"S": f"session {number // 2}"}},
            "SequenceNumber": str(number),
        },
        **more,
    }


def document(records: list[dict[str, Any]]) -> bytes:
    """Return a shortened object of Lambda in S3:

    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
    """
    whole = {
        "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "7"},
        "version": "1.0",
        "timestamp": "2026-11-24T00:13:49.717Z",
        "DDBStreamBatchInfo": {"shardId": "shardId-1", "batchSize": len(records)},
        "payload": json.dumps({"Records": records}),
    }
    return json.dumps(whole).encode()


@cache
def s3() -> Any:
    return boto3.client("s3")


class Failed(FailedEvents):
    """A bucket of failed events on moto, and a function that returns `answer`."""

    def __init__(self) -> None:
        self.s3 = s3()
        deployment = SimpleNamespace(client=lambda _: self.s3, invoke=self._invoke)
        super().__init__(
            deployment,  # type: ignore[arg-type]
            bucket=BUCKET,
            table="sessions",
            function="the function",
        )
        self.invoked: list[list[dict[str, Any]]] = []
        self.answer: Callable[[list[dict[str, Any]]], Any] = lambda _: TAKEN

    def _invoke(self, function: str, event: dict[str, Any]) -> Any:
        assert function == "the function"
        self.invoked.append(event["Records"])
        return self.answer(event["Records"])

    def put(self, name: str, *records: dict[str, Any]) -> str:
        key = f"aws/lambda/mapping/shardId-1/2026/11/24/{name}"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=document(list(records)))
        return key

    def run(self, **options: bool) -> int:
        return redrive(self, **{"dry_run": False, "yes": True, **options})


@pytest.fixture
def failed() -> Iterator[Failed]:
    with moto.mock_aws():
        s3().create_bucket(Bucket=BUCKET)
        yield Failed()


def test_records_are_played_back_in_order_and_objects_deleted(
    failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [record(number) for number in range(250)]
    failed.put("a", *records)
    failed.put("b", record(250))

    assert failed.run() == 0

    assert [len(lot) for lot in failed.invoked] == [100, 100, 50, 1]
    assert [item for lot in failed.invoked for item in lot] == [*records, record(250)]
    assert not failed.objects()
    said = capsys.readouterr().out
    assert "holds 251 records of 126 sessions in 2 objects" in said
    assert "The changes are from 2026-11-23 12:00:00 to 2026-11-23 12:04:10 UTC" in said
    assert "1 of 2: 250 records" in said


def test_payload_of_an_invocation_is_limited() -> None:
    """It may have at most 6 MiB. Two images of an item may have 800 KB and more."""
    records = [record(number, padding="ä" * 150_000) for number in range(20)]

    payloads = list(batches(records))

    assert [item for lot in payloads for item in lot] == records
    assert all(len(json.dumps({"Records": lot})) <= 6 * 1024 * 1024 for lot in payloads)
    assert [len(lot) for lot in payloads] == [6, 6, 6, 2]


def test_event_itself_is_read_as_payload_too(failed: Failed) -> None:
    """The documentation only shows `"<Whole Event>"`."""
    body = json.dumps({"payload": {"Records": [record(1)]}})
    failed.s3.put_object(Bucket=BUCKET, Key="aws/lambda/x", Body=body)

    assert failed.run() == 0
    assert failed.invoked == [[record(1)]]


def test_object_stays_unless_all_of_its_records_were_accepted(
    failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    first = failed.put("a", *(record(number) for number in range(150)))
    failed.put("b", record(200))
    failed.answer = lambda records: (
        {"batchItemFailures": [{"itemIdentifier": "120"}]} if record(120) in records else TAKEN
    )

    assert failed.run() == 1

    assert list(failed.objects()) == [first]
    assert f"Failed: {first}: the function did not process all records" in capsys.readouterr().err

    failed.answer = lambda _: TAKEN
    assert failed.run() == 0
    assert not failed.objects()


def test_three_failures_in_a_row_end_it(failed: Failed, capsys: pytest.CaptureFixture[str]) -> None:
    """Then the cause is not a single object, and more attempts would only take time."""
    for name in "abcdef":
        failed.put(name, record(ord(name)))

    def fail(records: list[dict[str, Any]]) -> Any:
        if record(ord("b")) in records:
            return TAKEN
        raise OperationError("It failed.")

    failed.answer = fail

    assert failed.run() == 1

    assert len(failed.invoked) == 5  # a fails, b succeeds, c, d and e fail
    assert len(failed.objects()) == 5
    assert "5 of 6 objects are left" in capsys.readouterr().err


def test_next_run_continues_an_interrupted_one(failed: Failed) -> None:
    """Records that were already stored are sent again, which changes nothing in the trail."""
    failed.put("a", record(1))
    failed.put("b", *(record(number) for number in range(150)))
    failed.put("c", record(200))

    def interrupt(records: list[dict[str, Any]]) -> Any:
        if record(120) in records:
            raise KeyboardInterrupt
        return TAKEN

    failed.answer = interrupt
    with pytest.raises(KeyboardInterrupt):
        failed.run()
    assert [key[-1] for key in failed.objects()] == ["b", "c"]

    failed.invoked.clear()
    failed.answer = lambda _: TAKEN
    assert failed.run() == 0
    assert [len(lot) for lot in failed.invoked] == [100, 50, 1]
    assert not failed.objects()


@pytest.mark.parametrize(
    "body",
    [
        b"a note",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"payload": "a note"}',
        b'{"payload": "{}"}',
        b'{"payload": {"Records": null}}',
        b'{"payload": {"Records": ["a note"]}}',
        document([]),
        document([record(1), record(2, "audit")]),
        json.dumps({"payload": {"Records": [{"eventSourceARN": "arn"}]}}).encode(),
    ],
)
def test_object_that_lambda_did_not_put_there_is_left_alone(
    failed: Failed, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    failed.s3.put_object(Bucket=BUCKET, Key="foreign", Body=body)
    failed.put("a", record(1))

    assert failed.run() == 1

    assert list(failed.objects()) == ["foreign"]
    assert failed.invoked == [[record(1)]]
    assert "Left alone: foreign: it is not an invocation record" in capsys.readouterr().err


def test_records_of_another_table_are_left_alone(
    failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another function's mapping gave up on them, and `session_audit` must not get them."""
    key = failed.put("a", record(1, "audit"))

    assert failed.run() == 1

    assert list(failed.objects()) == [key]
    assert not failed.invoked
    assert "its records are from the table audit" in capsys.readouterr().err


def test_record_that_fails_again_waits_for_the_next_run(
    failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    """The function puts permanently rejected records into the bucket again, so the command could
    run forever.
    """
    failed.put("a", record(1))

    def keep(records: list[dict[str, Any]]) -> Any:
        failed.put("again", *records)
        return TAKEN

    failed.answer = keep

    assert failed.run() == 0

    assert len(failed.invoked) == 1
    assert len(failed.objects()) == 1
    assert "Objects that came in meanwhile: 1." in capsys.readouterr().out


def test_two_operators_may_play_back_at_the_same_time(failed: Failed) -> None:
    failed.put("a", record(1))
    other = failed.put("b", record(2))

    def take_another(_: list[dict[str, Any]]) -> Any:
        failed.s3.delete_object(Bucket=BUCKET, Key=other)
        return TAKEN

    failed.answer = take_another

    assert failed.run() == 0
    assert failed.invoked == [[record(1)]]


def test_dry_run_changes_nothing(failed: Failed, capsys: pytest.CaptureFixture[str]) -> None:
    key = failed.put("a", record(1))

    assert failed.run(dry_run=True) == 0

    assert list(failed.objects()) == [key]
    assert not failed.invoked
    assert "holds 1 records of 1 sessions in 1 objects" in capsys.readouterr().out


def test_empty_bucket_needs_no_confirmation(
    failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failed.run(yes=False) == 0
    assert capsys.readouterr().out == f"{BUCKET} is empty: nothing failed.\n"


def test_redrive_says_all_of_that_in_json(
    failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    key = failed.put("a", record(0), record(1))
    failed.put("b", record(2))
    failed.s3.put_object(Bucket=BUCKET, Key="foreign", Body=b"a note")
    failed.answer = lambda records: {} if record(2) in records else TAKEN
    token = as_json.set(True)
    try:
        assert failed.run() == 1
    finally:
        as_json.reset(token)

    said, errors = (
        [json.loads(line) for line in output.splitlines()] for output in capsys.readouterr()
    )
    assert all(line["bucket"] == BUCKET for line in said + errors)
    survey, changes, played = said
    assert (survey["objects"], survey["records"], survey["sessions"]) == (2, 3, 2)
    assert changes["first_change_at"] == 1_795_435_200
    assert changes["last_change_at"] == 1_795_435_202
    assert (played["key"], played["records"]) == (key, 2)
    assert [line["key"] for line in errors[:2]] == ["foreign", key[:-1] + "b"]
    assert errors[2]["left"] == 1
    assert all("message" in line for line in said)
    assert all("error" in line for line in errors)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdin", "code", "left"),
    [
        (Terminal("y\n"), 0, 0),
        (Terminal("\n"), 0, 1),
        (Terminal("no\n"), 0, 1),
        (Terminal(""), 0, 1),
        (StringIO("y\n"), 2, 1),
    ],
)
def test_redrive_asks_for_confirmation(
    failed: Failed, monkeypatch: pytest.MonkeyPatch, stdin: StringIO, code: int, left: int
) -> None:
    """Without a terminal, nobody can confirm."""
    failed.put("a", record(1))
    monkeypatch.setattr("sys.stdin", stdin)

    assert failed.run(yes=False) == code
    assert len(failed.objects()) == left


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A stack with a single output."""
    template = {
        "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
        "Outputs": {"FailedEventsBucket": {"Value": {"Ref": "Bucket"}}},
    }
    monkeypatch.setattr(deployment, "_PAUSE_SECONDS", 0)
    with moto.mock_aws():
        boto3.client("cloudformation").create_stack(
            StackName="Sessions-dev", TemplateBody=json.dumps(template)
        )
        yield Deployment(Account(), "Sessions-dev")


def test_missing_stack_is_a_clear_error(deployed: Deployment) -> None:
    with pytest.raises(OperationError, match="There is no stack Sessions-prod in us-east-1"):
        Deployment(Account(), "Sessions-prod")


def test_stack_of_an_older_version_is_a_clear_error(deployed: Deployment) -> None:
    with pytest.raises(OperationError, match="has no output AuditFunctionArn; deploy it again"):
        deployed.output("AuditFunctionArn")


def answers(*errors: str | None) -> Iterator[dict[str, Any]]:
    for error in errors:
        payload = json.dumps({"errorType": error, "errorMessage": "secret"} if error else TAKEN)
        answer = {"Payload": StreamingBody(BytesIO(payload.encode()), len(payload))}
        yield answer | ({"FunctionError": "Unhandled"} if error else {})


def test_failing_function_is_called_again(deployed: Deployment) -> None:
    with Stubber(deployed.client("lambda")) as stub:
        for answer in answers("Sandbox.Timedout", "OSError", None):
            stub.add_response("invoke", answer)

        assert deployed.invoke("f", {}) == TAKEN


def test_message_of_a_failing_function_is_not_printed(deployed: Deployment) -> None:
    """It may quote a record."""
    with Stubber(deployed.client("lambda")) as stub:
        for answer in answers("KeyError", "KeyError", "KeyError"):
            stub.add_response("invoke", answer)

        with pytest.raises(OperationError) as error:
            deployed.invoke("f", {})

    assert str(error.value) == "f failed 3 times (KeyError). Its log has the details."


@pytest.mark.parametrize("events_go_out", [False, True])
def test_undelivered_events_are_played_back_through_the_events_function(
    events_go_out: bool,
) -> None:
    """These are records of the trail's stream, which this function consumes."""
    out = {"EventsFunctionArn": "events", "UndeliveredEventsBucket": "undelivered"}
    outputs = {
        "FailedEventsBucket": BUCKET,
        "SessionsTableName": "sessions",
        "AuditFunctionArn": "audit",
        "AuditTableName": "trail",
    } | (out if events_go_out else {})
    invoked = []

    def invoke(function: str, event: dict[str, Any]) -> Any:
        invoked.append((function, event["Records"]))
        return TAKEN

    with moto.mock_aws():
        deployed = SimpleNamespace(
            output=outputs.__getitem__,
            has_output=outputs.__contains__,
            client=lambda _: s3(),
            invoke=invoke,
        )
        of_the_trail = record(2, "trail")
        for name, body in ((BUCKET, record(1)), ("undelivered", of_the_trail)):
            s3().create_bucket(Bucket=name)
            s3().put_object(Bucket=name, Key="aws/lambda/a", Body=document([body]))

        for failed in buckets(deployed):  # type: ignore[arg-type]
            assert redrive(failed, dry_run=False, yes=True) == 0

    assert invoked == [("audit", [record(1)])] + [("events", [of_the_trail])] * events_go_out


def test_failed_timers_are_played_back_through_the_timers_function() -> None:
    """Both consumers of the stream of sessions get their own records, and not each other's."""
    outputs = {
        "FailedEventsBucket": BUCKET,
        "SessionsTableName": "sessions",
        "AuditFunctionArn": "audit",
        "TimersFunctionArn": "timers",
        "FailedTimersBucket": "failed-timers",
    }
    invoked = []

    def invoke(function: str, event: dict[str, Any]) -> Any:
        invoked.append((function, event["Records"]))
        return TAKEN

    with moto.mock_aws():
        deployed: Any = SimpleNamespace(
            output=outputs.__getitem__,
            has_output=outputs.__contains__,
            client=lambda _: s3(),
            invoke=invoke,
        )
        for name, body in ((BUCKET, record(1)), ("failed-timers", record(2))):
            s3().create_bucket(Bucket=name)
            s3().put_object(Bucket=name, Key="aws/lambda/a", Body=document([body]))

        for failed in buckets(deployed):
            assert redrive(failed, dry_run=False, yes=True) == 0

    assert invoked == [("audit", [record(1)]), ("timers", [record(2)])]


def test_operations_name_the_permissions_that_playing_back_takes() -> None:
    outputs = {
        "FailedEventsBucket": BUCKET,
        "SessionsTableName": "sessions",
        "AuditFunctionArn": "audit",
    }
    stack = [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()]
    aws = Aws(
        DescribeStacks={"Stacks": [{"Outputs": stack}]},
        ListObjectsV2={"Contents": [{"Key": "aws/lambda/a", "LastModified": datetime.now(UTC)}]},
        GetObject=lambda: {"Body": BytesIO(document([record(1)]))},
        Invoke=lambda: {"Payload": BytesIO(json.dumps(TAKEN).encode())},
        DeleteObject={},
    )

    for failed in buckets(Deployment(aws.account, "Sessions-prod")):
        assert redrive(failed, dry_run=False, yes=True) == 0

    assert documented_actions("redrive") == aws.actions
