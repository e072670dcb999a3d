"""The alarms and the dashboard, and their documentation."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
from aws_cdk.assertions import Template

from tests.infra import picture
from tests.support.template import FULL, ROOT, resources, synthesize

OPERATIONS = (ROOT / "docs/operations.md").read_text()
STAGE = FULL


def alarms() -> dict[str, dict[str, Any]]:
    """Return the alarms by their names without the stack's name."""
    properties = resources("AWS::CloudWatch::Alarm", STAGE).values()
    return {alarm["AlarmName"].removeprefix(f"Sessions-{STAGE}-"): alarm for alarm in properties}


class Metric(NamedTuple):
    """A metric with the names of AWS's documentation.

    The values of the dimensions are logical names.
    """

    namespace: str
    name: str
    dimensions: dict[str, str]


def metric(alarm: dict[str, Any]) -> Metric:
    dimensions = {part["Name"]: logical(part["Value"]) for part in alarm["Dimensions"]}
    return Metric(alarm["Namespace"], alarm["MetricName"], dimensions)


def logical(value: Any) -> str:
    match value:
        case {"Ref": str(name)}:
            return name[:-8]
        case {"Fn::Join": ["", [first, str(rest)]]}:
            return logical(first) + rest
    return str(value)


def of_function(name: str, function: str) -> Metric:
    return Metric("AWS/Lambda", name, {"FunctionName": function})


def of_mapping(name: str, function: str) -> Metric:
    [mapping] = [
        logical_id
        for logical_id, properties in resources("AWS::Lambda::EventSourceMapping", STAGE).items()
        if function in str(properties["FunctionName"]).replace("Live", "Function")
    ]
    return Metric("AWS/Lambda", name, {"EventSourceMappingUUID": mapping[:-8]})


def of_table(name: str, table: str, **index: str) -> Metric:
    return Metric("AWS/DynamoDB", name, {"TableName": table, **index})


def logged(name: str, package: str = "session_audit") -> Metric:
    return Metric("ServerlessSessions", name, {"FunctionName": FUNCTIONS[package]})


API = {"ApiId": "ApiHttpApi", "Stage": "$default"}
FUNCTIONS = {
    "session_api": "ApiSessionApiFunction",
    "session_authorizer": "AuthorizerSessionAuthorizerFunction",
    "session_audit": "AuditSessionAuditFunction",
    "session_events": "EventsSessionEventsFunction",
    "session_timers": "ExpirySessionTimersFunction",
    "session_sweeper": "ExpirySessionSweeperFunction",
}
INDEX = {"GlobalSecondaryIndexName": "UserIndex"}


def test_every_alarm_has_a_metric_with_data() -> None:
    """CloudWatch accepts any name. With a wrong name or wrong dimensions, an alarm never goes off.

    The names and dimensions are from AWS's documentation:

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    https://docs.aws.amazon.com/lambda/latest/dg/urls-monitoring.html
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
    """
    expected = {
        "api-fails": Metric("AWS/ApiGateway", "5xx", API),
        "api-slow": Metric("AWS/ApiGateway", "Latency", API),
        "url-fails": of_function("Url5xxCount", FUNCTIONS["session_api"]),
        "url-slow": of_function("UrlRequestLatency", FUNCTIONS["session_api"]),
        "token-reused": logged("token_reuse"),
        "session-tampered": logged("tampered"),
        "session-deleted": logged("deleted"),
        "record-unreadable": logged("unreadable"),
        "ttl-late": logged("ttl_lag_seconds"),
        "sweeper-late": logged("cursor_age_seconds", "session_sweeper"),
        "timers-failed": logged("timers_failed", "session_sweeper"),
    }
    for package, function in FUNCTIONS.items():
        expected[f"{package}-errors"] = of_function("Errors", function)
        expected[f"{package}-throttled"] = of_function("Throttles", function)
    for package in ("session_audit", "session_events", "session_timers"):
        function = FUNCTIONS[package]
        expected[f"{package}-behind"] = Metric(
            "AWS/Lambda", "IteratorAge", {"FunctionName": function, "Resource": f"{function}:live"}
        )
        delivered = of_mapping("OnFailureDestinationDeliveredEventCount", function)
        expected[f"{package}-gave-up"] = delivered
        expected[f"{package}-dropped"] = of_mapping("DroppedEventCount", function)
        failures = of_function("DestinationDeliveryFailures", function)
        expected[f"{package}-undelivered"] = failures
    for what in ("Read", "Write"):
        name, end = f"{what}ThrottleEvents", f"{what.lower()}s-throttled"
        for table in ("Sessions", "SessionAudit", "Timers"):
            expected[f"{table}-{end}"] = of_table(name, f"Storage{table}")
        for table in ("Sessions", "SessionAudit"):
            expected[f"{table}-UserIndex-{end}"] = of_table(name, f"Storage{table}", **INDEX)

    assert {name: metric(alarm) for name, alarm in alarms().items()} == expected


@pytest.mark.parametrize("name", alarms())
def test_alarm_notifies_when_it_goes_off_and_when_it_is_over(name: str) -> None:
    """Missing data is OK, except from the sweeper, which logs a metric every minute.

    The alarm uses no metric math, which the local stack does not support.
    """
    [topic] = resources("AWS::SNS::Topic", STAGE)
    alarm = alarms()[name]

    assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": topic}]
    missing = "breaching" if name == "sweeper-late" else "notBreaching"
    assert alarm["TreatMissingData"] == missing
    assert alarm["AlarmDescription"].endswith(f" What to do: docs/operations.md, {name}.")
    assert "Metrics" not in alarm


def condition(alarm: dict[str, Any]) -> str:
    """Return the condition of the alarm in the words of docs/operations.md."""
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    statistic = alarm.get("Statistic") or alarm["ExtendedStatistic"]
    periods = alarm["EvaluationPeriods"]
    during = f"{alarm['Period'] // 60} min"
    if periods > 1:
        during = f"{alarm.get('DatapointsToAlarm', periods)} of {periods} times {during}"
    return f"{statistic} of `{alarm['MetricName']}` ≥ {alarm['Threshold']:g} in {during}"


def documented() -> dict[str, str]:
    """Return the name and the condition in each row of the table of alarms."""
    return dict(re.findall(r"^\| `([\w-]+)` \| (.+? ≥ .+?) \|$", OPERATIONS, re.MULTILINE))


def test_operations_name_each_alarm_and_its_condition() -> None:
    """Every alarm has a row, and every row has an alarm."""
    assert documented() == {name: condition(alarm) for name, alarm in alarms().items()}


def test_operations_say_what_to_do_about_each_alarm() -> None:
    headings = re.findall(r"^### (`.+`)$", OPERATIONS, re.MULTILINE)
    explained = [name for heading in headings for name in re.findall("`(.+?)`", heading)]

    assert sorted(explained) == sorted(alarms())
    assert f"{len(alarms())} alarms at $0.10" in OPERATIONS


def test_alarms_may_publish_and_only_over_tls() -> None:
    """A topic's own policy replaces SNS's default policy, which allows the account's alarms to
    publish.
    """
    [topic] = resources("AWS::SNS::Topic", STAGE)
    [policy] = resources("AWS::SNS::TopicPolicy", STAGE).values()
    on_topic = {"Action": "sns:Publish", "Resource": {"Ref": topic}}

    statements = [
        {name: value for name, value in statement.items() if name != "Sid"}
        for statement in policy["PolicyDocument"]["Statement"]
    ]

    assert policy["Topics"] == [{"Ref": topic}]
    assert statements == [
        on_topic
        | {
            "Effect": "Deny",
            "Principal": "*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
        on_topic
        | {
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
        },
    ]


def test_alarms_could_publish_if_the_topic_has_no_key_of_aws() -> None:
    """CloudWatch may not use the key `alias/aws/sns`, whose policy can't be changed."""
    [topic] = resources("AWS::SNS::Topic", STAGE).values()

    assert "KmsMasterKeyId" not in topic


def test_address_subscribes_to_the_alarms() -> None:
    _, stack = synthesize(alarm_email="ops@example.com")
    subscriptions = Template.from_stack(stack).find_resources("AWS::SNS::Subscription").values()

    [subscription] = (resource["Properties"] for resource in subscriptions)
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ops@example.com")
    assert resources("AWS::SNS::Subscription", STAGE) == {}


def shown() -> list[tuple[str, str]]:
    """Return namespace and name of all metrics on the dashboard."""
    return [
        (namespace, name)
        for widget in picture.body()["widgets"]
        for (namespace, name, *_), _ in picture.metrics(widget)
    ]


def test_dashboard_shows_the_metrics_of_all_alarms() -> None:
    """The dashboard also shows the state of all alarms at the top."""
    alarmed = {(alarm["Namespace"], alarm["MetricName"]) for alarm in alarms().values()}
    first, *_ = picture.body()["widgets"]

    assert alarmed <= set(shown())
    assert len(first["properties"]["alarms"]) == len(alarms())


def test_picture_shows_the_dashboard() -> None:
    """`python -m tests.infra.picture` draws the picture again."""
    assert picture.PICTURE.read_text() == picture.draw(picture.body())
    assert f"]({picture.PICTURE.name})" in OPERATIONS
