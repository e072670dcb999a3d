"""Alarms of the deployed stack go off and recover, and tell their topic."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from local.stack import LocalStack
from tests.e2e.calls import HeldCaller
from tests.support.waiting import eventually


def subscribed_queue(stack: LocalStack) -> str:
    """The URL of a queue that gets what the topic of the alarms is told."""
    topic, sqs = stack.outputs["AlarmTopicArn"], stack.client("sqs")
    url: str = sqs.create_queue(QueueName="alarms")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    stack.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return url


def test_every_alarm_goes_off_and_recovers(stack: LocalStack) -> None:
    """On data under the very names and dimensions that it was deployed with.

    MiniStack looks at alarms when data come in; and only at the time that they are for, so each
    goes off on a value that is about to be too old, and recovers with the next one.
    """
    cloudwatch, sqs = stack.client("cloudwatch"), stack.client("sqs")
    queue = subscribed_queue(stack)
    prefix = "Sessions-local-"
    alarms = cloudwatch.describe_alarms(AlarmNamePrefix=prefix)["MetricAlarms"]
    told: set[tuple[str, str]] = set()

    def put(alarm: dict[str, Any], value: float, at: datetime) -> None:
        datum = {"MetricName": alarm["MetricName"], "Dimensions": alarm["Dimensions"]}
        cloudwatch.put_metric_data(
            Namespace=alarm["Namespace"], MetricData=[{**datum, "Value": value, "Timestamp": at}]
        )

    def all_told(state: str) -> bool:
        for alarm in alarms:
            now = datetime.now(UTC)
            window = timedelta(seconds=alarm["Period"] * alarm["EvaluationPeriods"])
            if state == "OK":
                put(alarm, 0, now)
            elif (alarm["AlarmName"], state) not in told:
                put(alarm, alarm["Threshold"], now - window + timedelta(seconds=2))
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                notice = json.loads(json.loads(message["Body"])["Message"])
                told.add((notice["AlarmName"], notice["NewStateValue"]))
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return all((alarm["AlarmName"], state) in told for alarm in alarms)

    assert len(alarms) > 20
    eventually(lambda: all_told("ALARM"))
    eventually(lambda: all_told("OK"))


def test_function_logs_its_metrics(stack: LocalStack, call: HeldCaller) -> None:
    """As a line of its own, under the function's name; MiniStack makes no metrics of it."""
    started = int(time.time() * 1000) - 60_000
    session = call("POST", "/sessions", {"user_id": "metrics"}).json
    assert call("DELETE", f"/sessions/{session['session_id']}").status == 204
    [function] = [
        each["FunctionName"]
        for each in stack.client("lambda").list_functions()["Functions"]
        if each["Handler"].startswith("session_audit.")
    ]

    def logged() -> set[str]:
        logs = stack.client("logs")
        names: set[str] = set()
        for group in logs.describe_log_groups()["logGroups"]:
            events = logs.filter_log_events(
                logGroupName=group["logGroupName"], startTime=started, filterPattern='"_aws"'
            )["events"]
            lines = [json.loads(each["message"]) for each in events]
            for line in lines:
                assert line["FunctionName"] == function
                names |= line.keys()
        return {"created", "revoked"} & names

    eventually(lambda: logged() == {"created", "revoked"})
