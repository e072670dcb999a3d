"""Starts MiniStack so that TTL, PartiQL and URLs behave as on AWS, without its waits.

Runs in MiniStack's own environment. Each function below mends one thing that differs out of the
box; the names that they hold on to are those of the version that `pyproject.toml` pins.
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
# What Lambda receives with a record of TTL:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html
_TTL_IDENTITY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
# TTL leaves items alone whose time is more than five years past.
_OLDEST_SECONDS = 5 * 365 * 86400


def sweep_with_stream_records() -> None:
    """Let TTL delete each second, and with a stream record: on its own it writes none.

    Replaces the target of MiniStack's TTL thread, which starts as its module is imported.
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
            # Like DynamoDB, nothing but a Number of epoch seconds counts.
            expiry = float(item.get(attribute, {}).get("N", "inf"))
            if now - _OLDEST_SECONDS < expiry <= now:
                old = dynamodb._remove_item(table, partition, sort)
                dynamodb._emit_stream_event(name, "REMOVE", old, None)


def check_partiql_like_aws() -> None:
    """Check PartiQL under AWS's actions, `dynamodb:PartiQLInsert` and so on, by table.

    On its own MiniStack asks for the API's name, `dynamodb:BatchExecuteStatement`, on any table.
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
        each["Statement"] for each in request.get("Statements", [request]) if "Statement" in each
    ]


def write_stream_records_of_partiql() -> None:
    """Let PartiQL's INSERT write a stream record: on its own MiniStack writes none."""
    from ministack.services import dynamodb

    insert = getattr(dynamodb, "_partiql_insert", None)
    if not insert:
        sys.exit("This MiniStack has no '_partiql_insert' any more: no stream record to add.")

    def insert_with_record(table: Any, parsed: Any) -> Any:
        answer = insert(table, parsed)
        if answer[0] == 200:
            item = parsed["item"]
            new = item["M"] if set(item) == {"M"} else item
            dynamodb._emit_stream_event(table["TableName"], "INSERT", None, new)
        return answer

    dynamodb._partiql_insert = insert_with_record


def name_the_default_stage() -> None:
    """Serve the stage `$default` as `default` too.

    On AWS it is in no path. Here it is, and clients differ in how they sign a dollar sign.
    """
    from ministack import app

    parse = app._parse_execute_api_url

    def parse_default(host: str, path: str) -> Any:
        found = parse(host, path)
        if found and found[1] == "default":
            return found[0], "$default", found[2]
        return found

    app._parse_execute_api_url = parse_default


def answer_without_waiting_for_logs() -> None:
    """Give a function's log lines 2 ms to arrive.

    On its own MiniStack gives them 50 after each call that logs nothing. A line that comes later
    stands with the next call's.
    """
    from ministack.core.lambda_runtime import Worker

    drain = getattr(Worker, "_drain_stderr_bounded", None)
    if not drain:
        sys.exit("This MiniStack has no 'Worker._drain_stderr_bounded' any more: no wait to cut.")
    Worker._drain_stderr_bounded = partialmethod(drain, first_line_wait=0.002)


def end_with_parent() -> None:
    """End this process group, with the functions' processes, when whoever started it is gone."""
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
    answer_without_waiting_for_logs()
    from ministack.app import main

    main()
