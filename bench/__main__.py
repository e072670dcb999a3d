"""Measures what docs/performance.md holds; ends with 1 where a limit is passed."""

from __future__ import annotations

import argparse
import importlib
import json
import sys

# Each is a module with `measure`, `table` and `failures`.
_PARTS = ("limits", "peers", "scale")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    # argparse looks for the empty list among the choices too.
    parser.add_argument("parts", nargs="*", choices=[*_PARTS, []], metavar="|".join(_PARTS))
    parser.add_argument("--long", action="store_true", help="more rounds, for less noise")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    asked = parser.parse_args()
    results, failures = {}, []
    for part in asked.parts or _PARTS:
        module = importlib.import_module(f"bench.{part}")
        results[part] = module.measure(long=asked.long)
        failures += module.failures(results[part])
        if not asked.json:
            print(module.table(results[part]), end="\n\n", flush=True)
    if asked.json:
        print(json.dumps(results, indent=2))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
