"""Carries out the benchmark's requests, one JSON document per line, and measures their CPU time."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

# Standard output is only for responses. Some stores print, and loggers keep the `sys.stdout` that
# they find when they are imported.
_responses, sys.stdout = sys.stdout, sys.stderr


def serve(operation: Callable[[str, Any], Any]) -> None:
    """Call `operation` with the name and the argument of every line until standard input ends.

    The operation is called `times` times for a line. The response has the result of the last call,
    and the CPU seconds of all calls.
    """
    for line in sys.stdin:
        request = json.loads(line)
        answer, error = None, ""
        begin = time.process_time()
        try:
            for _ in range(request["times"]):
                answer = operation(request["name"], request["argument"])
        except Exception as failure:
            error = repr(failure)
        cpu = time.process_time() - begin
        response = {"answer": answer, "cpu": cpu, "error": error}
        print(json.dumps(response), file=_responses, flush=True)
