"""One host of the functions, with its own clock. This code runs in the host's process."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import clock

_CONTEXT = SimpleNamespace(
    function_name="function",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:function:live",
    aws_request_id="52fdfc07-2182-454f-963f-5f0f9a621d72",
)


def start(environment: Mapping[str, str], skew_seconds: int) -> None:
    """Load the functions in this environment. Their clock is wrong by `skew_seconds`."""
    os.environ.update(environment)
    clock.time = lambda: time.time() + skew_seconds


def invoke(package: str, event: dict[str, Any]) -> Any:
    """Invoke a function with `event` and return its answer."""
    return _handler(package).lambda_handler(event, _CONTEXT)


def _handler(package: str) -> Any:
    return importlib.import_module(f"{package}.handler")
