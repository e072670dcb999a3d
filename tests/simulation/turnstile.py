"""Threads of which exactly one runs, in simulated time: when all of them wait, time goes on."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from threading import Lock, Thread
from typing import Any


class Actor:
    """A thread that takes its turn with others; its host's clock is `clock_error` seconds ahead."""

    def __init__(self, name: str, clock_error: float, work: Callable[[], None]) -> None:
        self.name = name
        self.clock_error = clock_error
        self.work = work
        self.turn = Lock()
        self.turn.acquire()


class Turnstile:
    """Lets actors through one at a time, by the time that they wait for.

    `now` is the true time in epoch seconds. `save` is called when an actor has to wait and another
    one runs; what it answers is called when the actor goes on.
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
        """What time it is on the host of the actor that runs."""
        return self.now + float(self.running.clock_error)

    def at(self, time: float, what: Actor | Callable[[], None]) -> None:
        """Do something, or let an actor go on, at that time; at the same time, in order."""
        self._count += 1
        heappush(self._due, (max(time, self.now), self._count, what))

    def wait(self, seconds: float) -> None:
        """Let the actor that runs go on after so long."""
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
        """Until there is nothing left to do; raises what an actor or an action raised."""
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
        """Go on with what is due next, in the thread of `actor` until it is another one's turn."""
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
