"""Carries out what the benchmark asks for, one JSON document a line, and says what CPU it took."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

# Some stores print, and loggers take standard output as they find it when they are imported.
_answers, sys.stdout = sys.stdout, sys.stderr


def serve(operation: Callable[[str, Any], Any]) -> None:
    """Call `operation` with each line's name and argument until standard input ends.

    Answers what the last of the line's `times` calls returned, and the seconds of CPU of all.
    """
    for line in sys.stdin:
        asked = json.loads(line)
        answer, error = None, ""
        begin = time.process_time()
        try:
            for _ in range(asked["times"]):
                answer = operation(asked["name"], asked["argument"])
        except Exception as failure:
            error = repr(failure)
        cpu = time.process_time() - begin
        said = {"answer": answer, "cpu": cpu, "error": error}
        print(json.dumps(said), file=_answers, flush=True)
