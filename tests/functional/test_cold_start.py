"""What a function does before its first request. A caller waits for it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from tests.support.functions import function
from tests.support.template import ROOT
from tests.support.timers import expiry_function

POWERTOOLS = {"aws_lambda_powertools", "msgspec"}


def loaded(package: str) -> set[str]:
    """Return the modules of a process that has imported this function's handler."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {package}.handler; print(*sys.modules)"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "functions")},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("package", "expected"),
    [("session_api", POWERTOOLS), ("session_audit", POWERTOOLS), ("session_authorizer", set())],
)
def test_no_function_imports_the_sdk(package: str, expected: set[str]) -> None:
    """The authorizer imports as little as possible."""
    function(package)  # sets its environment
    assert loaded(package) & (POWERTOOLS | {"botocore.session"}) == expected


def test_the_authorizer_loads_nothing_of_the_trail() -> None:
    function("session_authorizer")
    names = loaded("session_authorizer")

    assert "sessions" in {name.partition(".")[0] for name in names}
    assert "audit" not in {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", ["session_timers", "session_sweeper"])
def test_prompt_expiry_loads_nothing_that_it_does_not_need(package: str) -> None:
    expiry_function(package)

    assert not loaded(package) & (POWERTOOLS | {"botocore.session", "concurrent.futures"})
    assert gc.get_freeze_count() > 1000


@pytest.mark.parametrize("package", ["session_api", "session_audit", "session_authorizer"])
def test_garbage_is_collected_after_all_imports(package: str) -> None:
    function(package)

    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
