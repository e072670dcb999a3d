"""Stories of a limit for the sessions of a user.

At first, several hosts log a user in at about the same time, and some sessions end in between. Then
the user may log in and out many times. At last, two log-ins follow, seconds apart. Their creations
apply the limit without faults, and exactly the newest sessions are left.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from serverless_sessions.serve.expressions import Item
from tests.simulation.model import base64url_sha256
from tests.simulation.story import Fate
from tests.simulation.turnstile import Actor
from tests.simulation.world import Call, Request, World, base64url
from tests.support.functions import sample

_CLOCKS = (0.0, -2.0, -1.0, -0.4, 0.5, 1.0, 2.0)
_CLOCK_SECONDS = 2
_DELAYS = (0.5, 1.0, 1.8, 2.5, 4.0, 6.9)
# The longest delay of the index.
_LAG_SECONDS = 3.0
# After this time, nothing is under way, sessions with the short window have expired by every
# clock, and the index shows everything. A later creation ranks before all earlier ones.
_QUIET_SECONDS = 12.0
_SHORT_WINDOW_SECONDS = 4
# No request of the limit begins later than this after the session was created.
_LIMIT_SECONDS = 2.0
_REPEAT_SECONDS = 50
_PROMPT = Fate()
_Rank = tuple[int, str]


def rank(item: Item) -> _Rank:
    return int(item["CreatedAt"]["N"]), item["SessionId"]["S"]


class Story:
    """The story of a number, which is always the same. `broken` lists the broken promises.

    `at_once` is the number of log-ins at the beginning, and `between` that of the log-ins and
    log-outs after them. Without these arguments, both are drawn, and the pages of the index are
    short.
    """

    def __init__(
        self, seed: int, *, most: int = 0, at_once: int = 0, between: int | None = None
    ) -> None:
        self.random = Random(seed)
        choice = self.random.choice
        self.most = most or choice((1, 2, 3, 5))
        self.page = 100 if at_once else choice((2, 3, 10))
        self.at_once = at_once or self.random.randint(1, 12)
        self.between = choice((0, 5, 15)) if between is None else between
        # Otherwise only the calls that have to end sessions request it.
        self.is_setting = choice((True, False))
        self.with_log_outs = choice((True, False)) and not at_once
        self.faults = choice((0.0, 0.2, 0.5))
        self.world = World(_LAG_SECONDS, 10_000.0, self._wrote)
        self.world.tables._lag = lambda: self.random.uniform(0, _LAG_SECONDS)
        self.broken: list[str] = []
        self.calls = 0
        # The sessions that were live before the last two log-ins, and after them.
        self.before: set[_Rank] = set()
        self.left: set[_Rank] = set()
        # The true times at which sessions have ended, by their ids.
        self.ends: dict[str, float] = {}

    def play(self) -> Story:
        with self.world.installed(), pytest.MonkeyPatch.context() as patch:
            patch.setattr("sessions.user_sessions._BATCH", self.page)
            if self.is_setting:
                patch.setattr(self.world.api, "max_sessions_per_user", self.most)
            works = [*[self._log_in_at_once] * self.at_once, self._impersonate]
            self.working = len(works)
            for work in (*works, self._finish):
                self.world.time.start(Actor("A", self.random.choice(_CLOCKS), work))
            self.world.time.run()
        return self

    def _require(self, truth: object, promise: str) -> None:
        if not truth:
            self.broken.append(promise)
            self.world.note(f"BROKEN: {promise}")

    def live(self) -> set[_Rank]:
        """Return the sessions that are live by the true time, without the impersonated ones."""
        return {
            rank(item)
            for item in self.world.tables.items["sessions"].values()
            if "RevokedAt" not in item
            and "Impersonator" not in item
            and int(item["ExpirationTime"]["N"]) > self.world.time.now
        }

    # The callers

    def _log_in_at_once(self) -> None:
        self.world.time.wait(self.random.choice((0.0, self.random.uniform(0, 2), 3.0)))
        window = self.random.choice((None, None, None, _SHORT_WINDOW_SECONDS))
        session_id = self._log_in(self.faults, ttl_seconds=window)
        if self.with_log_outs and self.random.random() < 0.3:
            self.world.time.wait(self.random.uniform(0, 3))
            self._log_out(session_id)
        self.working -= 1

    def _impersonate(self) -> None:
        """Store sessions in which somebody else acts as the user."""
        for number in range(self.random.choice((0, 0, 1, 4))):
            self.world.time.wait(self.random.uniform(0, 2))
            created, now = sample("stream_created")["Records"][0], int(self.world.time.clock)
            item = created["dynamodb"]["NewImage"] | {
                "SessionId": {"S": f"impersonate{number}"},
                "UserId": {"S": "ada"},
                "CreatedAt": {"N": str(now)},
                "ExpirationTime": {"N": str(now + 1800)},
                "Impersonator": {"M": {"id": {"S": "agent"}, "reason": {"S": "ticket-1"}}},
            }
            self.world.tables._put("sessions", (item["SessionId"]["S"],), item)
        self.working -= 1

    def _finish(self) -> None:
        while self.working:
            self.world.time.wait(1)
        for _ in range(self.between):
            self._log_out(self._log_in(0, max_sessions=None))
        self.world.time.wait(_QUIET_SECONDS)
        self.before = self.live()
        new = set()
        # Every host has a clock of its own.
        for _ in range(2):
            self.world.time.running.clock_error = self.random.choice(_CLOCKS)
            session_id = self._log_in(0)
            new.add(rank(self.world.tables.session(session_id)))
            self.world.time.wait(_QUIET_SECONDS)
        self.left = self.live()
        newest = set(sorted(self.before | new)[-self.most :])
        self._require(self.left == newest, "exactly the newest sessions are left")

    def _log_in(self, faults: float, **fields: Any) -> str:
        """Create a session, and repeat that while the answer is 503, for up to a minute."""
        session_id = base64url(self.random.randbytes(9))
        secret = base64url(self.random.randbytes(20))[:27]
        body: dict[str, Any] = {
            "user_id": "ada",
            "max_sessions": None if self.is_setting else self.most,
            "session_id": session_id,
            "token_sha256": base64url_sha256(secret),
            "family_sha256": base64url_sha256(secret[:12]),
        }
        body = {name: value for name, value in (body | fields).items() if value is not None}
        began = self.world.time.now
        while self._create(session_id, body, faults).status == 503:
            if self.world.time.now > began + _REPEAT_SECONDS:
                break
            self.world.time.wait(1)
        return session_id

    def _create(self, session_id: str, body: dict[str, Any], faults: float) -> Call:
        call = self._call("create", faults, session_id=session_id)
        self.world.note(f"{call.number} creates {session_id}")
        self.world.call_api(call, "POST", "/sessions", body)
        self.world.note(f"{call.number} is answered {call.status}")
        if call.status != 201:
            self._require(len(call.requests) == 1, "a failure of the limit fails no creation")
            # It was sent again, and its session has ended in between, by its host's clock.
            end = self._ended(self.world.tables.session(session_id)) if call.status == 409 else 0
            is_too_late = 0 < end - 2 * _CLOCK_SECONDS <= self.world.time.now
            self._require(call.status == 503 or is_too_late, "a creation can be repeated")
        for request in call.requests[1:]:
            # The second request is sent as soon as the creation is answered.
            latest = call.requests[1].sent + _LIMIT_SECONDS
            self._require(request.sent <= latest, "no request of the limit begins late")
        return call

    def _log_out(self, session_id: str) -> None:
        call = self._call("log-out", 0)
        self.world.note(f"{call.number} logs {session_id} out")
        self.world.call_api(call, "DELETE", f"/sessions/{session_id}")

    def _call(self, kind: str, faults: float, **facts: Any) -> Call:
        self.calls += 1
        fates = tuple(
            self._fault() if self.random.random() < faults else _PROMPT for _ in range(12)
        )
        return Call(self.calls, kind, "backend", fates, **facts)

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

    # The promises

    def _wrote(self, old: Item, new: Item, request: Request | None) -> None:
        if not request or "RevokedAt" not in new:
            return
        call, session_id = request.call, old["SessionId"]["S"]
        self.ends[session_id] = self.world.time.now
        if call.kind == "log-out":
            self._require(new["RevokedReason"] == {"S": "logout"}, "a log-out is one")
            return
        self.world.note(f"{call.number} ends {session_id}")
        self._require(new["RevokedReason"] == {"S": "session_limit"}, "the limit is the reason")
        self._require(session_id != call.session_id, "a creation does not end its own session")
        self._require("Impersonator" not in old, "the limit ends no impersonated session")
        newer = [
            item
            for item in self.world.tables.items["sessions"].values()
            if rank(item) > rank(old)
            and "Impersonator" not in item
            and self._ended(item) > call.began
        ]
        self._require(len(newer) >= self.most, "a session that ends has enough newer live ones")

    def _ended(self, item: Item) -> float:
        """Return the end of a session, in true time. Its host's clock may have been late."""
        expiry = int(item["ExpirationTime"]["N"]) + _CLOCK_SECONDS
        return self.ends.get(item["SessionId"]["S"], expiry)
