"""The Lambda functions, with the environment variables of the synthesized template."""

from __future__ import annotations

import importlib
import json
import logging
import os
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.support.seam import seam
from tests.support.template import ROOT, resources

# For writes of the authorizer, the trail names this actor.
ROLE = "arn:aws:iam::111122223333:role/session-authorizer"
# The keys are logical ids without the hash that CDK adds at the end.
_NAMES = {
    "StorageSessions": "sessions",
    "StorageSessionAudit": "audit",
    "AuditFailedEvents": "failed-events",
    "EventsUndelivered": "undelivered",
    "StorageTimers": "timers",
    "ExpiryFailedEvents": "failed-events",
}


def function(package: str, stage: str = "dev") -> ModuleType:
    """Return a function's handler. It is imported once, with the environment of the template."""
    [properties] = [
        properties
        for properties in resources("AWS::Lambda::Function", stage).values()
        if properties["Handler"] == f"{package}.handler.lambda_handler"
    ]
    for name, value in properties["Environment"]["Variables"].items():
        os.environ[name] = _deployed(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessions.dynamodb.connect", lambda: seam)
        return importlib.import_module(f"{package}.handler")


def _deployed(value: Any) -> str:
    """Return the value that an environment variable of the template has after the deployment."""
    match value:
        case {"Ref": "AWS::Region"}:
            return "us-east-1"
        case {"Ref": "AWS::URLSuffix"}:
            return "amazonaws.com"
        case {"Fn::Join": [str(separator), [*parts]]}:
            return separator.join(map(_deployed, parts))
        case {"Ref": str(logical_id)}:
            return _NAMES[logical_id[:-8]]
        case {"Fn::GetAtt": [_, "Arn"]}:
            return ROLE
    return str(value)


def lambda_context() -> Any:
    return SimpleNamespace(
        function_name="function",
        memory_limit_in_mb=512,
        invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:function:live",
        aws_request_id="52fdfc07-2182-454f-963f-5f0f9a621d72",
    )


def sample(name: str) -> dict[str, Any]:
    """Return a sample event of `events/`."""
    event: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text())
    return event


def log_stream() -> StringIO:
    """Return a stream with all that the functions log from now on."""
    stream = StringIO()
    for package in ("session_api", "session_audit", "session_events"):
        for handler in logging.getLogger(package).handlers:
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(stream)
    return stream
