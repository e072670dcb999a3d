"""The limits that every change has to keep, measured with the bundle that is deployed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from bench import cold, warm
from bench.runtime import lambda_runtime
from deploy import bundle

# All times are multiples of boto3's. A cold start is compared with creating a boto3 client.
_COLD = {
    "session_api": 0.75,
    "session_authorizer": 0.40,
    "session_audit": 0.60,
    "session_timers": 0.60,
    "session_sweeper": 0.60,
    # It imports boto3, because nobody waits for it.
    "session_events": 1.30,
}
# A warm call is compared with the boto3 calls that it needs. The second value is their number.
_WARM = {
    "get": (0.45, 1),
    "verify": (0.45, 1),
    "verify and renew": (0.50, 2),
    "verify, first use": (0.50, 2),
    "create": (0.50, 1),
    "change": (0.50, 1),
    "renew": (0.50, 1),
    "rotate": (0.50, 1),
    "authenticate": (0.50, 1),
    "revoke": (0.50, 1),
    "list of 25": (0.60, 2),
    "authorizer": (0.35, 1),
    "authorizer, first use": (0.50, 2),
    "audit of 100": (0.40, 4),
    "timers of 100": (0.40, 4),
    "sweep of 100": (0.35, 41),
}
_BUNDLE_MEGABYTES = {"unzipped": 8.0, "zipped": 2.7}


class _Row(NamedTuple):
    """A measured number and its limit, in `unit`."""

    what: str
    measured: float
    limit: float
    unit: str


def measure(*, long: bool) -> dict[str, Any]:
    """Measure for two minutes, or for eight with less noise."""
    with lambda_runtime() as runtime:
        colds = cold.measure(runtime, rounds=60 if long else 20)
        warms = warm.measure(runtime, rounds=60 if long else 15)
    return {
        "date": f"{date.today()}",
        "python": runtime.python.version,
        "boto3": version("boto3"),
        "cores": os.cpu_count(),
        "cold": colds,
        "warm": warms,
        "bundle": _sizes(),
    }


def _sizes() -> dict[str, float]:
    """Return the sizes of the bundle that goes to AWS, in megabytes."""
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name, "task")
        bundle.build(folder, bundle.LAMBDA)
        archive = shutil.make_archive(str(folder), "zip", folder)
        unzipped = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return {"unzipped": unzipped / 1e6, "zipped": Path(archive).stat().st_size / 1e6}


def _rows(result: dict[str, Any]) -> Iterator[_Row]:
    for name, limit in _COLD.items():
        yield _Row(f"cold start of `{name}`", result["cold"][name]["over_boto3"], limit, "×")
    for name, (limit, _) in _WARM.items():
        yield _Row(f"warm {name}", result["warm"][name]["over_boto3"], limit, "×")
    for name, limit in _BUNDLE_MEGABYTES.items():
        yield _Row(f"bundle, {name}", result["bundle"][name], limit, "MB")


def table(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        f"Python {result['python']}, boto3 {result['boto3']}, {result['cores']} cores,"
        f" {result['date']}.",
        "",
        "| what | measured | at most | over the floor | DynamoDB requests |",
        "| --- | --- | --- | --- | --- |",
    ]
    for what, measured, limit, unit in _rows(result):
        line = f"| {what} | {measured:.2f} {unit} | {limit:.2f} {unit} |"
        if call := result["warm"].get(what.removeprefix("warm ")):
            line += f" {call['over_floor']:.1f} × | {len(call['requests'])} |"
        else:
            line += " | |"
        lines.append(line)
    return "\n".join(lines)


def failures(result: dict[str, Any]) -> list[str]:
    """Return a sentence for every exceeded limit, and for every wrong number of requests."""
    sentences = [
        f"{what} is {measured:.3f} {unit}; its limit is {limit} {unit}."
        for what, measured, limit, unit in _rows(result)
        if measured > limit
    ]
    for name, (_, requests) in _WARM.items():
        actual = result["warm"][name]["requests"]
        if len(actual) != requests:
            sentences.append(
                f"warm {name} makes {', '.join(actual)}; the expected number is {requests}."
            )
    return sentences
