"""Measures the numbers in docs/performance.md. The exit code is 1 if one is out of bounds."""

from __future__ import annotations

import argparse
import importlib
import json
import sys

# Modules with the functions `measure`, `table` and `failures`.
_PARTS = ("limits", "peers", "scale", "sweeper", "embedded")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    # Without arguments, argparse compares the empty list with the choices.
    parser.add_argument("parts", nargs="*", choices=[*_PARTS, []], metavar="|".join(_PARTS))
    parser.add_argument("--long", action="store_true", help="more rounds, for less noise")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    options = parser.parse_args()
    results, failures = {}, []
    for part in options.parts or _PARTS:
        module = importlib.import_module(f"bench.{part}")
        results[part] = module.measure(long=options.long)
        failures += module.failures(results[part])
        if not options.json:
            print(module.table(results[part]), end="\n\n", flush=True)
    if options.json:
        print(json.dumps(results, indent=2))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
