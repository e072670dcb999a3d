"""Runs the frameworks' own test suites on our sessions: `make test-frameworks SUITES="flask …"`.

`differences.toml` names the tests that are expected to fail, with the reason. If another test
fails, or one of these passes, the run has failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from local.stack import ROOT
from tests.frameworks import postgres
from tests.frameworks.suites import SUITES, Suite
from tests.support.embedded import Embedded, embedded_service

HERE = Path(__file__).parent
# `make` installs the environment, and downloads the source distributions.
ENVIRONMENT = ROOT / ".venv-frameworks"
SDISTS = ROOT / ".local/frameworks"
# A suite that takes longer is ended.
LONGEST_SECONDS = 1800
# The exit codes of Django's runner and of pytest if all tests have run, whether they passed or not.
ALL_TESTS_RAN = (0, 1)


class Outcome(NamedTuple):
    """The result of a test: "passed", "failed" or "skipped", with the reason for the last two."""

    result: str
    reason: str


def main(names: list[str]) -> int:
    if unknown := set(names) - SUITES.keys():
        print(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
        return 2
    expected = tomllib.loads((HERE / "differences.toml").read_text())
    passed = failed = 0
    with embedded_service() as service:
        for name in names or SUITES:
            print(f"{SUITES[name].title} …", flush=True)
            if SUITES[name].on_postgres and (reason := postgres.missing()):
                print(f"  skipped: {reason}")
                continue
            began = time.monotonic()
            outcomes, problems = run(SUITES[name], service)
            problems += compare(outcomes, expected.get(name, {}))
            counts = [outcome.result for outcome in outcomes.values()]
            ran = len(counts) - counts.count("skipped")
            if ran < SUITES[name].at_least:
                problems.append(f"only {ran} tests ran of at least {SUITES[name].at_least}")
            for problem in problems:
                print(problem)
            print(
                f"  {counts.count('passed')} passed of {ran}"
                f" ({counts.count('skipped')} skipped, {time.monotonic() - began:.0f} s)",
                flush=True,
            )
            passed += counts.count("passed")
            failed += len(problems)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def run(suite: Suite, service: Embedded) -> tuple[dict[str, Outcome], list[str]]:
    """Run a suite against the service. Return the outcomes by test, and the problems."""
    folder = unpack(suite.sdist) / suite.folder
    results, log = SDISTS / "outcomes.jsonl", SDISTS / "output.log"
    results.unlink(missing_ok=True)
    environment = {
        name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ
    } | {
        "AWS_ACCESS_KEY_ID": service.credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": service.credentials.secret_key,
        "AWS_DEFAULT_REGION": service.region,
        "OUTCOMES": str(results),
        "PYTHONPATH": os.pathsep.join(map(str, (HERE / "inside", ROOT / "client"))),
        "SESSIONS_URL": service.url,
    }
    command = [str(ENVIRONMENT / "bin/python"), *suite.command]
    try:
        with ExitStack() as stack:
            if suite.on_postgres:
                environment["POSTGRES"] = stack.enter_context(postgres.running_postgres())
            output = stack.enter_context(log.open("w"))
            code = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LONGEST_SECONDS,
            ).returncode
    except subprocess.TimeoutExpired:
        return {}, [f"  FAILED: no end after {LONGEST_SECONDS} s"]
    problems = (
        [] if code in ALL_TESTS_RAN else [f"  FAILED: exit code {code}\n{log.read_text()[-4000:]}"]
    )
    lines = results.read_text().splitlines() if results.exists() else []
    outcomes = [json.loads(line) for line in lines]
    return {test: Outcome(result, reason) for test, result, reason in outcomes}, problems


def unpack(sdist: str) -> Path:
    """Extract the source distribution, and return its folder."""
    [archive] = SDISTS.glob(f"{sdist}-*.tar.gz")
    folder = SDISTS / archive.name.removesuffix(".tar.gz")
    if not folder.exists():
        with tarfile.open(archive) as content:
            content.extractall(SDISTS, filter="data")
    return folder


def compare(outcomes: dict[str, Outcome], expected: dict[str, str]) -> list[str]:
    """Return a message for every outcome that is not expected."""
    problems = [
        f"  FAILED: {test}\n{outcome.reason}"
        for test, outcome in outcomes.items()
        if outcome.result == "failed" and test not in expected
    ]
    for test in expected:
        if test not in outcomes:
            problems.append(f"  FAILED: {test} is expected to fail, but there is no such test")
        elif outcomes[test].result != "failed":
            problems.append(f"  FAILED: {test} is expected to fail, but {outcomes[test].result}")
    return problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
