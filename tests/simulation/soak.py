"""Runs stories for a given time: `python -m tests.simulation.soak SECONDS [SEED]`."""

from __future__ import annotations

import sys
import time
from collections import Counter

from tests.simulation.callers import live, report
from tests.simulation.story import draw


def main(seconds: float, first: int) -> int:
    """Print the figures, and the smallest version of each story that fails.

    Return the exit status.
    """
    requests = faults = 0
    failing: list[int] = []
    tolerated: Counter[str] = Counter()
    seed, end = first, time.monotonic() + seconds
    while time.monotonic() < end:
        outcome = live(draw(seed))
        requests += outcome.requests
        faults += outcome.faults
        tolerated += outcome.tolerated
        if outcome.broken:
            failing.append(seed)
            print(report(seed), flush=True)
        seed += 1
    print(f"{seed - first:,} stories, {requests:,} requests, {faults:,} faults")
    for kind, times in tolerated.items():
        print(f"{times:,} times not promised: {kind}")
    print(f"seeds {first} to {seed - 1}, failing: {failing or 'none'}")
    return 1 if failing else 0


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(arguments[0], arguments[1] if len(arguments) > 1 else int(time.time())))
