"""What goes out on the bus of the deployed local stack, by way of the rule that the docs show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.stack import LocalStack
from tests.e2e.calls import HeldCaller, log_in
from tests.support.template import documented_rule
from tests.support.waiting import eventually

STACK = "Notices"
Event = dict[str, Any]


@pytest.fixture(scope="module")
def notices(stack: LocalStack) -> Iterator[Callable[[str], list[Event]]]:
    """Answers what has come into the documented queue of a session's events so far."""
    cloudformation, sqs = stack.client("cloudformation"), stack.client("sqs")
    template = documented_rule().to_json()
    # They allow TLS only, and MiniStack speaks plain HTTP.
    for policy in documented_rule().find_resources("AWS::SQS::QueuePolicy"):
        del template["Resources"][policy]
    cloudformation.create_stack(StackName=STACK, TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=STACK, WaiterConfig={"Delay": 1}
    )
    [url] = [
        each["PhysicalResourceId"]
        for each in cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
        if each["ResourceType"] == "AWS::SQS::Queue"
        and each["LogicalResourceId"].startswith("Notices")
    ]
    came: list[Event] = []

    def of_session(session_id: str) -> list[Event]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        came.extend(json.loads(each["Body"]) for each in messages)
        return [each for each in came if each["detail"]["session_id"] == session_id]

    yield of_session
    cloudformation.delete_stack(StackName=STACK)


def test_queue_gets_the_events_as_the_trail_has_them(
    call: HeldCaller, notices: Callable[[str], list[Event]]
) -> None:
    """Through the trail's real stream, mapping, function and role; TTL's `expired` too."""
    revoked, _ = log_in(call, "goes-out", data={"k": 1})
    call("PATCH", f"/sessions/{revoked}", {"data": {"k": 2}})
    call("DELETE", f"/sessions/{revoked}", query={"reason": "logout"})
    expired, _ = log_in(call, "goes-out", ttl_seconds=1)

    for session_id, types in ((revoked, {"created", "revoked"}), (expired, {"created", "expired"})):

        def all_came(session_id: str = session_id, types: set[str] = types) -> list[Event]:
            events = notices(session_id)
            return events if {each["detail-type"] for each in events} >= types else []

        came = eventually(all_came)

        assert {each["detail-type"] for each in came} == types
        query = {"session_id": session_id, "limit": 100}
        trail = call("GET", "/events", query=query).json["items"]
        for event in came:
            assert event["source"] == "serverless-sessions"
            assert event["detail-type"] == event["detail"]["type"]
            assert event["detail"] in trail
