"""The events on the bus of the deployed local stack, received with the rule in the docs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.stack import LocalStack
from tests.e2e.calls import ContractCaller, log_in
from tests.support.template import documented_rule
from tests.support.waiting import eventually

STACK = "Notices"
Event = dict[str, Any]


@pytest.fixture(scope="module")
def notices(stack: LocalStack) -> Iterator[Callable[[str], list[Event]]]:
    """A function that returns a session's events which the documented queue has received."""
    cloudformation, sqs = stack.client("cloudformation"), stack.client("sqs")
    template = documented_rule().to_json()
    # The policies only allow TLS, and MiniStack only supports HTTP.
    for policy in documented_rule().find_resources("AWS::SQS::QueuePolicy"):
        del template["Resources"][policy]
    cloudformation.create_stack(StackName=STACK, TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=STACK, WaiterConfig={"Delay": 1}
    )
    [url] = [
        resource["PhysicalResourceId"]
        for resource in cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
        if resource["ResourceType"] == "AWS::SQS::Queue"
        and resource["LogicalResourceId"].startswith("Notices")
    ]
    received: list[Event] = []

    def of_session(session_id: str) -> list[Event]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        received.extend(json.loads(message["Body"]) for message in messages)
        return [event for event in received if event["detail"]["session_id"] == session_id]

    yield of_session
    cloudformation.delete_stack(StackName=STACK)


def test_queue_gets_the_events_as_the_trail_has_them(
    call: ContractCaller, notices: Callable[[str], list[Event]]
) -> None:
    """The events pass the trail's real stream, mapping and function. So does TTL's `expired`."""
    revoked, _ = log_in(call, "goes-out", data={"k": 1})
    call("PATCH", f"/sessions/{revoked}", {"data": {"k": 2}})
    call("DELETE", f"/sessions/{revoked}", query={"reason": "logout"})
    expired, _ = log_in(call, "goes-out", ttl_seconds=1)

    for session_id, types in ((revoked, {"created", "revoked"}), (expired, {"created", "expired"})):

        def all_events(session_id: str = session_id, types: set[str] = types) -> list[Event]:
            events = notices(session_id)
            return events if {event["detail-type"] for event in events} >= types else []

        events = eventually(all_events)

        assert {event["detail-type"] for event in events} == types
        query = {"session_id": session_id, "limit": 100}
        trail = call("GET", "/events", query=query).json["items"]
        for event in events:
            assert event["source"] == "serverless-sessions"
            assert event["detail-type"] == event["detail"]["type"]
            assert event["detail"] in trail
