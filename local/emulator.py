"""Starts MiniStack, changed so that TTL, PartiQL and URLs behave as on AWS, and faster.

It runs in MiniStack's own environment. Every function below changes one thing that differs from
AWS. The changes use internal names of MiniStack, so `pyproject.toml` pins its version.
"""

import json
import os
import re
import signal
import sys
import threading
import time
from functools import partialmethod
from typing import Any

_SWEEPER = "dynamodb-ttl-reaper"
_SWEEP_SECONDS = 1
# The identity in the stream record of a deletion by TTL:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html
_TTL_IDENTITY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
# TTL does not delete items whose time is more than five years in the past.
_OLDEST_SECONDS = 5 * 365 * 86400


def sweep_with_stream_records() -> None:
    """Let TTL delete items every second, with stream records. MiniStack itself writes none.

    This replaces the target of MiniStack's TTL thread, which starts when its module is imported.
    """
    replaced = []
    start = threading.Thread.start

    def start_ours(thread: Any) -> None:
        if thread.name == _SWEEPER:
            thread._target = _sweep_forever
            replaced.append(thread)
        start(thread)

    threading.Thread.start = start_ours  # type: ignore[method-assign, assignment]
    from ministack.services import dynamodb

    threading.Thread.start = start  # type: ignore[method-assign]
    if not replaced:
        sys.exit(f"This MiniStack has no thread '{_SWEEPER}' any more, so TTL can't be simulated.")

    build = dynamodb._build_change_record

    def build_with_identity(*args: Any) -> Any:
        record = build(*args)
        if threading.current_thread().name == _SWEEPER:
            record["userIdentity"] = _TTL_IDENTITY
        return record

    dynamodb._build_change_record = build_with_identity


def _sweep_forever() -> None:
    from ministack.services import dynamodb

    while True:
        time.sleep(_SWEEP_SECONDS)
        with dynamodb._lock:
            for name, setting in list(dynamodb._ttl_settings.items()):
                if setting["TimeToLiveStatus"] == "ENABLED" and name in dynamodb._tables:
                    _sweep(dynamodb, name, setting["AttributeName"])


def _sweep(dynamodb: Any, name: str, attribute: str) -> None:
    table, now = dynamodb._tables[name], time.time()
    for partition, items in list(table["items"].items()):
        for sort, item in list(items.items()):
            # As in DynamoDB, only a Number of epoch seconds counts.
            expiry = float(item.get(attribute, {}).get("N", "inf"))
            if now - _OLDEST_SECONDS < expiry <= now:
                old = dynamodb._remove_item(table, partition, sort)
                dynamodb._emit_stream_event(name, "REMOVE", old, None)


def check_partiql_like_aws() -> None:
    """Check permissions of PartiQL by table and by AWS's actions, such as `dynamodb:PartiQLInsert`.

    MiniStack itself checks for the action `dynamodb:BatchExecuteStatement` on any table.
    """
    from ministack.core import iam_actions

    extract, resources = iam_actions.extract_iam_action, iam_actions.dynamodb_resource_arns

    def extract_partiql(*args: Any, **kwargs: Any) -> Any:
        action = extract(*args, **kwargs)
        body = kwargs.get("body", args[4] if len(args) > 4 else b"")
        if action in ("dynamodb:ExecuteStatement", "dynamodb:BatchExecuteStatement"):
            verbs = {statement.split()[0].capitalize() for statement in _statements(body)}
            if len(verbs) == 1:
                return f"dynamodb:PartiQL{verbs.pop()}"
        return action

    def name_tables(body: bytes, region: str, account_id: str) -> Any:
        tables = {name for text in _statements(body) for name in re.findall(r'"([^"]+)"', text)[:1]}
        return resources(body, region, account_id) or [
            f"arn:aws:dynamodb:{region}:{account_id}:table/{table}" for table in sorted(tables)
        ]

    iam_actions.extract_iam_action = extract_partiql
    iam_actions.dynamodb_resource_arns = name_tables


def _statements(body: bytes) -> list[str]:
    request = json.loads(body or b"{}")
    return [
        statement["Statement"]
        for statement in request.get("Statements", [request])
        if "Statement" in statement
    ]


def write_stream_records_of_partiql() -> None:
    """Let PartiQL's INSERT and DELETE write stream records. MiniStack itself writes none."""
    from ministack.services import dynamodb

    insert, delete = (getattr(dynamodb, f"_partiql_{verb}", None) for verb in ("insert", "delete"))
    if not insert or not delete:
        sys.exit(
            "This MiniStack has no '_partiql_insert' or no '_partiql_delete' any more, so PartiQL"
            " would not write stream records."
        )

    def insert_with_record(table: Any, parsed: Any) -> Any:
        answer = insert(table, parsed)
        if answer[0] == 200:
            item = parsed["item"]
            new = item["M"] if set(item) == {"M"} else item
            dynamodb._emit_stream_event(table["TableName"], "INSERT", None, new)
        return answer

    def delete_with_record(table: Any, parsed: Any, *arguments: Any) -> Any:
        partition, sort, _, error = dynamodb._partiql_key_target(table, parsed)
        old = None if error else table["items"].get(partition, {}).get(sort)
        answer = delete(table, parsed, *arguments)
        if old is not None and answer[0] == 200:
            dynamodb._emit_stream_event(table["TableName"], "REMOVE", old, None)
        return answer

    dynamodb._partiql_insert = insert_with_record
    dynamodb._partiql_delete = delete_with_record


def name_the_default_stage() -> None:
    """Serve the stage `$default` under the name `default`, too.

    On AWS, the path does not contain this stage. In MiniStack it does, and clients encode the
    dollar sign in different ways when they sign the path.
    """
    from ministack import app

    parse = app._parse_execute_api_url

    def parse_default(host: str, path: str) -> Any:
        parts = parse(host, path)
        if parts and parts[1] == "default":
            return parts[0], "$default", parts[2]
        return parts

    app._parse_execute_api_url = parse_default


def check_function_urls_like_aws() -> None:
    """Check the second permission for function URLs, and the service that a call is signed for.

    MiniStack itself only checks `lambda:InvokeFunctionUrl`. It does not name the caller in the
    event either.
    """
    from ministack import app
    from ministack.services import apigateway, lambda_svc

    enforce, build = app._enforce_data_plane, lambda_svc._build_function_url_event

    def enforce_both(
        service: str, action: str, headers: Any, query: Any, *args: Any, **named: Any
    ) -> Any:
        denied = enforce(service, action, headers, query, *args, **named)
        if denied or action != "lambda:InvokeFunctionUrl":
            return denied
        if "/lambda/aws4_request" not in headers.get("authorization", ""):
            return 403, {"Content-Type": "application/json"}, b'{"Message":"Forbidden"}'
        named["service_context"] = {"lambda:InvokedViaFunctionUrl": "true"}
        return enforce(service, "lambda:InvokeFunction", headers, query, *args, **named)

    def build_with_caller(*args: Any, **kwargs: Any) -> Any:
        event = build(*args, **kwargs)
        headers, query = args[5], args[7]
        caller = apigateway._iam_caller_identity_v2(headers, query)
        event["requestContext"]["authorizer"] = {"iam": caller}
        return event

    app._enforce_data_plane = enforce_both
    lambda_svc._build_function_url_event = build_with_caller


def accept_plain_http() -> None:
    """Count all requests as encrypted, for the policies of buckets and queues that require it.

    MiniStack itself denies these requests, because it supports no TLS.
    """
    from ministack.core import iam_evaluator

    resolve = iam_evaluator._resolve_condition_key

    def resolve_as_encrypted(key: str, context: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else resolve(key, context)

    iam_evaluator._resolve_condition_key = resolve_as_encrypted


def answer_without_waiting_for_logs() -> None:
    """Wait only 2 ms for the log lines of a function.

    MiniStack itself waits 50 ms after every call that logs nothing. A line that arrives later is
    shown with those of the next call.
    """
    from ministack.core.lambda_runtime import Worker

    drain = getattr(Worker, "_drain_stderr_bounded", None)
    if not drain:
        sys.exit(
            "This MiniStack has no 'Worker._drain_stderr_bounded' any more, so calls would be slow."
        )
    Worker._drain_stderr_bounded = partialmethod(drain, first_line_wait=0.002)


def call_apis_on_this_machine() -> None:
    """Replace the URLs of API Gateway's APIs in the environment variables of functions.

    MiniStack itself leaves the URLs as they are on AWS.
    """
    from ministack.core.lambda_runtime import Worker

    create = Worker.__init__
    gateway = f"http://{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}/_aws/execute-api"

    def here(match: re.Match[str]) -> str:
        has_stage = match[2] is None
        return f"{gateway}/{match[1]}" + ("" if has_stage else "/default")

    def create_here(worker: Any, name: str, config: Any, *arguments: Any) -> None:
        variables = {
            variable: re.sub(r"^https?://(\w+)\.execute-api\.[\w.:-]+(/?$)?", here, value)
            for variable, value in config.get("Environment", {}).get("Variables", {}).items()
        }
        config = {**config, "Environment": {"Variables": variables}}
        create(worker, name, config, *arguments)

    Worker.__init__ = create_here


def end_with_parent() -> None:
    """End this process group, including the functions' processes, when the parent has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    sweep_with_stream_records()
    check_partiql_like_aws()
    write_stream_records_of_partiql()
    name_the_default_stage()
    check_function_urls_like_aws()
    accept_plain_http()
    answer_without_waiting_for_logs()
    call_apis_on_this_machine()
    from ministack.app import main

    main()
