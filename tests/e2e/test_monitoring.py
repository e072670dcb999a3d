"""The alarms of the deployed stack go off, recover, and notify their topic."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from local.stack import LocalStack
from tests.e2e.calls import ContractCaller
from tests.support.waiting import eventually


def subscribed_queue(stack: LocalStack) -> str:
    """Return the URL of a queue that is subscribed to the topic of the alarms."""
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
    """The data have the names and dimensions of the deployed alarm.

    MiniStack evaluates an alarm when data arrive, and only for the time of the data. The alarm
    therefore goes off with a value that will soon be too old, and recovers with the next value.
    """
    cloudwatch, sqs = stack.client("cloudwatch"), stack.client("sqs")
    queue = subscribed_queue(stack)
    prefix = "Sessions-local-"
    alarms = cloudwatch.describe_alarms(AlarmNamePrefix=prefix)["MetricAlarms"]
    notices: set[tuple[str, str]] = set()

    def put(alarm: dict[str, Any], value: float, at: datetime) -> None:
        datum = {"MetricName": alarm["MetricName"], "Dimensions": alarm["Dimensions"]}
        cloudwatch.put_metric_data(
            Namespace=alarm["Namespace"], MetricData=[{**datum, "Value": value, "Timestamp": at}]
        )

    def all_notified(state: str) -> bool:
        for alarm in alarms:
            now = datetime.now(UTC)
            window = timedelta(seconds=alarm["Period"] * alarm["EvaluationPeriods"])
            if state == "OK":
                put(alarm, 0, now)
            elif (alarm["AlarmName"], state) not in notices:
                put(alarm, alarm["Threshold"], now - window + timedelta(seconds=2))
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                notice = json.loads(json.loads(message["Body"])["Message"])
                notices.add((notice["AlarmName"], notice["NewStateValue"]))
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return all((alarm["AlarmName"], state) in notices for alarm in alarms)

    assert len(alarms) > 20
    eventually(lambda: all_notified("ALARM"))
    eventually(lambda: all_notified("OK"))


def test_function_logs_its_metrics(stack: LocalStack, call: ContractCaller) -> None:
    """The log has a line with the metrics. MiniStack does not create metrics from it."""
    started = int(time.time() * 1000) - 60_000
    session = call("POST", "/sessions", {"user_id": "metrics"}).json
    assert call("DELETE", f"/sessions/{session['session_id']}").status == 204
    [function_name] = [
        function["FunctionName"]
        for function in stack.client("lambda").list_functions()["Functions"]
        if function["Handler"].startswith("session_audit.")
    ]

    def logged_metrics() -> set[str]:
        logs = stack.client("logs")
        names: set[str] = set()
        for group in logs.describe_log_groups()["logGroups"]:
            events = logs.filter_log_events(
                logGroupName=group["logGroupName"], startTime=started, filterPattern='"_aws"'
            )["events"]
            lines = [json.loads(event["message"]) for event in events]
            for line in lines:
                assert line["FunctionName"] == function_name
                names |= line.keys()
        return {"created", "revoked"} & names

    eventually(lambda: logged_metrics() == {"created", "revoked"})
