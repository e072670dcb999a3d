"""Stories of prompt expiry: sessions, the consumer that sets timers, sweepers and TTL.

Until a moment of each story, the consumer and the sweepers are late, doubled, killed or stand
still. From then on, they work. Requests of callers have faults all the time.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import Any

from audit.classify import classify
from serverless_sessions.serve.expressions import Item
from tests.simulation.expiry_world import ExpiryWorld
from tests.simulation.model import base64url_sha256
from tests.simulation.story import Fate
from tests.simulation.turnstile import Actor
from tests.simulation.world import START, Call, Request, base64url

# What is promised after an end, and after a creation.
_END_SECONDS, _CREATION_SECONDS = 120, 200
# A renewal that is under way may take effect for this time after the end of its session.
_UNDER_WAY_SECONDS = 7
_DELAYS = (0.5, 1.8, 2.5, 4.0, 6.0, 6.9)
_CLOCKS = (0.0, -1.0, -0.4, 0.5, 1.0)
_TTLS = (5, 5, 20, 45, 70, 150, 290)
_PROMPT = Fate()


class Outcome:
    """The result of a story."""

    def __init__(self, story: Story) -> None:
        self.broken = story.broken
        self.log = story.world.log
        self.ends = story.ends
        self.latest = story.latest


def live(seed: int) -> Outcome:
    """Run the story of this number, which is always the same."""
    story = Story(seed)
    with story.world.installed():
        story.play()
    return Outcome(story)


class Story:
    """`ends` has the number of ends of each kind.

    `latest` is the longest time from an end to a deletion while nothing is behind, of sessions that
    are older than the time that a creation may take.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        choice = self.random.choice
        self.world = ExpiryWorld(choice((100.5, 250.0, 10_000.0, 10_000.0)), self._wrote)
        self.broken: list[str] = []
        self.ends: Counter[str] = Counter()
        self.latest = 0.0
        self.created: set[str] = set()
        self.calls = 0
        # Times are in seconds since the start. The consumer and the sweepers stand still from the
        # start on, or for a while.
        self.quiet = choice((0, 200, 700, 700, 3200))
        self.stop = max(self.quiet, 1000) + 400
        self.consumer_still = self._still()
        self.sweeper_still = self._still()

    def _still(self) -> tuple[float, float]:
        start = self.random.choice((0, self.random.uniform(0, 600)))
        return start, min(self.quiet, self.random.choice((start, start + 150, self.quiet)))

    def play(self) -> None:
        offset = self.random.uniform(0, 60)
        for minute in range(self.stop // 60):
            self.world.time.at(START + offset + 60 * minute, self._every_minute)
        for number in range(self.random.randint(3, 6)):
            self._start(partial(self._use_session, number))
        self._start(self._consume)
        self.world.time.at(START + self.stop, self._require_all_done)
        self.world.time.run()
        self._finish()

    def _start(self, work: Any) -> None:
        self.world.time.start(Actor("A", self.random.choice(_CLOCKS), work))

    def _require(self, truth: object, promise: str) -> None:
        if not truth:
            self.broken.append(promise)
            self.world.note(f"BROKEN: {promise}")

    @property
    def _now(self) -> float:
        return self.world.time.now - START

    @property
    def _in_trouble(self) -> bool:
        return self._now < self.quiet - 60

    def _fates(self, share: float) -> tuple[Fate, ...]:
        return tuple(self._fault() if self.random.random() < share else _PROMPT for _ in range(12))

    def _trouble(self) -> dict[str, Any]:
        """Return the facts of a function's call. It may be killed, or meet an outage."""
        kind = self.random.choice(("", "", "killed", "outage")) if self._in_trouble else ""
        if kind == "killed":
            return {"killed_after": self.random.randrange(12)}
        if kind == "outage":
            # A failed request is sent twice, and a batch of statements is retried three times.
            good = self.random.choice((0, self.random.randrange(12)))
            bad = self.random.choice((2, 8, 8, 40))
            return {"fates": (_PROMPT,) * good + (Fate((), "503"),) * bad}
        return {}

    def _fault(self) -> Fate:
        delay = self.random.choice(_DELAYS)
        return self.random.choice(
            (
                Fate((delay,)),
                Fate((0.01, delay)),
                Fate((delay,), "lost"),
                Fate((0.01,), "lost"),
                Fate((), "lost"),
                Fate((), "503"),
                Fate((0.01,), "503"),
            )
        )

    def _call(self, kind: str, share: float, **facts: Any) -> Call:
        self.calls += 1
        fates = facts.pop("fates", None) or self._fates(share)
        return Call(self.calls, kind, "backend", fates, **facts)

    # The callers

    def _use_session(self, number: int) -> None:
        choice, wait = self.random.choice, self.world.time.wait
        wait(self.random.uniform(0, 300))
        session_id = f"{number:012d}"
        self._create(session_id)
        while self._now < 700:
            wait(choice((3, 3, 15, 40, 60, 61, 120)))
            item = self.world.tables.session(session_id)
            if not item or "RevokedAt" in item:
                return
            end = int(item["ExpirationTime"]["N"])
            if choice((True, False)):
                # The most interesting moment is that of the end.
                wait(
                    max(
                        0.0, end + choice((-2.0, -1.0, -0.5, 0.0, 12.0, 30.0)) - self.world.time.now
                    )
                )
            path = f"/sessions/{session_id}"
            match choice(("renew", "renew", "window", "window", "revoke")):
                case "renew":
                    self._call_api("POST", f"{path}/renew")
                case "window":
                    self._call_api("POST", f"{path}/renew", {"ttl_seconds": choice(_TTLS)})
                case "revoke":
                    self._call_api("DELETE", path)

    def _create(self, session_id: str) -> None:
        """Create a session, and repeat that while the answer is 503, for up to a minute."""
        secret = base64url(session_id.encode() * 2)[:27]
        body = {
            "user_id": self.random.choice(("ada", None)),
            "ttl_seconds": self.random.choice(_TTLS),
            "absolute_ttl_seconds": self.random.choice((300, 600)),
            "session_id": session_id,
            "token_sha256": base64url_sha256(secret),
            "family_sha256": base64url_sha256(secret[:12]),
        }
        began = self._now
        while self._call_api("POST", "/sessions", body).status == 503 and self._now < began + 50:
            self.world.time.wait(self.random.choice((1, 10, 35)))

    def _call_api(self, method: str, path: str, body: object = None) -> Call:
        call = self._call(method, 0.3)
        self.world.note(f"{call.number} {method} {path} {body or ''}")
        self.world.call_api(call, method, path, body)
        self.world.note(f"{call.number} is answered {call.status}")
        return call

    # The functions

    def _consume(self) -> None:
        """Deliver the stream in batches. A batch that fails is repeated, as Lambda does."""
        position, stream = 0, self.world.tables.stream
        while self._now < self.stop:
            self.world.time.wait(self.random.uniform(0.5, 2))
            if self.consumer_still[0] <= self._now < self.consumer_still[1]:
                self.world.time.wait(self.consumer_still[1] - self._now)
            batch = stream[position : position + 100]
            if not batch:
                continue
            call = self._call("timers", 0.3, **self._trouble())
            self.world.set_timers(call, batch)
            self.world.note(f"consumer: {position} to {position + len(batch)}, {call.body}")
            if call.body is None:
                continue
            if failures := call.body["batchItemFailures"]:
                position = int(failures[0]["itemIdentifier"]) - 1
            elif not self._in_trouble or self.random.random() < 0.8:
                position += len(batch)

    def _every_minute(self) -> None:
        if self.sweeper_still[0] <= self._now < self.sweeper_still[1]:
            return
        if self._in_trouble:
            for _ in range(self.random.choice((0, 1, 2, 5))):
                after = self.random.choice((0, self.random.uniform(0, 60)))
                self.world.time.at(self.world.time.now + after, partial(self._start, self._sweep))
        else:
            self._start(self._sweep)

    def _sweep(self) -> None:
        share = self.random.choice((0, 0, 0.2)) if self._in_trouble else 0
        call = self._call("sweeper", share, **self._trouble())
        self.world.note(f"sweeper {call.number}")
        self.world.sweep(call)
        self.world.note(f"sweeper {call.number} ends, {self.world.metrics[-1]['second']}")

    # The promises

    def _wrote(self, old: Item, new: Item, request: Request | None) -> None:
        session_id = (old or new)["SessionId"]["S"]
        if not old:
            self._require(session_id not in self.created, "a session is created once")
            self.created.add(session_id)
        elif not new and request:
            self._deleted(session_id, old)

    def _deleted(self, session_id: str, old: Item) -> None:
        end, created = (int(old[name]["N"]) - START for name in ("ExpirationTime", "CreatedAt"))
        self.world.note(f"{session_id} is deleted")
        self._require("RevokedAt" not in old, "a revoked session is left to TTL")
        self._require(self._now >= end, "a live session is not deleted")
        self._require(
            self._now >= end + _UNDER_WAY_SECONDS, "a renewal that is under way may still succeed"
        )
        self._require(self._now >= created + 58, "a creation may be repeated for a minute")
        due = max(end + _END_SECONDS, created + _CREATION_SECONDS, self.quiet + _END_SECONDS)
        self._require(self._now <= due, "an expired session is deleted promptly")
        if self.quiet == 0 and self._now > created + _CREATION_SECONDS:
            self.latest = max(self.latest, self._now - end)

    def _require_all_done(self) -> None:
        for session_id in self.created:
            item = self.world.tables.session(session_id)
            self._require(not item or "RevokedAt" in item, "nothing stays undone")

    def _finish(self) -> None:
        ends = Counter[str]()
        for record in self.world.tables.stream:
            event = classify(record, not_before=0)
            if event.type in ("expired", "revoked"):
                ends[event.session_id] += 1
                self.ends[f"{event.type} {event.removed_by}"] += 1
            self._require(
                event.type not in ("deleted", "tampered", "unreadable"), f"no event is {event.type}"
            )
        self._require(
            ends == dict.fromkeys(self.created, 1), "every session has exactly one end on record"
        )
