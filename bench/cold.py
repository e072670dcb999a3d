"""The CPU time of a function's cold start, relative to the creation of a boto3 client."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from bench.runtime import FUNCTIONS, Runtime

_BOTO3 = 'import boto3; boto3.client("dynamodb")'


def measure(runtime: Runtime, *, rounds: int) -> dict[str, dict[str, float]]:
    """Return two medians for boto3 and each function: `over_boto3` is its CPU time divided by
    boto3's CPU time in the same round, and `cpu_ms` is its CPU time in milliseconds.
    """
    programs = {"boto3": _BOTO3} | {name: f"import {name}.handler" for name in FUNCTIONS}
    for program in programs.values():
        _cpu_seconds(runtime, program)  # from now on, the files are in the cache of the system
    times: dict[str, list[float]] = {name: [] for name in programs}
    print(f"cold starts, {rounds} rounds …", file=sys.stderr)
    for _ in range(rounds):
        for name, program in programs.items():
            times[name].append(_cpu_seconds(runtime, program))
    return {
        name: {
            "over_boto3": median(a / b for a, b in zip(seconds, times["boto3"], strict=True)),
            "cpu_ms": median(seconds) * 1000,
        }
        for name, seconds in times.items()
    }


def _cpu_seconds(runtime: Runtime, program: str) -> float:
    """Return the user and system time of a process that runs `program`."""
    process = subprocess.Popen(
        runtime.command("-c", f"{program}; import os; os._exit(0)"),
        cwd=runtime.folder,
        env=runtime.environment(),
        stdin=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, program)
    return usage.ru_utime + usage.ru_stime
