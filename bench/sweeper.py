"""Measures how many sessions one sweeper handles, and what happens if more are due."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Any

from bench import service
from bench.operations import TABLE, expired
from bench.stores.worker import Worker, running_worker
from bench.warm import running_stub
from local.dynamodb import dynamodb_local
from local.stack import HOST

# How long DynamoDB takes for an answer.
_MILLISECONDS = (5, 10, 20, 40)
# The sweeper pauses so that it deletes no more than this.
_SESSIONS_PER_SECOND = 1000
# The CPU that Lambda gives to a function with the default of 512 MB, in cores.
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
_CORES = 512 / 1769
# On DynamoDB Local, runs are shorter than the 40 s that they have in Lambda.
_LOCAL_RUN_SECONDS = 4
_KINDS = {"expired": "deleted", "renewed": "with a new timer"}


def measure(*, long: bool) -> dict[str, Any]:
    """Measure runs of 4 s, or runs of 40 s as in Lambda, with answers after different times.

    The other measurements use DynamoDB Local. It is slower than the sweeper, so that only the
    sweeper's own CPU counts.
    """
    run_seconds = 40 if long else 4
    by_latency = {str(latency): _speed(latency, run_seconds) for latency in _MILLISECONDS}
    with (
        dynamodb_local() as endpoint,
        running_worker(service.COMMAND, service.environment(endpoint)) as worker,
    ):
        client = service.dynamodb(endpoint)
        service.create_tables(client)
        minute = int(time.time()) // 60 * 60
        # The sweeper begins at its cursor, which its first run sets.
        _run(worker, minute)
        kinds = {}
        for kind in _KINDS:
            minute += 120
            _store(client, worker, minute, 2000, is_renewed=kind == "renewed")
            kinds[kind] = {"sessions": 2000, **_run(worker, minute + 70, pauses=False)}
        minute += 120
        _store(client, worker, minute, 6000)
        runs = list(_runs(worker, minute + 70))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "run_seconds": run_seconds,
        "by_latency": by_latency,
        "kinds": kinds,
        "overload": {"sessions": 6000, "runs": runs},
    }


def table(result: Mapping[str, Any]) -> str:
    """Return tables in Markdown: by DynamoDB's latency, by CPU, and when too many are due."""
    run_seconds = result["run_seconds"]
    lines = [
        f"| DynamoDB answers in | sessions deleted in a run of {run_seconds} s | a second |",
        "| --- | --- | --- |",
    ]
    for latency, run in result["by_latency"].items():
        speed = run["deleted"] / run_seconds
        lines.append(f"| {latency} ms | {run['deleted']:,} | {speed:,.0f} |")
    lines += [
        "",
        "| sessions | a second of the sweeper's CPU |",
        "| --- | --- |",
    ]
    for kind, run in result["kinds"].items():
        speed = run["sessions"] / run["cpu_seconds"]
        lines.append(f"| {kind}, {_KINDS[kind]} | {speed:,.0f} |")
    overload = result["overload"]
    lines += [
        "",
        f"| {overload['sessions']:,} sessions are due, runs of {_LOCAL_RUN_SECONDS} s | deleted"
        " | behind afterwards |",
        "| --- | --- | --- |",
    ]
    for number, run in enumerate(overload["runs"], 1):
        lines.append(f"| run {number} | {run['deleted']:,} | {run['behind']} s |")
    return "\n".join(lines)


def failures(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every session that is left over, and for a wrong speed."""
    sentences = []
    for kind, run in result["kinds"].items():
        expected = run["sessions"] if kind == "expired" else 0
        if (run["deleted"], run["failed"]) != (expected, 0):
            sentences.append(
                f"The sweeper deleted {run['deleted']:,} of {expected:,} expired sessions."
            )
        speed = run["sessions"] / run["cpu_seconds"] * _CORES
        if speed < _SESSIONS_PER_SECOND:
            sentences.append(f"The CPU of 512 MB is enough for {speed:,.0f} {kind} a second.")
    overload = result["overload"]
    left = overload["sessions"] - sum(run["deleted"] for run in overload["runs"])
    if left:
        sentences.append(f"{left:,} sessions are left over after the last run.")
    for latency, run in result["by_latency"].items():
        # The deadline may cut off the pause after the last 100 sessions.
        if run["deleted"] > _SESSIONS_PER_SECOND * result["run_seconds"] + 100:
            sentences.append(
                f"With answers after {latency} ms, a run deletes {run['deleted']:,} sessions."
            )
    return sentences


def _speed(milliseconds: int, run_seconds: int) -> dict[str, Any]:
    """Run the sweeper as it is deployed, against a stub that takes this time for an answer."""
    print(f"  answers after {milliseconds} ms …", file=sys.stderr, flush=True)
    now = int(time.time()) // 60 * 60 + 30
    answers = expired(2 * _SESSIONS_PER_SECOND * run_seconds, now)
    with running_stub(milliseconds=milliseconds) as port:
        stub = HTTPConnection(HOST, port)
        stub.request("PUT", "/", json.dumps(answers).encode())
        stub.getresponse().read()
        environment = service.environment(f"http://{HOST}:{port}")
        environment |= {"SESSIONS_TABLE": TABLE, "TIMERS_TABLE": TABLE}
        with running_worker(service.COMMAND, environment) as worker:
            return _run(worker, now, run_seconds)


def _store(
    client: Any, worker: Worker, minute: int, count: int, *, is_renewed: bool = False
) -> None:
    """Store sessions with timers that are due in the minute from `minute` on, in epoch seconds.

    If they are renewed, they end a day later.
    """
    print(f"  {count:,} sessions …", file=sys.stderr, flush=True)
    for batch in range(count // service.BATCH):
        due = minute + batch % 60
        times = {"now": due - 1800, "ttl_seconds": 86_400 if is_renewed else 1800}
        items = service.store(client, worker, user_id=f"user-{batch}", **times)
        sessions = [item | {"ExpirationTime": {"N": str(due)}} for item in items]
        worker.do("timers", {"sessions": sessions, "now": due - 1800})


def _runs(worker: Worker, now: int) -> Iterator[dict[str, Any]]:
    """Run the sweeper every minute from `now` on, in epoch seconds, until it is not behind.

    If a run deletes nothing, it is the last one.
    """
    while True:
        run = _run(worker, now, _LOCAL_RUN_SECONDS)
        yield run
        if run["behind"] < 10 or not run["deleted"]:
            return
        now += 60


def _run(
    worker: Worker, now: int, run_seconds: int = 600, *, pauses: bool = True
) -> dict[str, Any]:
    begin = time.monotonic()
    argument = {"now": now, "seconds": run_seconds, "pauses": pauses}
    outcome, cpu_seconds = worker.do("sweep", argument)
    return {
        "deleted": outcome["deleted"],
        "failed": outcome["failed"],
        "behind": now - outcome["done_before"],
        "seconds": time.monotonic() - begin,
        "cpu_seconds": cpu_seconds,
    }
