"""The functions as Lambda runs them, under the environment of the synthesized template."""

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

# Who the authorizer is in the trail.
ROLE = "arn:aws:iam::111122223333:role/session-authorizer"
# By their logical ids without the hash.
_NAMES = {
    "StorageSessions": "sessions",
    "StorageSessionAudit": "audit",
    "AuditFailedEvents": "failed-events",
    "EventsUndelivered": "undelivered",
}


def function(package: str, stage: str = "dev") -> ModuleType:
    """A function's handler, imported once under the environment that the template gives it."""
    [properties] = [
        each
        for each in resources("AWS::Lambda::Function", stage).values()
        if each["Handler"] == f"{package}.handler.lambda_handler"
    ]
    for name, value in properties["Environment"]["Variables"].items():
        os.environ[name] = _deployed(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessions.dynamodb.connect", lambda: seam)
        return importlib.import_module(f"{package}.handler")


def _deployed(value: Any) -> str:
    """What an environment variable of the template is once it is deployed."""
    match value:
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
    """A sample event of `events/`."""
    event: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text())
    return event


def log_stream() -> StringIO:
    """What the functions log from now on."""
    stream = StringIO()
    for package in ("session_api", "session_audit", "session_events"):
        for handler in logging.getLogger(package).handlers:
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(stream)
    return stream
