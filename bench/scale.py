"""Measures whether operations cost the same in a large table, and what expired sessions cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from bench import service
from bench.counting_proxy import CountingProxy, counting_proxy
from bench.stores.worker import Worker, running_worker
from local.dynamodb import dynamodb_local

DEAD = 10_000
_BATCH = service.BATCH
_SWEEP_SECONDS = 600
# No request begins after 20 s, and one takes 7 s at most.
_SIGN_OUT_SECONDS = 27


def measure(*, long: bool) -> dict[str, Any]:
    """Measure operations in tables of two sizes, then lists and a sign-out among dead entries."""
    with (
        dynamodb_local() as endpoint,
        counting_proxy(endpoint) as proxy,
        running_worker(service.COMMAND, service.environment(proxy.url)) as worker,
    ):
        client = service.dynamodb(endpoint)
        service.create_tables(client)
        by_size, loaded = {}, 0
        for size in (1_000, 100_000 if long else 10_000):
            print(f"  {size:,} sessions …", file=sys.stderr, flush=True)
            for user in range(loaded // _BATCH, size // _BATCH):
                service.store(client, worker, user_id=f"user-{user}", now=int(time.time()))
            loaded = size
            by_size[str(size)] = _costs(worker, proxy, user_id=f"ada-{size}")
        print(f"  {DEAD:,} dead entries …", file=sys.stderr, flush=True)
        now = int(time.time())
        for user_id in ("dora", "lena"):
            service.store(client, worker, user_id=user_id, now=now - 7200, ttl_seconds=86_400)
        without_dead = _lists(worker, proxy, user_id="lena")
        first = now - 3600 - DEAD // _BATCH
        # The sweeper begins at its cursor, which its first run sets.
        worker.do("sweep", {"now": first, "seconds": _SWEEP_SECONDS})
        for created_at in range(first, now - 3600):
            dead = service.store(client, worker, user_id="dora", now=created_at, ttl_seconds=60)
            worker.do("timers", {"sessions": dead, "now": created_at})
        behind_dead = _lists(worker, proxy, user_id="dora")
        swept = worker.do("sweep", {"now": now, "seconds": _SWEEP_SECONDS}).answer["deleted"]
        after_sweep = _lists(worker, proxy, user_id="dora")
        live = 5_000 if long else 500
        print(f"  signing out of {live:,} sessions …", file=sys.stderr, flush=True)
        sign_out = _sign_out(client, worker, proxy, live=live, dead=8 * live)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "by_size": by_size,
        "behind_dead": behind_dead,
        "swept": swept,
        "after_sweep": after_sweep,
        "without_dead": without_dead,
        "sign_out": sign_out,
    }


def table(result: Mapping[str, Any]) -> str:
    """Return tables in Markdown: operations by the size of the table, lists and a sign-out."""
    sizes = list(result["by_size"])
    lines = [
        "| operation | " + " | ".join(f"among {int(size):,} sessions" for size in sizes) + " |",
        "| --- |" + " --- |" * len(sizes),
    ]
    for operation in result["by_size"][sizes[0]]:
        costs = (_format(result["by_size"][size][operation]) for size in sizes)
        lines.append(f"| {operation} | {' | '.join(costs)} |")
    lines += [
        "",
        "| a list of 25 live sessions | `limit` | calls of the API | cost of all |",
        "| --- | --- | --- | --- |",
    ]
    for what, lists in (
        (f"behind {DEAD:,} dead ones", "behind_dead"),
        ("after prompt expiry has deleted these", "after_sweep"),
        ("of a user who never had others", "without_dead"),
    ):
        for limit, paging in result[lists].items():
            cost = _format(paging["cost"])
            lines.append(f"| {what} | {limit} | {paging['calls']} | {cost} |")
    sign_out = result["sign_out"]
    seconds = ", ".join(f"{duration:.1f} s" for duration in sign_out["seconds"])
    lines += [
        "",
        "| signing out everywhere | calls of the API | cost of all | still live |",
        "| --- | --- | --- | --- |",
        f"| {sign_out['live']:,} live and {sign_out['dead']:,} dead entries | {seconds}"
        f" | {_format(sign_out['cost'])} | {sign_out['left']} |",
    ]
    return "\n".join(lines)


def failures(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for everything that costs more in the larger table, or takes too long.

    The same for lists that cost more after a sweep than if there never were dead entries.
    """
    small, large = result["by_size"].values()
    sentences = [
        f"{operation} takes {large[operation]} in a large table and {cost} in a small one."
        for operation, cost in small.items()
        if large[operation] != cost
    ]
    if result["swept"] != DEAD:
        sentences.append(f"The sweeper deleted {result['swept']:,} of {DEAD:,} dead sessions.")
    for limit, paging in result["after_sweep"].items():
        expected = result["without_dead"][limit]
        if paging != expected:
            sentences.append(
                f"After the sweep, a list with limit={limit} takes {paging} instead of {expected}."
            )
    sign_out = result["sign_out"]
    if sign_out["left"]:
        sentences.append(f"{sign_out['left']} sessions outlived a sign-out.")
    if max(sign_out["seconds"]) > _SIGN_OUT_SECONDS:
        sentences.append(f"A call to sign out took more than {_SIGN_OUT_SECONDS} s.")
    return sentences


def _format(cost: Mapping[str, float]) -> str:
    return f"{cost['requests']}: {cost['reads']:g} + {cost['writes']:g}"


def _costs(worker: Worker, proxy: CountingProxy, *, user_id: str) -> dict[str, Any]:
    """Return the cost of one call of every operation, for a new user with 25 sessions."""
    user = {"user_id": user_id}
    for _ in range(25):
        created = worker.do("call", [["POST", "/sessions", user], {}]).answer
    path = f"/sessions/{created['session_id']}"
    costs: dict[str, Any] = {}
    for operation, call, query in (
        ("read", ["GET", path], {}),
        ("renew", ["POST", f"{path}/renew"], {}),
        ("list 25", ["GET", "/sessions"], user | {"limit": "25"}),
        ("sign out everywhere, 25 sessions", ["DELETE", "/sessions"], user),
    ):
        proxy.take()
        worker.do("call", [call, query])
        costs[operation] = proxy.take()._asdict()
    return costs


def _lists(worker: Worker, proxy: CountingProxy, *, user_id: str) -> dict[str, Any]:
    """Return what it takes to list the 25 live sessions of a user, by `limit`."""
    return {
        limit: _paging(worker, proxy, {"user_id": user_id, "limit": limit})
        for limit in ("25", "100")
    }


def _paging(worker: Worker, proxy: CountingProxy, query: dict[str, str]) -> dict[str, Any]:
    """Return the number of calls that list all 25 live sessions, and their cost."""
    calls = live = 0
    proxy.take()
    while live < 25:
        page = worker.do("call", [["GET", "/sessions"], query]).answer
        calls += 1
        live += len(page["items"])
        if not page["next_cursor"] and live < 25:
            raise RuntimeError(f"the list ended after {live} of 25 sessions")
        query["cursor"] = page["next_cursor"]
    return {"calls": calls, "cost": proxy.take()._asdict()}


def _sign_out(
    client: Any, worker: Worker, proxy: CountingProxy, *, live: int, dead: int
) -> dict[str, Any]:
    """End all sessions of a user with live and dead ones. Return the calls and their cost."""
    query, now = {"user_id": "saul"}, int(time.time())
    seconds: list[float] = []
    for batch in range((live + dead) // _BATCH):
        is_live = batch * live % (live + dead) < live
        ttl_seconds = 86_400 if is_live else 60
        service.store(client, worker, **query, now=now - 3600 - batch, ttl_seconds=ttl_seconds)
    proxy.take()
    while not seconds or query["cursor"]:
        begin = time.monotonic()
        query["cursor"] = worker.do("call", [["DELETE", "/sessions"], query]).answer["next_cursor"]
        seconds.append(round(time.monotonic() - begin, 1))
    pages = client.get_paginator("scan").paginate(
        TableName=service.SESSIONS,
        FilterExpression="UserId = :user AND ExpirationTime > :now"
        " AND attribute_not_exists(RevokedAt)",
        ExpressionAttributeValues={":user": {"S": "saul"}, ":now": {"N": str(now)}},
        Select="COUNT",
    )
    return {
        "live": live,
        "dead": dead,
        "seconds": seconds,
        "cost": proxy.take()._asdict(),
        "left": sum(page["Count"] for page in pages),
    }
