"""The metrics that `session_audit` prints are those of the alarms and of the dashboard."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from msgspec import structs

from dynamodb.errors import TransientError
from tests.infra import picture
from tests.support.api import NOW
from tests.support.backend import ON_DYNAMODB_LOCAL
from tests.support.functions import function, lambda_context, sample
from tests.support.seam import seam
from tests.support.template import resources

Printed = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def audit(tables: Any, failed_events: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("clock.sleep", lambda _: None)
    return function("session_audit")


@pytest.fixture
def printed(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Return the lines in CloudWatch's embedded metric format that a batch writes to the log."""

    def run(records: list[Any]) -> list[dict[str, Any]]:
        audit.lambda_handler({"Records": records}, lambda_context())
        lines = capsys.readouterr().out.splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"_aws"')]

    return run


def record(name: str) -> Any:
    [stream_record] = sample(f"stream_{name}")["Records"]
    return stream_record


def every_kind() -> list[Any]:
    """A batch of records with an event of every type that the alarms and the dashboard use."""
    expired, revoked, updated = record("expired"), record("revoked"), record("updated")
    at_the_end = copy.deepcopy(expired)
    image = at_the_end["dynamodb"]["OldImage"]
    image["AbsoluteExpirationTime"] = image["ExpirationTime"]
    cut_off = copy.deepcopy(expired)
    cut_off["dynamodb"]["OldImage"]["CreatedAt"]["N"] = str(NOW - 10)
    reused = copy.deepcopy(revoked)
    reused["dynamodb"]["NewImage"]["RevokedReason"]["S"] = "token_reuse"
    tampered = copy.deepcopy(updated)
    tampered["dynamodb"]["NewImage"]["UserId"]["S"] = "eve"
    deleted = copy.deepcopy(expired)
    deleted["dynamodb"]["OldImage"]["ExpirationTime"]["N"] = str(NOW + 86_400)
    unreadable = record("created") | {"eventName": "?"}
    records = [
        *(record("created"), expired, at_the_end, cut_off, revoked, reused),
        *(tampered, deleted, unreadable),
    ]
    for i, entry in enumerate(records):
        entry["dynamodb"]["SequenceNumber"] = str(i)
    return records


def looked_for() -> Iterator[tuple[str, str]]:
    """Return the metric and the function of all alarms and graphs for the trail."""
    for alarm in resources("AWS::CloudWatch::Alarm").values():
        if alarm["Namespace"] == "ServerlessSessions":
            [dimension] = alarm["Dimensions"]
            assert dimension["Name"] == "FunctionName"
            yield alarm["MetricName"], dimension["Value"]["Ref"]
    for widget in picture.body("dev")["widgets"]:
        for (namespace, name, *dimensions), _ in picture.metrics(widget):
            if namespace == "ServerlessSessions":
                dimension_name, function_ = dimensions
                assert dimension_name == "FunctionName"
                yield name, function_


def test_alarms_and_dashboard_use_the_printed_metrics(
    audit: ModuleType, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are strings on both sides. If they differed, an alarm would never go off."""
    monkeypatch.setattr(audit, "not_before", NOW - 5)

    [line] = printed(every_kind())

    [described] = line["_aws"]["CloudWatchMetrics"]
    names = {metric["Name"] for metric in described["Metrics"]}
    [audit_function] = [
        logical_id
        for logical_id, properties in resources("AWS::Lambda::Function").items()
        if properties["Handler"].startswith("session_audit.")
    ]
    assert described["Namespace"] == "ServerlessSessions"
    assert described["Dimensions"] == [["FunctionName"]]
    assert line["FunctionName"] == lambda_context().function_name
    assert set(looked_for()) == {(name, audit_function) for name in names}


def test_events_that_are_not_recorded_yet_are_not_counted(printed: Printed) -> None:
    """Lambda repeats them, and they are counted then."""

    def refuse_all() -> None:
        raise TransientError("ThrottlingException")

    seam.before = refuse_all
    assert printed([record("created")]) == []


def test_unrecorded_events_are_not_counted(audit: ModuleType, printed: Printed) -> None:
    renewal = record("created")
    change = renewal["dynamodb"]
    renewal["eventName"], change["OldImage"] = "MODIFY", change["NewImage"]
    change["NewImage"] = change["OldImage"] | {
        "RequestId": {"S": "renewal"},
        "ExpirationTime": {"N": str(NOW + 1860)},
        "RenewedAt": {"N": str(NOW + 60)},
    }

    assert printed([renewal]) == []


@ON_DYNAMODB_LOCAL
def test_unreadable_event_is_counted_as_unreadable(
    audit: ModuleType, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that DynamoDB rejects permanently, for example for an empty index key, is recorded
    once.
    """
    events_in = audit.events_in

    def wrong(record: Any, **switch: int) -> Any:
        return [structs.replace(event, user_id="") for event in events_in(record, **switch)]

    monkeypatch.setattr(audit, "events_in", wrong)

    [line] = printed([record("created")])

    assert line["unreadable"] == 1
    assert "created" not in line
