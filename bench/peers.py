"""The cost of a web request's session on DynamoDB, with this service and other session stores."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import unquote

from bench import service
from bench.counting_proxy import CountingProxy, counting_proxy
from bench.prices import call_dollars_a_month, dollars_a_month
from bench.stores.worker import StoreError, Worker, running_worker
from local.dynamodb import dynamodb_local
from local.stack import ROOT

OURS = "serverless-sessions"
WEB_REQUESTS = ("load", "change", "login", "logout")
# The store whose CPU time counts as 1.
BASELINE = "boto3, as in tutorials"
_PYTHON = str(ROOT / ".venv-bench/bin/python")
# The event of a web request in the audit trail, by the name of its sample in `events/`.
_EVENTS = {"change": "updated", "login": "created", "logout": "revoked"}


class Store(NamedTuple):
    """A session store. `key` is its table's partition key and type, `expiry` the TTL attribute."""

    name: str
    command: tuple[str, ...]
    key: tuple[str, str]
    expiry: str
    makes_table: bool = False
    variables: Mapping[str, str] = {}

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(OURS)

    @property
    def table(self) -> str:
        return service.SESSIONS if self.is_ours else _table(self.name)


def _table(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (_PYTHON, "-W", "ignore", "-m", f"bench.stores.{module}", *arguments)


def _ours(variant: str = "", *arguments: str, **variables: str) -> Store:
    command = (*service.COMMAND, *arguments)
    key = ("SessionId", "S")
    return Store(f"{OURS}{variant}", command, key, "ExpirationTime", variables=variables)


def _flask(name: str, expiry: str, *, makes_table: bool = False) -> Store:
    command = _python("flask_stores", name, _table(name))
    return Store(name, command, ("id", "S"), expiry, makes_table)


STORES = (
    _ours(),
    _ours(", renewed each time", RENEWAL_FRACTION="0"),
    _ours(", its authorizer", "authorizer"),
    _flask("flask-session", "expiration", makes_table=True),
    _flask("flask-session, no refresh", "expiration", makes_table=True),
    _flask("flask-dynamodb-sessions", "ttl"),
    _flask("dynamodb-session-flask", "expires"),
    Store(
        "pyramid-dynamodb-sessions",
        _python("pyramid_store", "pyramid-dynamodb-sessions"),
        ("sid", "B"),
        "exp",
    ),
    Store(
        "connect-dynamodb",
        (str(ROOT / ".venv/bin/node"), "bench/stores/express_store.js", "connect-dynamodb"),
        ("id", "S"),
        "expires",
    ),
    Store(BASELINE, _python("boto3_table", _table(BASELINE)), ("id", "S"), "ttl"),
)


def measure(*, long: bool) -> dict[str, Any]:
    """Measure requests, units, CPU and behaviour of the stores."""
    _install()
    stores: dict[str, Any] = {}
    with (
        dynamodb_local() as endpoint,
        counting_proxy(endpoint) as proxy,
        ExitStack() as stack,
    ):
        client = service.dynamodb(endpoint)
        service.create_tables(client)
        ours = service.environment(proxy.url)
        workers = {}
        for store in STORES:
            _print_progress(store.name)
            if not (store.is_ours or store.makes_table):
                _create_table(client, store)
            base = ours if store.is_ours else service.sdk_environment(proxy.url)
            environment = {**base, **store.variables}
            worker = stack.enter_context(running_worker(store.command, environment))
            workers[store.name] = worker
            stores[store.name] = {
                "version": _version(store),
                "web_requests": _costs(worker, proxy),
                "honours_expired": _honours_expired(client, store, worker),
                "cookie_in_table": _cookie_in_table(client, store, worker),
                "lists_and_ends": store.is_ours and _lists_and_ends(worker),
            }
            with running_worker(store.command, environment) as other:
                stores[store.name]["comes_back"] = _revives_ended(worker, other, proxy)
            if store.makes_table:
                stores[store.name]["switches_ttl_on"] = _has_ttl(client, store)
        audit_writes = _audit_writes(client, workers[OURS])
        for name, cpu in _cpu(workers, rounds=500 if long else 100).items():
            stores[name]["cpu_ms"] = cpu
    return {"date": time.strftime("%Y-%m-%d"), "audit_writes": audit_writes, "stores": stores}


def table(result: Mapping[str, Any]) -> str:
    """Return two tables in Markdown: what a web request costs, and how the stores behave."""
    baseline = result["stores"][BASELINE]["cpu_ms"]["load"]
    lines = [
        "| store | load | change | log in | log out | $, load | $, change | CPU |",
        "| --- | --- | --- | --- | --- | --: | --: | --: |",
    ]
    for name, store in result["stores"].items():
        package, comma, variant = name.partition(",")
        cells = [f"{package} {store['version']}".rstrip() + comma + variant]
        for request in WEB_REQUESTS:
            cost = store["web_requests"][request]
            cells.append(f"{cost['requests']}: {cost['reads']:g} + {cost['writes']:g}")
        for request in ("load", "change"):
            reads, writes, audit = dollars(result, name, request)
            trail = f" + {audit:,.0f}" if audit else ""
            cells.append(f"{reads + writes:,.0f}{trail}")
        cells.append(f"{store['cpu_ms']['load'] / baseline:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"One call of the API in each web request is ${call_dollars_a_month():,.0f} more for API"
        " Gateway and Lambda's requests.",
        "",
        "| store | an expired session still loads | a save undoes a log-out"
        " | the table holds the cookie | lists and ends a user's sessions |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, store in result["stores"].items():
        if "," in name and name != BASELINE:
            continue
        facts = ("honours_expired", "comes_back", "cookie_in_table", "lists_and_ends")
        lines.append(f"| {name} | {' | '.join('yes' if store[f] else 'no' for f in facts)} |")
    return "\n".join(lines)


def dollars(result: Mapping[str, Any], store: str, request: str) -> tuple[float, float, float]:
    """Return the dollars a month for 1,000 such requests a second: reads, writes, trail."""
    cost = result["stores"][store]["web_requests"][request]
    audit = result["audit_writes"].get(request, 0) if store.startswith(OURS) else 0
    return (
        dollars_a_month(read_units=cost["reads"]),
        dollars_a_month(write_units=cost["writes"]),
        dollars_a_month(write_units=audit),
    )


def failures(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every cost and behaviour of this service that is not as documented."""
    read, change, create = (1, 1, 0), (2, 1, 1), (1, 0, 2)
    documented = {
        OURS: (read, change, create, change),
        f"{OURS}, renewed each time": ((2, 1, 1), (3, 1, 2), create, (3, 1, 2)),
        f"{OURS}, its authorizer": (read, change, create, change),
    }
    sentences = []
    for name, costs in documented.items():
        store = result["stores"][name]
        for request, expected in zip(WEB_REQUESTS, costs, strict=True):
            cost = tuple(store["web_requests"][request].values())
            if cost != expected:
                sentences.append(f"{name}: {request} takes {cost} instead of {expected}.")
        for wrong in ("honours_expired", "comes_back", "cookie_in_table"):
            if store[wrong]:
                sentences.append(f"{name}: {wrong}.")
        if not store["lists_and_ends"]:
            sentences.append(f"{name}: a user's sessions are not listed and ended.")
    if set(result["audit_writes"].values()) != {2}:
        sentences.append(f"An audit event takes {result['audit_writes']} writes instead of 2.")
    return sentences


def _print_progress(progress: str) -> None:
    print(f"  {progress} …", file=sys.stderr, flush=True)


def _install() -> None:
    """Install the stores, which only this comparison needs. Standard output is for results."""
    command = ("make", "--silent", ".venv-bench/.ready")
    subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=True)  # noqa: S603


def _create_table(client: Any, store: Store) -> None:
    name, kind = store.key
    client.create_table(
        TableName=store.table,
        KeySchema=[{"AttributeName": name, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind}],
        BillingMode="PAY_PER_REQUEST",
    )


def _has_ttl(client: Any, store: Store) -> bool:
    answer = client.describe_time_to_live(TableName=store.table)
    return bool(answer["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED")


def _version(store: Store) -> str:
    """Return the pinned version of a store, or an empty text for this service."""
    pins = re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements/bench.txt").read_text(), re.MULTILINE)
    packages = json.loads((ROOT / "bench/stores/package.json").read_text())["dependencies"]
    return str((packages | dict(pins)).get(store.name.partition(",")[0], ""))


def _log_in(worker: Worker) -> str:
    """Return the cookie of a new session."""
    cookie: str = worker.do("login").answer["cookie"]
    if not _is_signed_in(worker, cookie):
        raise StoreError("a new session does not load")
    return cookie


def _is_signed_in(worker: Worker, cookie: str) -> bool:
    """Whether the user is still signed in."""
    return bool(worker.do("load", cookie).answer["body"] == "ada")


def _costs(worker: Worker, proxy: CountingProxy) -> dict[str, Any]:
    """Return the cost of a web request of every kind. A first round of requests does not count."""
    costs: dict[str, Any] = {}
    for _ in range(2):
        cookie = ""
        for name in ("login", "load", "change", "logout"):
            proxy.take()
            cookie = worker.do(name, cookie).answer["cookie"]
            costs[name] = proxy.take()._asdict()
    return costs


def _audit_writes(client: Any, worker: Worker) -> dict[str, float]:
    """Return the write units of the audit event that a web request causes.

    DynamoDB Local does not report what the trail's PartiQL consumes. The event is therefore written
    again with a PutItem, which is billed like an INSERT.
    """
    writes = {}
    for request, event in _EVENTS.items():
        worker.do("record", event)
        [item] = client.scan(TableName=service.AUDIT)["Items"]
        key = {name: item[name] for name in ("SessionId", "EventId")}
        client.delete_item(TableName=service.AUDIT, Key=key)
        answer = client.put_item(TableName=service.AUDIT, Item=item, ReturnConsumedCapacity="TOTAL")
        writes[request] = answer["ConsumedCapacity"]["CapacityUnits"]
        client.delete_item(TableName=service.AUDIT, Key=key)
    return writes


def _honours_expired(client: Any, store: Store, worker: Worker) -> bool:
    """Whether a session that expired a minute ago still loads. TTL has not deleted it yet."""
    cookie = _log_in(worker)
    for item in client.scan(TableName=store.table)["Items"]:
        client.update_item(
            TableName=store.table,
            Key={store.key[0]: item[store.key[0]]},
            UpdateExpression="SET #expiry = :past",
            ExpressionAttributeNames={"#expiry": store.expiry},
            ExpressionAttributeValues={":past": {"N": str(int(time.time()) - 60)}},
        )
    return _is_signed_in(worker, cookie)


def _cookie_in_table(client: Any, store: Store, worker: Worker) -> bool:
    """Whether somebody who can read the table can sign in with a cookie from it."""
    cookie = _log_in(worker)
    value = unquote(cookie.partition("=")[2] or cookie)
    return any(value in str(item) for item in client.scan(TableName=store.table)["Items"])


def _lists_and_ends(worker: Worker) -> bool:
    """Whether all sessions of a user can be listed and ended."""
    cookie = _log_in(worker)
    query = {"user_id": "ada"}
    listed = worker.do("call", [["GET", "/sessions"], query]).answer["items"]
    ended = worker.do("call", [["DELETE", "/sessions"], query]).answer
    return bool(listed and ended["complete"] and not _is_signed_in(worker, cookie))


def _revives_ended(worker: Worker, other: Worker, proxy: CountingProxy) -> bool:
    """Whether a save revives a session that another request has ended in the meantime."""
    cookie = _log_in(worker)
    _log_in(other)
    with ThreadPoolExecutor(1) as pool:
        with proxy.paused_write() as begun:
            save = pool.submit(worker.do, "change", cookie)
            if not begun.wait(10):
                raise StoreError("a change is not saved")
            other.do("logout", cookie)
        with suppress(StoreError):  # a store may refuse the save
            save.result()
    return _is_signed_in(other, cookie)


def _cpu(workers: Mapping[str, Worker], rounds: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of CPU that a session adds to a web request, in the store's process.

    In every round, every store first gets a web request without a session, and then one of every
    kind. The stores take turns, so that other load of the machine affects all of them alike.
    """
    _print_progress("CPU")
    cookies = {store: _log_in(worker) for store, worker in workers.items()}
    added: dict[str, dict[str, list[float]]] = {
        store: {"load": [], "change": []} for store in workers
    }
    for _ in range(rounds):
        for store, worker in workers.items():
            plain = worker.do("plain")
            for name, milliseconds in added[store].items():
                result = worker.do(name, cookies[store])
                cookies[store] = result.answer["cookie"]
                milliseconds.append((result.cpu - plain.cpu) * 1000)
    return {
        store: {name: round(median(milliseconds), 3) for name, milliseconds in by_name.items()}
        for store, by_name in added.items()
    }
