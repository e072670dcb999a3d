"""What a function does before its first request, because somebody waits for it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from tests.functional.conftest import function
from tests.template import ROOT

POWERTOOLS = {"aws_lambda_powertools", "msgspec"}


@pytest.mark.parametrize(
    ("package", "expected"),
    [("session_api", POWERTOOLS), ("session_audit", POWERTOOLS), ("session_authorizer", set())],
)
def test_no_function_imports_the_sdk(package: str, expected: set[str]) -> None:
    """And the authorizer next to nothing."""
    function(package)  # sets its environment
    heavy = POWERTOOLS | {"botocore.session"}
    code = f"import sys, {package}.handler; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT / "functions")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == f"{sorted(expected)}\n"


@pytest.mark.parametrize("package", ["session_api", "session_audit", "session_authorizer"])
def test_garbage_is_collected_once_all_is_imported(package: str) -> None:
    function(package)

    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
