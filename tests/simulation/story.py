"""A story: the calls of several callers, their times, and what happens to each request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

CALLERS = 3
SLOTS = 2
# A request is executed at most this long after the client sent it first.
UNDER_WAY_SECONDS = 7


class Fate(NamedTuple):
    """What happens to a request. It is executed once for each of the seconds in `executed_after`.

    The answer of the first execution is "kept" as it is, "lost", or replaced by a "503".
    """

    executed_after: tuple[float, ...] = (0.01,)
    answer: str = "kept"
    answer_takes: float = 0.01

    @property
    def is_fault(self) -> bool:
        return (
            self.answer != "kept"
            or not self.executed_after
            or self.executed_after[0] + self.answer_takes >= 2
        )


class Step(NamedTuple):
    """A caller's call for the session in `slot`, `after` seconds from `moment`.

    `moment` is a time in the stored session:
    - "expiry"
    - "grace": the end of the former token's grace period
    - "retirement": the time from which the use of the retired token counts as a theft
    - "end": the absolute end
    - "renewal": the time from which `verify` renews the session

    "now" is the time when the previous step began. It also replaces a moment in the past. `choice`
    selects the variant of the call, for example the seconds of grace.
    """

    caller: int
    call: str
    slot: int
    moment: str
    after: float
    choice: int
    fates: tuple[Fate, ...]


class Story(NamedTuple):
    """A story. `clocks` are the errors of the callers' hosts in seconds.

    `ttl` and `absolute` are the timeouts of the first session, and `ttl_late` is how late TTL
    removes a session.
    """

    clocks: tuple[float, ...]
    ttl: int
    absolute: int
    index_lag: float
    ttl_late: float
    steps: tuple[Step, ...]


# A story has only a few kinds of calls, so that they are likely to overlap. The last kind of story
# has all of them.
Theme = tuple[str, ...]
STEP_UPS: tuple[Theme, ...] = (
    ("step_up", "step_up_former", "rotate_former", "verify", "former", "authorize"),
    ("step_up", "verify", "verify", "former"),
    ("step_up", "step_up_session", "rotate", "verify", "create"),
    ("step_up", "rotate", "step_up_again", "step_up_again", "rotate_again"),
)
_TOKENS: tuple[Theme, ...] = (
    ("verify", "rotate", "rotate", "rotate_session", "former", "authorize", "renew"),
    ("rotate", "rotate_former", "rotate_former", "verify", "former", "authorize"),
    ("rotate", "rotate_former", "verify"),
    ("rotate", "rotate", "rotate", "verify", "older", "older", "authorize"),
    *STEP_UPS,
)
# These calls conflict only if one is executed between two executions of the other.
_RACES = (("rotate", "rotate_session"), ("create", "rotate_session"))
THEMES: tuple[Theme, ...] = (
    *_TOKENS,
    *_RACES,
    ("revoke", "sign_out", "renew", "verify", "list", "get"),
    ("create", "rotate_session", "create", "rotate_session", "verify", "rotate_session"),
    ("change", "replace", "change", "renew", "revoke", "get"),
    ("list", "revoke", "sign_out", "create"),
    ("renew", "verify", "renew", "get"),
    ("finish", "renew", "verify", "renew", "finish", "rotate"),
    ("verify", "former", "older", "authorize", "rotate", "rotate_former", "rotate_session")
    + ("renew", "finish", "change", "replace", "create", "revoke", "sign_out", "list", "get")
    + ("step_up", "step_up_former", "step_up_session", "step_up_again", "rotate_again"),
)
# Some steps begin within seconds of a moment, before or after it. Other steps begin immediately
# after the previous one, so that their calls overlap.
_MOMENTS = ("now",) * 6 + ("expiry", "expiry", "grace", "grace", "renewal", "end")
_MOMENTS_OF_TOKENS = ("now",) * 6 + ("grace",) * 4 + ("retirement",) * 2 + ("renewal", "expiry")
_AFTER_IN_RACES = (0.0, 0.015, 0.03, 0.1, 0.3)
_AFTER = (0.0, 0.015, 0.03, 0.1, 0.5, -2.0, -1.5, -1.0, -0.4, 0.0, 1.2, 2.0, 4.0)


_PROMPT = Fate()
_DELAYS = (0.5, 1.0, 1.8, 2.5, 3.0, 4.0, 5.0, 6.0, 6.9)
_CLOCKS = (0.0, -1.0, -0.4, 0.5, 1.0)


def draw(seed: int, themes: tuple[Theme, ...] = THEMES) -> Story:
    """Return the story of this number, which is always the same for the same themes."""
    random = Random(seed)
    choice = random.choice
    calls = choice(themes)
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
        """Return the fates of a call's requests.

        No request, the first one, the second one (a write after a read) or several have a fault.
        """
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
    """Return a story that still fails, although none of its simpler versions does."""
    for simpler in _simpler(story):
        if fails(simpler):
            return shrink(simpler, fails)
    return story


def _simpler(story: Story) -> Iterator[Story]:
    """Yield stories without a step, without a fault, without a moment to wait for, or with equal
    clocks.
    """
    for i, step in enumerate(story.steps):
        before, after = story.steps[:i], story.steps[i + 1 :]
        yield story._replace(steps=before + after)
        fates = step.fates
        plainer = [step._replace(fates=fates[:-1])] if fates else []
        plainer += [
            step._replace(fates=(*fates[:j], _PROMPT, *fates[j + 1 :]))
            for j, fate in enumerate(fates)
            if fate != _PROMPT
        ]
        if step.moment != "now":
            plainer.append(step._replace(moment="now", after=0.0))
        for simpler in plainer:
            yield story._replace(steps=(*before, simpler, *after))
    for i, clock in enumerate(story.clocks):
        if clock:
            yield story._replace(clocks=(*story.clocks[:i], 0.0, *story.clocks[i + 1 :]))
