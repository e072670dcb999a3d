"""The rule and the event in docs/events.md are correct."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from aws_cdk.assertions import Capture, Match
from jsonschema_rs import Draft202012Validator

from tests.support.template import ROOT, documented_rule


def test_documented_rule_gives_its_target_a_dead_letter_queue() -> None:
    """The rule uses the bus of the local stage, and types of events that the service sends."""
    template = documented_rule()
    target, dead = Capture(), Capture()
    template.has_resource_properties(
        "AWS::Events::Rule",
        {
            "EventBusName": "default",
            "EventPattern": {
                "source": ["serverless-sessions"],
                "detail-type": ["created", "revoked", "expired"],
            },
            "State": "ENABLED",
            "Targets": [
                Match.object_like(
                    {
                        "Arn": {"Fn::GetAtt": [target, "Arn"]},
                        "DeadLetterConfig": {"Arn": {"Fn::GetAtt": [dead, "Arn"]}},
                    }
                )
            ],
        },
    )

    queues = template.find_resources("AWS::SQS::Queue")
    assert {target.as_string(), dead.as_string()} == queues.keys()
    assert queues[dead.as_string()]["Properties"]["MessageRetentionPeriod"] == 14 * 86_400


def test_eventbridge_may_send_to_both_queues() -> None:
    """Without the permission on the dead-letter queue, failed events are silently dropped."""
    template = documented_rule()
    [rule] = template.find_resources("AWS::Events::Rule")

    allowed = set()
    for policy in template.find_resources("AWS::SQS::QueuePolicy").values():
        properties = policy["Properties"]
        for statement in properties["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                assert statement["Principal"] == {"Service": "events.amazonaws.com"}
                assert statement["Condition"]["ArnEquals"]["aws:SourceArn"] == {
                    "Fn::GetAtt": [rule, "Arn"]
                }
                assert "sqs:SendMessage" in statement["Action"]
                allowed |= {queue["Ref"] for queue in properties["Queues"]}
    assert allowed == template.find_resources("AWS::SQS::Queue").keys()


def test_documented_event_is_one_of_get_events() -> None:
    [shown] = re.findall(
        "^```json\n(.*?)^```", (ROOT / "docs/events.md").read_text(), re.MULTILINE | re.DOTALL
    )
    event: dict[str, Any] = json.loads(shown)
    contract = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    schema = {"$ref": "#/components/schemas/Event", "components": contract["components"]}

    Draft202012Validator(schema).validate(event["detail"])

    assert (event["source"], event["detail-type"]) == ("serverless-sessions", "revoked")
    assert event["detail"]["type"] == event["detail-type"]
