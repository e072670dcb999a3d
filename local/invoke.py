"""Invokes a deployed function with the event in a file."""

from __future__ import annotations

import json

from local.stack import ROOT, STACK, LocalError, LocalStack

# The function that gets an event, by the first word of the event file's name.
_FUNCTIONS = {
    "api": "SessionApi",
    "authorizer": "SessionAuthorizer",
    "stream": "SessionAudit",
    "sweeper": "SessionSweeper",
    "timers": "SessionTimers",
    "trail": "SessionEvents",
}


def invoke(stack: LocalStack, event: str) -> None:
    """Invoke the function with the event in the file `event`, and print its answer."""
    file = ROOT / event
    construct = _FUNCTIONS.get(file.name.partition("_")[0])
    if construct is None or not file.is_file():
        raise LocalError(f"EVENT must be one of events/*.json, not '{event}'.")
    stack.require_running()
    resources = stack.client("cloudformation").describe_stack_resources(StackName=STACK)
    names = [
        resource["PhysicalResourceId"]
        for resource in resources["StackResources"]
        if resource["ResourceType"] == "AWS::Lambda::Function"
        and construct in resource["LogicalResourceId"]
    ]
    if not names:
        raise LocalError(f"The settings of this stack leave out the function {construct}.")
    [name] = names
    answer = stack.client("lambda").invoke(
        FunctionName=name, Qualifier="live", Payload=file.read_bytes()
    )
    print(json.dumps(json.load(answer["Payload"]), indent=2))
    if "FunctionError" in answer:
        raise LocalError(f"{name} failed; its answer is above.")
