"""A story of one browser: the actions of its tabs, and what happens to each request and answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

# What happens to an answer. "taken": the page gets it. "dropped": the user has left the page, but
# the browser still stores the cookies. "lost": the browser does not get it.
FATES = ("taken", "dropped", "lost")


class Way(NamedTuple):
    """How long a request travels, what happens to its answer, and after how long."""

    up: float = 0.01
    down: float = 0.01
    fate: str = "taken"


class Step(NamedTuple):
    """An action that begins `after` seconds after the step before it began.

    `ways` are for its requests, in order. The second request of a double click begins `gap` seconds
    after the first. DynamoDB answers after `pace` seconds.
    """

    action: str
    after: float
    user: str
    ways: tuple[Way, ...]
    gap: float
    pace: float


class Story(NamedTuple):
    """A story.

    `grace` is the service's grace period, and `thief` is the step in which the cookies are copied.
    """

    grace: int
    is_signed_in: bool
    steps: tuple[Step, ...]
    # What the thief does at the end: the action, its interval in seconds, and whether it comes
    # before the user.
    thief: tuple[str, float, bool] | None = None


# Each story has only a few kinds of actions, so that they are likely to overlap.
_THEMES = (
    ("login", "login2", "polls", "visit", "write", "poll"),
    ("login2", "logout", "polls", "login", "logout2", "write"),
    ("regenerate", "regenerate2", "polls", "write", "writes", "poll"),
    ("regenerate", "polls", "logout", "login", "write"),
    ("switch", "switch2", "polls", "write", "regenerate"),
    ("empty", "login", "visit", "polls", "write", "logout"),
    ("wrong_stage", "polls", "poll", "write", "visit", "login", "regenerate"),
    ("operator", "login", "polls", "regenerate", "write"),
    ("login", "login2", "logout", "logout2", "regenerate", "regenerate2", "switch", "empty")
    + ("visit", "write", "writes", "poll", "polls", "polls", "operator", "wrong_stage"),
)
_THIEF_THEMES = (
    ("regenerate", "poll", "polls", "thief_poll", "thief_verify", "thief_rotate"),
    ("regenerate", "regenerate2", "poll", "thief_rotate", "thief_authorize", "write"),
    ("thief_authorize", "thief_rotate", "poll", "write", "login", "logout"),
    ("poll", "thief_poll", "thief_rotate", "regenerate", "thief_verify", "thief_authorize"),
)
_THIEF_ENDS = ("thief_poll", "thief_verify", "thief_authorize", "thief_rotate")
_AFTER = (0.0, 0.0, 0.02, 0.05, 0.1, 0.3, 0.3, 1.0, 3.0, 12.0, 35.0, 70.0)
_DELAYS = (0.005, 0.01, 0.01, 0.03, 0.1, 0.3, 0.3, 0.8, 2.0)
_PACES = (0.002, 0.01, 0.01, 0.05, 0.2)
_GAPS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.5)
_THIEF_PACES = (5.0, 12.0, 28.0, 33.0, 50.0)
# The number of ways in a step with the most requests.
_MOST_WAYS = 4


def draw(seed: int, *, thief: bool = False) -> Story:
    """Return the story of this number, which is always the same."""
    random = Random(seed * 2 + thief)
    choice = random.choice
    # The contract does not cover an answer that arrives after the grace period.
    grace = choice((10, 30, 30))
    late = 7.0 if grace == 10 else choice((7.0, 20.0))
    theme = choice(_THIEF_THEMES if thief else _THEMES)

    def way() -> Way:
        fate = choice((*("taken",) * 8, "dropped", "lost"))
        down = choice((*_DELAYS, *_DELAYS, late))
        return Way(choice(_DELAYS), down, fate)

    def step(action: str) -> Step:
        return Step(
            action=action,
            after=choice(_AFTER),
            user=choice("1112"),
            ways=tuple(way() for _ in range(_MOST_WAYS)),
            gap=choice(_GAPS),
            pace=choice(_PACES),
        )

    steps = [step(choice(theme)) for _ in range(random.randint(4, 9))]
    if not thief:
        return Story(grace, random.random() < 0.6, tuple(steps))
    steps = [drawn for i, drawn in enumerate(steps) if i > 1 or "thief" not in drawn.action]
    copy = next((i for i, drawn in enumerate(steps) if "thief" in drawn.action), len(steps))
    steps.insert(random.randint(0, copy), step("copy"))
    ends = (choice(_THIEF_ENDS), choice(_THIEF_PACES), random.random() < 0.5)
    return Story(grace, True, tuple(steps), ends)


def shrink(story: Story, fails: Callable[[Story], bool]) -> Story:
    """Return a story that still fails, and from which nothing can be removed."""
    for simpler in _simpler(story):
        if fails(simpler):
            return shrink(simpler, fails)
    return story


def _simpler(story: Story) -> Iterator[Story]:
    """Yield stories without one of the steps, or with a more common step."""
    plain, quick = Way(), 0.01
    for i, step in enumerate(story.steps):
        before, behind = story.steps[:i], story.steps[i + 1 :]
        yield story._replace(steps=before + behind)
        plainer = [
            step._replace(ways=(*step.ways[:j], plain, *step.ways[j + 1 :]))
            for j, way in enumerate(step.ways)
            if way != plain
        ]
        if step.pace != quick:
            plainer.append(step._replace(pace=quick))
        if step.after not in (0.0, 3.0):
            plainer.append(step._replace(after=3.0))
        for variant in plainer:
            yield story._replace(steps=(*before, variant, *behind))
