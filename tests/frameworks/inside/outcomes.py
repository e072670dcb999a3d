"""Writes the outcome of every test, for the process that runs the suite."""

from __future__ import annotations

import json
import os

# This is read at the import, because some tests change the environment.
_PATH = os.environ["OUTCOMES"]


def write(test_id: str, outcome: str, reason: str = "") -> None:
    """Write an outcome: "passed", "failed" or "skipped". The last one of a test counts."""
    with open(_PATH, "a", encoding="utf-8") as file:
        print(json.dumps([test_id, outcome, reason]), file=file)
