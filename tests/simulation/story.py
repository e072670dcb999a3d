"""A story: what several callers do, when, and what becomes of each of their requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

CALLERS = 3
SLOTS = 2
# A request is under way for so long at most, from when the client was first asked for it.
UNDER_WAY_SECONDS = 7


class Fate(NamedTuple):
    """What becomes of a request: copies of it land after these seconds, if any do.

    The answer to the first is `answered` as it is, "lost", or turned into a "503".
    """

    lands: tuple[float, ...] = (0.01,)
    answer: str = "kept"
    answer_takes: float = 0.01

    @property
    def is_fault(self) -> bool:
        return self.answer != "kept" or not self.lands or self.lands[0] + self.answer_takes >= 2


class Step(NamedTuple):
    """A call by a caller to what it knows of the session in `slot`, `after` seconds from `moment`.

    A moment is the "expiry", "grace" (of the former token), "retirement" (until when the retired
    one is no theft) or "end" of that session as stored, or when its "renewal" is due; "now" is when
    the step before began, as is a moment that has been.
    `choice` decides between what such a call may say, say the seconds of grace.
    """

    caller: int
    call: str
    slot: int
    moment: str
    after: float
    choice: int
    fates: tuple[Fate, ...]


class Story(NamedTuple):
    """`clocks` are what each caller's host is ahead by, in seconds; `ttl` and `absolute` the
    timeouts of the first session; `ttl_late` how long after its time TTL removes a session.
    """

    clocks: tuple[float, ...]
    ttl: int
    absolute: int
    index_lag: float
    ttl_late: float
    steps: tuple[Step, ...]


# A story is about a few kinds of calls, so that they meet; the last one is about all of them.
_TOKENS = (
    ("verify", "rotate", "rotate", "rotate_session", "former", "authorize", "renew"),
    ("rotate", "rotate_former", "rotate_former", "verify", "former", "authorize"),
    ("rotate", "rotate_former", "verify"),
    ("rotate", "rotate", "rotate", "verify", "older", "older", "authorize"),
)
# These are interesting only where one comes between the two sends of another.
_RACES = (("rotate", "rotate_session"), ("create", "rotate_session"))
_THEMES = (
    *_TOKENS,
    *_RACES,
    ("revoke", "sign_out", "renew", "verify", "list", "get"),
    ("create", "rotate_session", "create", "rotate_session", "verify", "rotate_session"),
    ("change", "replace", "change", "renew", "revoke", "get"),
    ("list", "revoke", "sign_out", "create"),
    ("renew", "verify", "renew", "get"),
    ("finish", "renew", "verify", "renew", "finish", "rotate"),
    ("verify", "former", "older", "authorize", "rotate", "rotate_former", "rotate_session")
    + ("renew", "finish", "change", "replace", "create", "revoke", "sign_out", "list", "get"),
)
# Around a boundary is where a second matters; and calls meet when they begin one after another.
_MOMENTS = ("now",) * 6 + ("expiry", "expiry", "grace", "grace", "renewal", "end")
_MOMENTS_OF_TOKENS = ("now",) * 6 + ("grace",) * 4 + ("retirement",) * 2 + ("renewal", "expiry")
_AFTER_IN_RACES = (0.0, 0.015, 0.03, 0.1, 0.3)
_AFTER = (0.0, 0.015, 0.03, 0.1, 0.5, -2.0, -1.5, -1.0, -0.4, 0.0, 1.2, 2.0, 4.0)


_PROMPT = Fate()
_DELAYS = (0.5, 1.0, 1.8, 2.5, 3.0, 4.0, 5.0, 6.0, 6.9)
_CLOCKS = (0.0, -1.0, -0.4, 0.5, 1.0)


def draw(seed: int) -> Story:
    """The story of this number, always the same."""
    random = Random(seed)
    choice = random.choice
    calls = choice(_THEMES)
    moments: tuple[str, ...] = _MOMENTS_OF_TOKENS if calls in _TOKENS else _MOMENTS
    afters: tuple[float, ...] = _AFTER
    if calls in _RACES:
        moments, afters = ("now",), _AFTER_IN_RACES

    def fault() -> Fate:
        delay = choice(_DELAYS)
        return choice(
            (
                Fate((delay,)),
                Fate((0.01, delay)),
                Fate((delay,), "lost"),
                choice((Fate((0.01,), "lost"), Fate((), "lost"), Fate((0.01,), "kept", 1.5))),
                choice((Fate((0.01,), "503"), Fate((), "503"))),
            )
        )

    def fates() -> tuple[Fate, ...]:
        """Of a call's requests: none, the first, the second (a write behind a read), both tries."""
        one = fault()
        return choice(((), (), (one,), (_PROMPT, one), (one, one), (one, fault(), fault())))

    def step() -> Step:
        return Step(
            caller=random.randrange(CALLERS),
            call=choice(calls),
            slot=choice((0, 0, 0, 0, 1)),
            moment=choice(moments),
            after=choice(afters),
            choice=random.randrange(12),
            fates=fates(),
        )

    return Story(
        clocks=tuple(choice(_CLOCKS) for _ in range(CALLERS)),
        ttl=choice((20, 30) if calls in _TOKENS else (10, 4, 20, 30)),
        absolute=choice((100, 60) if calls in _TOKENS else (100, 30, 35, 60)),
        index_lag=choice((0.2, 1.0, 3.0)),
        ttl_late=choice((60.5, 75.0, 90.0, 10_000.0)),
        steps=tuple(step() for _ in range(random.randint(4, 14 if calls in _TOKENS else 12))),
    )


def shrink(story: Story, fails: Callable[[Story], bool]) -> Story:
    """A story that fails still, and of which nothing can be left out."""
    for simpler in _simpler(story):
        if fails(simpler):
            return shrink(simpler, fails)
    return story


def _simpler(story: Story) -> Iterator[Story]:
    """Without a step, without a fault, without a moment to wait for, with clocks that agree."""
    for i, step in enumerate(story.steps):
        before, behind = story.steps[:i], story.steps[i + 1 :]
        yield story._replace(steps=before + behind)
        fates = step.fates
        plainer = [step._replace(fates=fates[:-1])] if fates else []
        plainer += [
            step._replace(fates=(*fates[:j], _PROMPT, *fates[j + 1 :]))
            for j, fate in enumerate(fates)
            if fate != _PROMPT
        ]
        if step.moment != "now":
            plainer.append(step._replace(moment="now", after=0.0))
        for each in plainer:
            yield story._replace(steps=(*before, each, *behind))
    for i, clock in enumerate(story.clocks):
        if clock:
            yield story._replace(clocks=(*story.clocks[:i], 0.0, *story.clocks[i + 1 :]))
