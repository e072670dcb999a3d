"""Callers that run a story. Every caller makes its calls in order, and callers work in parallel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from serverless_sessions.serve.expressions import Item
from tests.simulation.model import FAMILY, Life, Model, base64url_sha256
from tests.simulation.story import SLOTS, Step, Story, draw, shrink
from tests.simulation.turnstile import Actor
from tests.simulation.world import MAX_IMPERSONATION_SECONDS, Call, World, base64url

_GRACES = (3, 0, 0, 20, 3, 10)
# Without a grace period, a rotation by the session's id succeeds even during the grace period of
# another rotation.
_GRACES_BY_ID = (3, 0, 0, 20, 0, 10)
_WINDOWS = (None, None, 5, 15, 60, None)
_LAST_WINDOWS = (6, 15, 60)
_TIMEOUTS = ((10, 60), (20, 40), (5, 100))
_METHODS: tuple[list[str], ...] = (["otp"], ["pwd", "otp"], ["hwk"], [])
# The choices in which a creation is anonymous or impersonated, and in which `verify` sends no
# client.
_ANONYMOUS = (5, 8)
_IMPERSONATED = (3, 9)
_UNREPORTED = (2, 7, 8)
# A session that expired longer ago than this is replaced by a new one.
_LONG_EXPIRED_SECONDS = 10
# A failed call is repeated for up to a minute.
_REPEATS = 6
_REPEAT_SECONDS = 50
_MOMENTS = {
    "expiry": "ExpirationTime",
    "grace": "PreviousTokenUntil",
    "retirement": "RetiredTokenUntil",
    "end": "AbsoluteExpirationTime",
}


def _hashes(secret: str) -> dict[str, str]:
    """Return the fields of a call whose caller generates the secret."""
    return {
        "token_sha256": base64url_sha256(secret),
        "family_sha256": base64url_sha256(secret[:FAMILY]),
    }


class Slot:
    """What all callers know about one session. The newest of its `secrets` is the last one."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.session_id = ""
        self.secrets: list[str] = []
        self.version = 1


def _number(item: Item, name: str) -> float:
    return float(item[name]["N"])


class Outcome:
    """The result of a story."""

    def __init__(self, world: World, model: Model) -> None:
        self.broken = model.broken
        self.tolerated = model.tolerated
        self.log = world.log
        self.executed = world.executed
        self.requests = world.requests
        self.faults = world.faults


def live(story: Story) -> Outcome:
    """Run the story with its callers, then read the trail."""
    model = Model()
    world = World(story.index_lag, story.ttl_late, model.wrote)
    model.world = world
    with world.installed():
        cast = _Cast(story, world, model)
        for work in (cast.play, cast.read_trails):
            world.time.start(cast.actor(0, work))
            world.time.run()
    return Outcome(world, model)


def report(seed: int) -> str:
    """Return a text with the smallest version of a story that breaks a promise, and with everything
    that happens in it.
    """
    story = shrink(draw(seed), lambda story: bool(live(story).broken))
    outcome = live(story)
    steps = (f"  {step}" for step in story.steps)
    return "\n".join(
        [
            f"Story {seed} breaks a promise:",
            *outcome.broken,
            "",
            str(story._replace(steps=())),
            *steps,
        ]
        + ["", *outcome.log]
    )


def _moment(item: Item, name: str) -> float | None:
    """Return the time for which a step waits, from the stored item, or None if there is none."""
    if name == "renewal":
        return _number(item, "RenewedAt") + _number(item, "TtlSeconds") / 10 if item else None
    attribute = _MOMENTS.get(name, "")
    return _number(item, attribute) if attribute in item else None


class _Cast:
    def __init__(self, story: Story, world: World, model: Model) -> None:
        self.story = story
        self.world = world
        self.model = model
        self.calls: list[Call] = []
        self.slots = [Slot("ada") for _ in range(SLOTS)]
        self.random = Random(2)

    def actor(self, caller: int, work: Callable[[], None]) -> Actor:
        return Actor("ABC"[caller], self.story.clocks[caller], work)

    def play(self) -> None:
        """Begin every step at its moment, even if earlier steps are still running.

        If the step has no session, it logs in first.
        """
        for step in self.story.steps:
            self._await(step)
            slot = self.slots[step.slot]
            if step.call != "create" and self._is_long_expired(slot):
                anonymous = step.choice in _ANONYMOUS or step.call == "finish"
                choice = 8 if anonymous else 3 if step.choice == 7 else 0
                log_in = step._replace(choice=choice, fates=())
                self._create(log_in, slot, (self.story.ttl, self.story.absolute))
            self.world.time.start(self.actor(step.caller, partial(self._do, step)))

    def _await(self, step: Step) -> None:
        """Wait for the moment of a step, unless it has passed."""
        item, now = self.world.tables.session(self.slots[step.slot].session_id), self.world.time.now
        moment = _moment(item, step.moment) or now
        if moment + step.after > now:
            self.world.time.wait(moment + step.after - now)

    def _is_long_expired(self, slot: Slot) -> bool:
        item = self.world.tables.session(slot.session_id)
        return (
            not item
            or _number(item, "ExpirationTime") < self.world.time.now - _LONG_EXPIRED_SECONDS
        )

    def _do(self, step: Step) -> None:
        slot = self.slots[step.slot]
        if slot.session_id or step.call == "create":
            getattr(self, f"_{step.call}")(step, slot)

    def _call(self, step: Step, slot: Slot, kind: str, how: Any, **facts: Any) -> Call:
        """Make a call, and check its answer against the contract."""
        call = Call(
            len(self.calls),
            kind,
            self.world.time.running.name,
            step.fates,
            user_id=slot.user_id,
            **{"session_id": slot.session_id} | facts,
        )
        stored = self.world.tables.session(slot.session_id)
        if step.choice == 11 and "first" not in facts and stored:
            call.reuse(stored["RequestId"]["S"])
        self.calls.append(call)
        shown = {name: fact for name, fact in facts.items() if name != "first"}
        self.world.note(f"{call.caller} calls {call.number} {kind} {shown} {step.fates}")
        how(call)
        self.world.note(f"{call.caller} is answered {call.number} {kind} {call.status} {call.body}")
        self.model.answered(call)
        return call

    def _repeat(self, step: Step, slot: Slot, kind: str, how: Any, **facts: Any) -> Call:
        """Make a call and repeat it while the answer is 503, as the contract allows."""
        call = self._call(step, slot, kind, how, **facts)
        first = call.began
        facts = {"first": first, **facts}
        for _ in range(_REPEATS):
            if call.status != 503 or self.world.time.now > first + _REPEAT_SECONDS:
                break
            self.world.time.wait(1)
            rest = step._replace(fates=tuple(call.fates))
            call = self._call(rest, slot, kind, how, **facts)
        return call

    def _create(self, step: Step, slot: Slot, timeouts: tuple[int, int] | None = None) -> None:
        ttl, absolute = timeouts or _TIMEOUTS[step.choice % 3]
        anonymous, impersonated = step.choice in _ANONYMOUS, step.choice in _IMPERSONATED
        who: dict[str, Any] = {}
        if impersonated:
            who["impersonator"] = {"id": "grace", "reason": "ticket-42"}
            absolute = min(absolute, MAX_IMPERSONATION_SECONDS)
        elif not anonymous:
            who["methods"] = _METHODS[step.choice % 4]
            if step.choice == 1:
                who["authenticated_at"] = int(self.world.time.clock) - 1000
        body = {
            "user_id": None if anonymous else slot.user_id,
            "ttl_seconds": min(ttl, absolute),
            "absolute_ttl_seconds": absolute,
            "data": {"made": step.choice},
            **who,
        }
        if step.choice == 9:  # the default is the limit
            del body["absolute_ttl_seconds"]
        shown = ("methods", "authenticated_at", "impersonator")
        facts: dict[str, Any] = {"session_id": "", "secret": ""}
        facts |= {name: who.get(name) for name in shown}
        if step.choice % 4:
            facts |= {"session_id": base64url(self.random.randbytes(9)), "secret": self._secret()}
            body |= {"session_id": facts["session_id"], **_hashes(facts["secret"])}
            slot.session_id, slot.secrets, slot.version = facts["session_id"], [], 1

        def how(call: Call) -> None:
            self.world.call_api(call, "POST", "/sessions", body)
            if call.status == 201 and not facts["secret"]:
                call.session_id, _, call.secret = call.body["token"].partition(".")

        make = self._repeat if facts["secret"] else self._call
        call = make(step, slot, "create", how, **facts)
        if call.status == 201:
            if slot.session_id != call.session_id:
                slot.session_id, slot.secrets = call.session_id, []
            slot.version = call.body["version"]
            slot.secrets.append(call.secret)

    def _secret(self, family: str = "") -> str:
        """Return a new secret, which belongs to `family` if that is set."""
        secret = base64url(self.random.randbytes(21))[:27]
        return family + secret[len(family) :]

    def _verify(self, step: Step, slot: Slot, back: int = 1) -> None:
        if len(slot.secrets) < back:
            return
        secret = slot.secrets[-back]
        body: dict[str, Any] = {"token": f"{slot.session_id}.{secret}"}
        body["renew"] = step.choice % 6 > 0
        client = {"user_agent": f"{len(self.calls)}"}
        if step.choice in _UNREPORTED:
            client = {}
        else:
            body["client"] = client
        self._call(
            step,
            slot,
            "verify",
            lambda call: self.world.call_api(call, "POST", "/sessions/verify", body),
            secret=secret,
            client=client,
            renew=body["renew"],
        )

    def _former(self, step: Step, slot: Slot) -> None:
        self._verify(step, slot, 2)

    def _older(self, step: Step, slot: Slot) -> None:
        self._verify(step, slot, max(3, len(slot.secrets) - step.choice % 3 // 2))

    def _authorize(self, step: Step, slot: Slot) -> None:
        back = (1, 2, 1, 3, 1, 2, max(3, len(slot.secrets)))[step.choice % 7]
        if len(slot.secrets) >= back:
            secret = slot.secrets[-back]
            self._call(
                step,
                slot,
                "authorize",
                lambda call: self.world.authorize(call, f"{call.session_id}.{secret}"),
                secret=secret,
            )

    def _rotate(
        self, step: Step, slot: Slot, back: int = 1, kind: str = "rotate", again: int = 0
    ) -> None:
        """Rotate with the newest token (1), with the one before it (2) or without a token (0).

        With `again`, the call has the hash of the newest token (1) or of the one before it (2). The
        call that made this token may have been of the other kind.
        """
        if len(slot.secrets) < max(back, again + 1 if again else 0):
            return
        graces, own = _GRACES if back else _GRACES_BY_ID, step.choice < 9
        grace = graces[step.choice % 6]
        presented = slot.secrets[-back] if back else ""
        secret = self._secret(presented[:FAMILY]) if own else ""
        methods = _METHODS[step.choice % 4]
        if again:
            own, presented, secret = True, slot.secrets[-again - 1], slot.secrets[-again]
            if step.choice % 3:
                methods = self._shown_methods(slot, again)
        body: dict[str, Any] = {"grace_seconds": grace}
        if kind == "authenticate":
            body["methods"] = methods
        if presented:
            body["token"] = f"{slot.session_id}.{presented}"
        if own:
            hashes = _hashes(secret)
            body |= {"token_sha256": hashes["token_sha256"]} if presented else hashes

        def how(call: Call) -> None:
            path = f"/sessions/{call.session_id}/{kind}"
            self.world.call_api(call, "POST", path, body)
            if call.status == 200 and not own:
                call.secret = call.body["token"].partition(".")[2]

        facts = {
            "secret": secret,
            "presented": presented,
            "grace": grace,
            "methods": methods,
            "session_id": slot.session_id,
        }
        call = (self._repeat if own else self._call)(step, slot, kind, how, **facts)
        is_new = call.secret not in slot.secrets
        if call.status == 200 and call.session_id == slot.session_id and is_new:
            slot.secrets.append(call.secret)

    def _rotate_former(self, step: Step, slot: Slot) -> None:
        self._rotate(step, slot, 2)

    def _rotate_session(self, step: Step, slot: Slot) -> None:
        self._rotate(step, slot, 0)

    def _shown_methods(self, slot: Slot, back: int) -> list[str]:
        """Return the methods that the newest token (1) or the one before it (2) shows."""
        item = self.world.tables.session(slot.session_id)
        names = ("Methods",) if back == 1 else ("PreviousMethods", "Methods")
        stored: list[Item] = next((item[name]["L"] for name in names if name in item), [])
        return [method["S"] for method in stored]

    def _rotate_again(self, step: Step, slot: Slot) -> None:
        self._rotate(step, slot, again=1 + step.choice % 2)

    def _step_up_again(self, step: Step, slot: Slot) -> None:
        self._rotate(step, slot, 1, "authenticate", again=1 + step.choice % 2)

    def _step_up(self, step: Step, slot: Slot) -> None:
        self._rotate(step, slot, 1, "authenticate")

    def _step_up_former(self, step: Step, slot: Slot) -> None:
        self._rotate(step, slot, 2, "authenticate")

    def _step_up_session(self, step: Step, slot: Slot) -> None:
        self._rotate(step, slot, 0, "authenticate")

    def _renew(self, step: Step, slot: Slot) -> None:
        ttl = _WINDOWS[step.choice % 6]
        self._renew_to(step, slot, None if ttl is None else {"ttl_seconds": ttl})

    def _finish(self, step: Step, slot: Slot) -> None:
        ttl = _LAST_WINDOWS[step.choice % 3]
        self._renew_to(step, slot, {"ttl_seconds": ttl, "final": True})

    def _renew_to(self, step: Step, slot: Slot, body: dict[str, Any] | None) -> None:
        def how(call: Call) -> None:
            self.world.call_api(call, "POST", f"/sessions/{call.session_id}/renew", body)

        facts = body or {}
        self._call(
            step,
            slot,
            "renew",
            how,
            ttl=facts.get("ttl_seconds"),
            final=facts.get("final", False),
        )

    def _change(self, step: Step, slot: Slot, kind: str = "change") -> None:
        version = slot.version if step.choice % 2 else None
        headers = {} if version is None else {"if-match": f'"v{version}"'}
        data = {f"key{step.choice}": len(self.calls)}

        def how(call: Call) -> None:
            method = "PATCH" if kind == "change" else "PUT"
            path = f"/sessions/{call.session_id}"
            self.world.call_api(call, method, path, {"data": data}, headers=headers)

        call = self._call(step, slot, kind, how, version=version, data=data)
        if call.status == 200:
            slot.version = call.body["version"]

    def _replace(self, step: Step, slot: Slot) -> None:
        self._change(step, slot, "replace")

    def _get(self, step: Step, slot: Slot) -> None:
        def how(call: Call) -> None:
            self.world.call_api(call, "GET", f"/sessions/{call.session_id}")

        call = self._call(step, slot, "get", how)
        if call.status == 200:
            slot.version = call.body["version"]

    def _revoke(self, step: Step, slot: Slot) -> None:
        def how(call: Call) -> None:
            self.world.call_api(
                call, "DELETE", f"/sessions/{call.session_id}", query={"reason": "bye"}
            )

        self._repeat(step, slot, "revoke", how, reason="bye", session_id=slot.session_id)

    def _list(self, step: Step, slot: Slot) -> None:
        def how(call: Call) -> None:
            query = {"user_id": slot.user_id, "limit": "100"}
            self.world.call_api(call, "GET", "/sessions", query=query)

        self._call(step, slot, "list", how)

    def _sign_out(self, step: Step, slot: Slot) -> None:
        keep = slot.session_id if step.choice % 3 == 0 else None
        query = {"user_id": slot.user_id, "reason": "all"}
        if keep:
            query["except"] = keep

        def how(call: Call) -> None:
            self.world.call_api(call, "DELETE", "/sessions", query=query)

        facts: dict[str, Any] = {"reason": "all", "keep": keep}
        call = self._repeat(step, slot, "sign_out", how, **facts)
        while call.status == 200 and call.body.get("next_cursor"):
            query["cursor"] = call.body["next_cursor"]
            call = self._repeat(step, slot, "sign_out", how, **facts, first=call.facts["first"])

    def read_trails(self) -> None:
        records = self.world.tables.stream
        answer = self.world.deliver(records)
        self.model.require(
            answer == {"batchItemFailures": []}, "the audit function stores all records"
        )
        for life in self.model.lives.values():
            self._read_trail(life)

    def _read_trail(self, life: Life) -> None:
        step = Step(0, "trail", 0, "now", 0, 0, ())

        def how(call: Call) -> None:
            query = {"session_id": life.session_id, "order": "asc", "limit": "100"}
            self.world.call_api(call, "GET", "/events", query=query)
            self.model.read_trail(call, life)

        call = Call(len(self.calls), "trail", "A", step.fates, session_id=life.session_id)
        how(call)
