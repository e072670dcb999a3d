"""Runs browser stories for a given time, and prints the results.

`python -m tests.simulation.browser_soak SECONDS [SEED]` runs them on each adapter in turn. With
`--stories N` it runs the first N of each kind, and prints the table of docs/reliability.md.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable

from tests.simulation.browser_stories import draw
from tests.simulation.browsers import live, report
from tests.simulation.web_apps import APPS, WebApp, web_app


class Figures:
    """The results of stories on one adapter."""

    def __init__(self, app: str) -> None:
        self.app = app
        self.stories = self.requests = self.calls = 0
        # Number of stories, by the first broken promise, by unavoidable effect, and by the result
        # for the thief.
        self.broken: Counter[str] = Counter()
        self.tolerated: Counter[str] = Counter()
        self.thieves: Counter[str] = Counter()
        self.failing: list[int] = []

    def add(self, app: WebApp, seeds: Iterable[int], *, thief: bool) -> None:
        for seed in seeds:
            outcome = live(app, draw(seed, thief=thief))
            self.stories += 1
            self.requests += outcome.requests
            self.calls += outcome.calls
            self.tolerated.update(set(outcome.tolerated))
            if thief:
                self.thieves[outcome.thief] += 1
            if outcome.broken:
                self.broken[outcome.broken] += 1
                self.failing.append(seed)

    def __str__(self) -> str:
        lines = [
            f"{self.app}: {self.stories:,} stories, {self.requests:,} requests of browsers,"
            f" {self.calls:,} calls of the service, {self.broken.total():,} stories broken"
        ]
        lines += [f"  {count:6}  {label}" for label, count in self.broken.most_common()]
        if self.failing:
            lines.append(f"          seeds {self.failing[:10]}")
        lines += [
            f"  {1000 * count / self.stories:6.1f} of 1,000 can't be had: {kind}"
            for kind, count in self.tolerated.most_common()
        ]
        lines += [f"  {count:6}  thieves: {end}" for end, count in self.thieves.most_common()]
        return "\n".join(lines)


def main(seconds: float, first: int, stories: int | None = None) -> int:
    failing = 0
    names = [(name, thief) for name in APPS for thief in (False, True)]
    for name, thief in names:
        figures = Figures(f"{name}{', with a thief' if thief else ''}")
        with web_app(name) as app:
            if stories is not None:
                figures.add(app, range(first, first + stories), thief=thief)
            else:
                seed, end = first, time.monotonic() + seconds / len(names)
                while time.monotonic() < end:
                    figures.add(app, [seed], thief=thief)
                    seed += 1
            print(figures, flush=True)
            if figures.failing and stories is None:
                print(report(app, figures.failing[0], thief=thief), flush=True)
        failing += len(figures.failing)
    return 1 if failing else 0


if __name__ == "__main__":
    if sys.argv[1] == "--stories":
        sys.exit(main(0, 0, int(sys.argv[2])))
    arguments = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(arguments[0], arguments[1] if len(arguments) > 1 else int(time.time())))
