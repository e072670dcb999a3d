"""Threads of which exactly one runs, in simulated time. If all of them wait, time advances."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from threading import Lock, Thread
from typing import Any


class Actor:
    """A thread that takes turns with others. Its host's clock is `clock_error` seconds ahead."""

    def __init__(self, name: str, clock_error: float, work: Callable[[], None]) -> None:
        self.name = name
        self.clock_error = clock_error
        self.work = work
        self.turn = Lock()
        self.turn.acquire()


class Turnstile:
    """Lets one actor run at a time, in the order of the times for which they wait.

    `now` is the true time in epoch seconds. `save` is called when an actor has to wait and another
    one runs. It returns a function that is called when the actor continues.
    """

    def __init__(self, now: float, save: Callable[[], Callable[[], None]]) -> None:
        self.now = now
        self.running: Any = None
        self._save = save
        self._due: list[tuple[float, int, Actor | Callable[[], None]]] = []
        self._count = 0
        self._over = Lock()
        self._failures: list[BaseException] = []

    @property
    def clock(self) -> float:
        """Return the time on the host of the running actor."""
        return self.now + float(self.running.clock_error)

    def at(self, time: float, what: Actor | Callable[[], None]) -> None:
        """Call a function, or let an actor continue, at this time.

        Actions of the same time keep their order.
        """
        self._count += 1
        heappush(self._due, (max(time, self.now), self._count, what))

    def wait(self, seconds: float) -> None:
        """Let the running actor continue after this time."""
        actor = self.running
        self.at(self.now + seconds, actor)
        restore = self._save()
        self._pass_on(actor)
        restore()

    def start(self, actor: Actor) -> None:
        """Let an actor begin now."""
        self.at(self.now, actor)
        Thread(target=self._work, args=(actor,), daemon=True).start()

    def run(self) -> None:
        """Run until nothing is left to do. Raise the exception of an actor or an action."""
        with self._over:
            self._pass_on(None)
            self._over.acquire()
        if self._failures:
            raise self._failures[0]

    def _work(self, actor: Actor) -> None:
        actor.turn.acquire()
        try:
            actor.work()
        except BaseException as failure:
            self._failures.append(failure)
        self._pass_on(None)

    def _pass_on(self, actor: Actor | None) -> None:
        """Continue with the next action, in the thread of `actor`, until it is another actor's
        turn.
        """
        while self._due:
            self.now, _, what = heappop(self._due)
            if isinstance(what, Actor):
                self.running = what
                if what is not actor:
                    what.turn.release()
                    if actor:
                        actor.turn.acquire()
                return
            try:
                what()
            except Exception as failure:
                self._failures.append(failure)
        self._over.release()
