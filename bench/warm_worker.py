"""Compares the functions' handlers with the bare requests, in the same process.

The arguments are the stub's port and the number of rounds. The output has a line of JSON for every
operation.
"""

from __future__ import annotations

import base64
import gc
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from statistics import median
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

import clock
from bench.operations import Operation, operations

# Long enough for garbage collection to happen as often as it does on average.
_BATCH_SECONDS = 0.06
_CONTEXT = SimpleNamespace(
    function_name="function",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:function:live",
    aws_request_id="52fdfc07-2182-454f-963f-5f0f9a621d72",
)


def main() -> None:
    port, rounds = map(int, sys.argv[1:])
    # The functions write their logs to standard output, so the results use a copy of it.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    stub = HTTPConnection("127.0.0.1", port)
    # The clock stands still in the middle of a minute, so that each sweep makes the same requests.
    # The sweeper's pauses take no CPU.
    now = int(time.time()) // 60 * 60 + 30
    clock.time = lambda: float(now)
    clock.sleep = lambda _: None
    for name, operation in operations(now).items():
        result = _measure(operation, stub, rounds)
        print(json.dumps({"name": name, **result}), file=results, flush=True)


def _measure(operation: Operation, stub: HTTPConnection, rounds: int) -> dict[str, Any]:
    """Return medians of the ratios within a round, and the requests that one invocation makes."""
    handler = importlib.import_module(f"{operation.function}.handler").lambda_handler

    def invoke() -> None:
        answer = handler(operation.event, _CONTEXT) or {}
        assert answer.get("statusCode", 200) < 300, answer
        assert answer.get("isAuthorized", True), answer
        assert not answer.get("batchItemFailures"), answer

    _send(stub, "PUT", json.dumps(operation.answers).encode())
    invoke()
    requests = json.loads(_send(stub, "GET"))
    variants = {"ours": invoke, "boto3": _with_boto3(requests), "floor": _presigned(requests, stub)}
    times: dict[str, list[float]] = {name: [] for name in variants}
    size = max(1, round(_BATCH_SECONDS / _cpu_seconds(variants["boto3"], 5)))
    for variant in variants.values():
        _cpu_seconds(variant, size)
    for _ in range(rounds):
        for name, variant in variants.items():
            times[name].append(_cpu_seconds(variant, size))

    def over(other: str) -> float:
        return median(a / b for a, b in zip(times["ours"], times[other], strict=True))

    return {
        "requests": [name for name, _ in requests],
        "over_boto3": over("boto3"),
        "over_floor": over("floor"),
        "cpu_us": median(times["ours"]) * 1e6,
    }


def _cpu_seconds(run: Callable[[], None], count: int) -> float:
    """Return the average CPU time of a run. The garbage of earlier runs is collected first."""
    gc.collect()
    before = time.process_time()
    for _ in range(count):
        run()
    return (time.process_time() - before) / count


def _with_boto3(requests: list[tuple[str, str]]) -> Callable[[], None]:
    """Return a function that makes the same requests with boto3's client and its defaults."""
    client = boto3.client("dynamodb")
    calls = [
        (getattr(client, re.sub("(?<!^)(?=[A-Z])", "_", name).lower()), _with_bytes(body))
        for name, body in requests
    ]

    def run() -> None:
        for call, parameters in calls:
            call(**parameters)

    return run


def _with_bytes(body: str) -> Any:
    def hook(members: dict[str, Any]) -> dict[str, Any]:
        if isinstance(members.get("B"), str):
            members["B"] = base64.b64decode(members["B"])
        return members

    return json.loads(body, object_hook=hook)


def _presigned(requests: list[tuple[str, str]], stub: HTTPConnection) -> Callable[[], None]:
    """Return a function that sends the same requests, already signed, over one connection."""
    credentials = boto3.Session().get_credentials()
    assert credentials
    signed: list[tuple[bytes, dict[str, str]]] = []
    for name, body in requests:
        request = AWSRequest(
            method="POST",
            url=f"http://127.0.0.1:{stub.port}/",
            data=body.encode(),
            headers={
                "X-Amz-Target": f"DynamoDB_20120810.{name}",
                "Content-Type": "application/x-amz-json-1.0",
            },
        )
        SigV4Auth(credentials, "dynamodb", "us-east-1").add_auth(request)
        signed.append((body.encode(), dict(request.headers)))

    def run() -> None:
        for content, headers in signed:
            _send(stub, "POST", content, headers)

    return run


def _send(
    stub: HTTPConnection, method: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    stub.request(method, "/", body, headers or {})
    return stub.getresponse().read()


if __name__ == "__main__":
    main()
