"""The promises of the service, compared with what callers were told.

`Model.wrote` gets each change of the table, and `Model.answered` gets each answer. Both are checked
against the contract, with the true time and the clock of the host. `broken` lists the broken
promises.

The clock of a check is read when the DynamoDB request is sent, or later.
"""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

from serverless_sessions.serve.expressions import Item
from sessions.document import from_attributes
from tests.simulation.world import RETIRED_SECONDS, Call, Request, World, base64url, sha256
from tests.support.functions import ROLE

# This many characters of a secret stay the same in a rotation for its owner.
FAMILY = 12
# A revocation may end a session this long after its expiry, so that a renewal in progress cannot
# undo it.
_JUST_NOW_SECONDS = 60
# By the clock of a host, a period may end this much earlier than by true time: a write is executed
# up to 7 s after its clock was read, clocks differ by 2 s, and they omit the fraction of a second.
_EARLY_SECONDS = 10
_FIXED = ("SessionId", "UserId", "CreatedAt")
_FORMER = {"PreviousTokenUntil", "PreviousTokenGrace"}
_TOKENS = {"TokenHash", "FamilyHash", "PreviousTokenHash", "RetiredTokenHash", "RetiredTokenUntil"}
_TOKENS |= _FORMER
_RENEWAL = {"ExpirationTime", "RenewedAt", "LastClient"}
_WINDOW = {"TtlSeconds", "RenewableUntil"}
# The attributes that a call of each kind may change.
_MAY_CHANGE = {
    "verify": _RENEWAL | _FORMER,
    "authorize": _FORMER,
    "renew": _RENEWAL | _WINDOW,
    "rotate": _TOKENS,
    "change": {"Data", "Version"},
    "replace": {"Data", "Version"},
}
# An item stores the hashes of three tokens, so a rotation by the session's id may not be recognized
# as repeated.
FORMER_HASH_AGAIN = "a hash older than the retired one becomes current again"


class Life:
    """The model's knowledge about one session."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.user_id: str | None = None
        # The time when the creation was first answered, and the time when an explicit end was.
        self.answered = self.ended = float("inf")
        self.hashes: list[str] = []
        # Periods in which the use of this older token must not count as a theft, in true time. The
        # latest one is last.
        self.protected: dict[str, list[tuple[float, float]]] = {}
        self.trail: list[dict[str, Any]] = []


class Model:
    """Checks a world's writes and answers against the contract."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.broken: list[str] = []
        # Known effects that the service does not promise to avoid, with their number.
        self.tolerated: Counter[str] = Counter()
        self.world: World

    def life(self, session_id: str) -> Life:
        return self.lives.setdefault(session_id, Life(session_id))

    def require(self, truth: object, promise: str, of: Call | None = None) -> None:
        if not truth:
            about = f"{of.kind} {of.number}: " if of else ""
            self.broken.append(f"{about}{promise}")
            self.world.note(f"BROKEN: {about}{promise}")

    # Writes

    def wrote(self, old: Item, new: Item, request: Request | None) -> None:
        life, now = self.life((new or old)["SessionId"]["S"]), self.world.time.now
        if request is None:
            self.require(not new, "only TTL writes on its own")
            self._tell_removal(life, old, int(now))
            return
        call = request.call
        call.writes += 1
        # For a host whose clock is behind, a session may be revoked that expired a minute ago for
        # another host.
        marks = "RevokedAt" in new and "RevokedAt" not in old
        self.require(
            now < life.ended or marks, "nothing is written after an end was answered", call
        )
        self.require(new, "no call deletes", call)
        if not old:
            self.require(call.kind == "create", "only a creation creates an item", call)
            self.require(now < life.answered, "an answered creation happens once", call)
            life.user_id = _text(new, "UserId") or None
            life.hashes.append(new["TokenHash"]["B"])
            self._tell(life, call, "created")
            return
        self.require("RevokedAt" not in old, "a revoked session is never written", call)
        self.require(
            all(old.get(n) == new.get(n) for n in _FIXED), "keys and limits do not change", call
        )
        self.require(
            _text(new, "RequestId") == call.request_id, "a write stores the request id", call
        )
        self.require(
            old["RequestId"] != new["RequestId"], "a write that is sent twice happens once", call
        )
        if "RevokedAt" in new:
            self._revoked(life, old, new, request)
            return
        self.require(
            _number(new, "ExpirationTime") <= _number(new, "AbsoluteExpirationTime"),
            "no expiry is after the absolute end",
            call,
        )
        self.require(
            _number(old, "ExpirationTime") > request.clock,
            "an expired session is not written",
            call,
        )
        self.require(
            _number(new, "RenewableUntil")
            == _number(new, "AbsoluteExpirationTime") - _number(new, "TtlSeconds"),
            "RenewableUntil fits the window and the absolute end",
            call,
        )
        self.require(call.kind in _MAY_CHANGE, "a call of this kind changes no session", call)
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        changed -= {"Actor", "RequestId"}
        may = set(_MAY_CHANGE.get(call.kind, ()))
        if call.facts.get("final"):
            may.add("AbsoluteExpirationTime")
        self.require(
            changed <= may, f"a call of this kind does not change {sorted(changed - may)}", call
        )
        match call.kind:
            case "rotate":
                self._rotated(life, old, new, request)
                self._tell(life, call, "rotated")
            case "renew":
                self._renewed(old, new, request)
                self._tell(life, call, "renewed", expires_at=_number(new, "ExpirationTime"))
            case "verify" | "authorize":
                self._used(life, old, new, request)
                expiry = _number(new, "ExpirationTime") if changed - _FORMER else None
                kind = "confirmed" if changed & _FORMER else "renewed"
                if kind == "renewed":
                    expiry = _number(new, "ExpirationTime")
                self._tell(life, call, kind, expires_at=expiry)
            case _:
                self._updated(old, new, request)
                self._tell(life, call, "updated")

    def _revoked(self, life: Life, old: Item, new: Item, request: Request) -> None:
        call, reason = request.call, _text(new, "RevokedReason")
        self._tell(life, call, "revoked", reason=reason)
        self.require(
            _number(old, "ExpirationTime") > request.clock - _JUST_NOW_SECONDS,
            "a session that expired long ago is not revoked",
            call,
        )
        self.require(
            _number(new, "RevokedAt") == _number(new, "ExpirationTime") == request.clock,
            "a session is revoked as of now",
            call,
        )
        gone = {"Data", "Client", "LastClient"} | _TOKENS
        self.require(not gone & new.keys(), "a revoked session keeps no data and no hash", call)
        if call.kind in ("verify", "authorize"):
            self.require(
                reason == "token_reuse", "verify only ends a session because of a theft", call
            )
            self._stolen(life, request)
            return
        self.require(reason == call.facts.get("reason"), "the reason is the caller's", call)
        self.require(
            call.kind in ("revoke", "sign_out"), "a call of this kind ends no session", call
        )
        if call.kind == "sign_out":
            self.require(
                _text(old, "UserId") == call.facts["user_id"]
                and life.session_id != call.facts["keep"],
                "a sign-out only ends the user's other sessions",
                call,
            )

    def _stolen(self, life: Life, request: Request) -> None:
        """An older token must only end a session long enough after its rotation."""
        call = request.call
        worth = _verdict(call.secret, self._judge(call), request.clock)
        self.require(worth == "reused", "a theft is an older token after its time", call)
        assert call.judged
        periods = life.protected.get(_hash(call.secret), [])
        until = [until for since, until in periods if since < call.judged.landed][-1:]
        self.require(
            not until or request.sent >= until[0] - _EARLY_SECONDS,
            "a token within its grace period is not a theft",
            call,
        )

    def _rotated(self, life: Life, old: Item, new: Item, request: Request) -> None:
        call, clock, now = request.call, request.clock, self.world.time.now
        grace, presented = call.facts["grace"], call.facts["presented"]
        former, newest = _text(old, "PreviousTokenHash", "B"), _text(old, "TokenHash", "B")
        made = _text(new, "TokenHash", "B")
        shift = (newest, former or newest)
        if presented and _hash(presented) != newest:
            self.require(
                _verdict(presented, old, clock) == "former" and _is_lost(old, clock),
                "the owner of the former token only replaces a lost token",
                call,
            )
            shift = (former, newest)
        elif not presented and grace:
            self.require(
                not _is_graced(old, clock),
                "by the session's id, no rotation cuts a grace short unless asked to",
                call,
            )
        shifted = (_text(new, "PreviousTokenHash", "B"), _text(new, "RetiredTokenHash", "B"))
        self.require(shifted == shift, "each token takes the next place", call)
        self.require(
            not call.secret or made == _hash(call.secret), "the new token is the caller's", call
        )
        family = presented or call.secret
        self.require(
            not family or _text(new, "FamilyHash", "B") == _hash(family[:FAMILY]),
            "the family is that of the token presented, or a new one",
            call,
        )
        known = (newest, former, _text(old, "RetiredTokenHash", "B"))
        if made in life.hashes and made not in known and not presented:
            self.tolerated[FORMER_HASH_AGAIN] += 1
        else:
            self.require(made not in life.hashes, "a former hash never becomes current again", call)
        life.hashes.append(made)
        self.require(
            _number(new, "PreviousTokenUntil") == clock + grace
            and _number(new, "PreviousTokenGrace") == (grace or -1),
            "the grace period has the requested length",
            call,
        )
        refused_seconds = grace or RETIRED_SECONDS
        self.require(
            _number(new, "RetiredTokenUntil") == clock + refused_seconds,
            "during a grace period, an older token is not a theft",
            call,
        )
        former_until = float("inf") if grace else now + refused_seconds
        life.protected.setdefault(shift[1], []).append((now, now + refused_seconds))
        life.protected.setdefault(shift[0], []).append((now, former_until))

    def _used(self, life: Life, old: Item, new: Item, request: Request) -> None:
        """A token was used.

        This begins the former token's grace period, and may renew the session.
        """
        call = request.call
        worth = _verdict(call.secret, old, request.clock)
        self.require(
            worth in ("newest", "former"),
            "verify only writes what its token allows at that moment",
            call,
        )
        grace = _number(old, "PreviousTokenGrace")
        marks = worth == "newest" and grace >= 0
        if marks:
            self.require(
                "PreviousTokenGrace" not in new
                and _number(new, "PreviousTokenUntil") == request.clock + grace,
                "the whole grace begins with the first use of the newest token",
                call,
            )
            now, former = self.world.time.now, _text(old, "PreviousTokenHash", "B")
            life.protected[former].append((now, now + grace))
        else:
            self.require(
                all(old.get(name) == new.get(name) for name in _FORMER),
                "only the first use of the newest token begins a grace period",
                call,
            )
        if not marks or any(old.get(name) != new.get(name) for name in _RENEWAL):
            self.require(call.facts.get("renew"), "verify renews only if the call says so", call)
            self._renewed(old, new, request)

    def _renewed(self, old: Item, new: Item, request: Request) -> None:
        call, ttl = request.call, request.call.facts.get("ttl")
        renewed, before = _number(new, "RenewedAt"), _number(old, "RenewedAt")
        window = _number(new, "TtlSeconds")
        self.require(
            _number(new, "ExpirationTime")
            == min(renewed + window, _number(old, "AbsoluteExpirationTime")),
            "a renewal gives a full window, or all up to the absolute end",
            call,
        )
        self.require(renewed >= before, "a late clock shortens nothing", call)
        # A renewal with a new window uses the latest clock.
        later = ttl is not None and renewed == before
        self.require(renewed == request.clock or later, "a renewal has the current time", call)
        self.require(
            window == (ttl or _number(old, "TtlSeconds")), "the window is the requested one", call
        )
        final = call.facts.get("final")
        self.require(
            not final or _number(new, "AbsoluteExpirationTime") == _number(new, "ExpirationTime"),
            "a last window ends at the absolute end",
            call,
        )
        self.require(
            _number(new, "AbsoluteExpirationTime") <= _number(old, "AbsoluteExpirationTime"),
            "no absolute end moves to a later time",
            call,
        )
        self.require(not final or "UserId" not in old, "only visitors get a last window", call)
        self.require(
            new.get("LastClient") == (_client(call) or old.get("LastClient")),
            "the last client is that of the last renewal that reported one",
            call,
        )

    def _updated(self, old: Item, new: Item, request: Request) -> None:
        call = request.call
        self.require(
            _number(new, "Version") == _number(old, "Version") + 1,
            "a version counts one change of data",
            call,
        )
        changes, data = call.facts["data"], from_attributes(old["Data"]["M"])
        wanted = data | changes if call.kind == "change" else changes
        self.require(
            from_attributes(new["Data"]["M"]) == wanted, "the data is that of the call", call
        )
        if call.facts["version"] is not None:
            self.require(call.writes == 1, "with If-Match a change happens once", call)
            self.require(
                _number(old, "Version") == call.facts["version"],
                "with If-Match a change is one of that version",
                call,
            )

    # Answers

    def answered(self, call: Call) -> None:
        """Check an answer against the item that decided it, and against earlier answers."""
        self.require(call.status != 500, "no call is answered with 500", call)
        if call.status == 503:
            self.require(call.faults or call.reuses, "without a fault there is no 503", call)
            return
        getattr(self, f"_{call.kind}_answered")(call)

    def _find_alive(self, call: Call, item: Item) -> None:
        """The call found a live session in `item`."""
        life = self.life(_text(item, "SessionId") or call.session_id)
        self.require(call.began < life.ended, "an ended session is never live", call)
        self.require("RevokedAt" not in item, "a revoked session is never live", call)
        self.require(
            _number(item, "ExpirationTime") > call.clock_began,
            "a session that expired before the call is not live",
            call,
        )

    def _find_dead(self, call: Call, item: Item) -> None:
        self.require(not _lives(item, call.clock_ended), "a live session is not absent", call)

    def _judge(self, call: Call) -> Item:
        """Return the item that decided the answer, or {} if there is none."""
        self.require(call.judged, "a call sends a request to DynamoDB", call)
        return next(iter(call.judged.items), {}) if call.judged else {}

    def _check_body(self, call: Call, item: Item) -> None:
        """The answer must show the stored item."""
        body = call.body
        for name in ("version", "expires_at", "renewed_at", "ttl_seconds"):
            attribute = {
                "expires_at": "ExpirationTime",
                "renewed_at": "RenewedAt",
                "ttl_seconds": "TtlSeconds",
                "version": "Version",
            }[name]
            self.require(body[name] == _number(item, attribute), f"{name} is the stored one", call)
        self.require(
            body["data"] == from_attributes(item["Data"]["M"]), "data is the stored one", call
        )
        for name, attribute in (("client", "Client"), ("last_client", "LastClient")):
            stored = from_attributes(item.get(attribute, {"M": {}})["M"])
            self.require(body[name] == stored, f"{name} is the stored one", call)
        user_id = _text(item, "UserId") or None
        self.require(body["user_id"] == user_id, "user_id is the stored one", call)

    def _check_call_by_id(self, call: Call) -> Item:
        """Check what all calls about one session have in common.

        Return the item that decided the answer.
        """
        item = self._judge(call)
        if call.status == 200:
            self._find_alive(call, item)
            self._check_body(call, item)
        elif call.status == 404:
            self._find_dead(call, item)
        else:
            self.require(_lives(item, call.clock_began), "a dead session is a 404", call)
        return item

    def _get_answered(self, call: Call) -> None:
        self._check_call_by_id(call)
        self.require(call.status in (200, 404), "is 200 or 404", call)

    def _renew_answered(self, call: Call) -> None:
        item, final = self._check_call_by_id(call), call.facts["final"]
        if call.status == 409:
            self.require(final and "UserId" in item, "a visitor may get a last window", call)
            return
        self.require(call.status in (200, 404), "is 200 or 404", call)
        if call.status == 200:
            self.require(
                not final
                or _number(item, "ExpirationTime") == _number(item, "AbsoluteExpirationTime"),
                "an answered write was made",
                call,
            )
            self.require(
                _number(item, "RenewedAt") >= call.clock_began, "it is renewed from now on", call
            )

    def _change_answered(self, call: Call) -> None:
        item, version = self._check_call_by_id(call), call.facts["version"]
        own = _text(item, "RequestId") == call.request_id
        if call.status == 200:
            self.require(call.writes and own, "an answered write was made", call)
            return
        self.require(call.status in (404, 412), "is 200, 404 or 412", call)
        if call.status == 412:
            self.require(version is not None, "without If-Match any version is accepted", call)
            self.require(_number(item, "Version") != version, "an accepted version", call)
            self.require(not own, "a call recognizes its own change", call)

    _replace_answered = _change_answered

    def _rotate_answered(self, call: Call) -> None:
        item, presented = self._check_call_by_id(call), call.facts["presented"]
        if call.status == 200:
            self._check_secret(call, item)
            return
        self.require(call.status in (401, 404, 409), "is 200, 401, 404 or 409", call)
        if call.status == 404:
            return
        assert call.judged
        self._check_secret_is_invalid(call, item)
        slots = ("PreviousTokenHash", "RetiredTokenHash")
        superseded = _hash(call.secret) in [_text(item, name, "B") for name in slots]
        if not call.secret:  # a token that the service generated and stored before another rotation
            superseded = bool(call.writes)
        if call.status == 401:
            self.require(
                presented and not _proves(presented, item, call.clock_ended),
                "the owner of a valid token is recognized",
                call,
            )
            self.require(not superseded, "is token_superseded", call)
            return
        expected = "token_superseded" if superseded else "rotation_in_grace"
        self.require(call.body["code"] == expected, f"is {expected}", call)
        if superseded:
            return
        if not presented:
            running = _is_graced(item, call.judged.clock) and call.facts["grace"]
            self.require(running, "a grace is running", call)
            return
        self.require(
            _verdict(presented, item, call.judged.clock) == "former",
            "the newest token can always be rotated",
            call,
        )
        overtaken = len([r for r in call.requests if r.operation == "UpdateItem"]) > 1
        self.require(
            overtaken or not _is_lost(item, call.clock_ended), "a lost token is replaced", call
        )

    def _create_answered(self, call: Call) -> None:
        item = self._judge(call)
        if call.status == 201:
            life = self.life(call.body["session_id"])
            if item:  # an earlier send or call has created it
                self._find_alive(call, item)
                self._check_body(call, item)
                self._check_secret(call, item)
            life.answered = min(life.answered, call.ended)
            return
        self.require(call.status == 409, "is 201 or 409", call)
        self._check_secret_is_invalid(call, item)

    def _check_secret(self, call: Call, item: Item) -> None:
        """A secret that was returned must be valid."""
        if call.secret:
            assert call.judged
            self.require(
                _proves(call.secret, item, call.judged.clock), "a returned token is valid", call
            )

    def _check_secret_is_invalid(self, call: Call, item: Item) -> None:
        """A repeatable call may only be refused if its secret does not prove a session any more."""
        proven = _lives(item, call.clock_ended) and _proves(call.secret, item, call.clock_ended)
        self.require(not proven, "a repeated call is answered as the first one was", call)

    def _verify_answered(self, call: Call) -> None:
        item = self._judge(call)
        if call.status == 200:
            assert call.judged
            self._find_alive(call, item)
            worth = _verdict(call.secret, item, call.judged.clock)
            self.require(
                worth in ("newest", "former"),
                "only the newest token, and the former one in its time, is valid",
                call,
            )
            tried = call.judged.operation == "UpdateItem"
            self.require(
                worth != "newest"
                or "PreviousTokenGrace" not in item
                or (tried or call.faults or call.reuses),
                "the first use of a token is recorded",
                call,
            )
            if call.kind == "verify":
                self._check_body(call, item)
            else:
                self.require("UserId" in item, "an anonymous session is not authorized", call)
            return
        self.require(call.status == 401, "is 200 or 401", call)
        refused = call.kind == "authorize" and "UserId" not in item
        self.require(
            refused
            or not (
                _lives(item, call.clock_ended) and _proves(call.secret, item, call.clock_ended)
            ),
            "a token works until something ended it",
            call,
        )
        read = next(iter(call.requests[0].items), {})
        stolen = _lives(read, call.clock_ended) and (
            _verdict(call.secret, read, call.clock_began) == "reused"
        )
        reused = [r for r in call.requests if b'"token_reuse"' in r.body]
        self.require(reused or not stolen, "a theft ends the session", call)
        if reused:
            self._end(call, self.life(call.session_id))

    _authorize_answered = _verify_answered

    def _revoke_answered(self, call: Call) -> None:
        self.require(call.status == 204, "is 204", call)
        self._end(call, self.life(call.session_id))

    def _list_answered(self, call: Call) -> None:
        self.require(call.status == 200, "is 200", call)
        listed = [item["session_id"] for item in call.body["items"]]
        self.require(len(set(listed)) == len(listed), "a list names a session once", call)
        items: dict[str, Item] = {}
        for request in call.requests:
            if request.operation == "BatchGetItem":
                items |= {_text(item, "SessionId"): item for item in request.items}
        for session_id in listed:
            item = items[session_id]
            self._find_alive(call, item)
            self.require(
                _text(item, "UserId") == call.facts["user_id"],
                "a list only has the user's own sessions",
                call,
            )
        for session_id, item in items.items():
            if _lives(item, call.clock_ended):
                self.require(session_id in listed, "a list has all live sessions", call)
        self._shown(call, set(items))

    def _shown(self, call: Call, looked_at: set[str]) -> None:
        """The call must read all sessions that the index showed, unless TTL has removed them."""
        query = next(r for r in call.requests if r.operation == "Query")
        for life in self._of_user(call):
            if self.world.tables.session(life.session_id) and self.world.tables.shows(
                life.session_id, query.landed
            ):
                self.require(life.session_id in looked_at, "reads all sessions in the index", call)

    def _sign_out_answered(self, call: Call) -> None:
        self.require(call.status == 200, "is 200", call)
        self.require(
            call.body["revoked"] == call.writes, "the answer has the number of ended sessions", call
        )
        if not call.body["complete"]:
            return
        last = [r for r in call.requests if r.operation == "Query"][-1]
        for life in self._of_user(call):
            # A session that was not in the index yet does not have to end.
            if life.session_id != call.facts["keep"] and self.world.tables.shows(
                life.session_id, last.landed
            ):
                self._end(call, life)

    def _of_user(self, call: Call) -> list[Life]:
        lives = self.lives.values()
        return [life for life in lives if life.user_id == call.facts["user_id"]]

    def _end(self, call: Call, life: Life) -> None:
        """An explicit end was answered.

        It does not cover sessions whose creation was not answered.
        """
        if life.answered > call.facts["first"]:
            return
        life.ended = min(life.ended, call.ended)
        item = self.world.tables.session(life.session_id)
        over = _number(item, "ExpirationTime") <= call.clock_ended - _JUST_NOW_SECONDS
        self.require("RevokedAt" in item or over, "an end leaves its mark", call)

    # The trail

    def _tell(self, life: Life, call: Call, kind: str, **facts: Any) -> None:
        seconds = int(self.world.time.now)
        actor = f"arn:aws:iam::111122223333:user/{call.caller}"
        life.trail.append(
            {
                "type": kind,
                "user_id": life.user_id,
                "at": seconds,
                "recorded_at": seconds,
                "actor": ROLE if call.kind == "authorize" else actor,
                "request_id": call.request_id,
                **facts,
            }
        )

    def _tell_removal(self, life: Life, old: Item, now: int) -> None:
        expiry = _number(old, "ExpirationTime")
        idle = expiry != _number(old, "AbsoluteExpirationTime")
        event = {
            "user_id": life.user_id,
            "recorded_at": now,
            "removed_by": "ttl",
            "ttl_lag_seconds": now - expiry,
        }
        if "RevokedAt" in old:
            life.trail.append(event | {"type": "purged", "at": now})
        else:
            cause = "idle" if idle else "absolute"
            life.trail.append(event | {"type": "expired", "at": expiry, "cause": cause})

    def read_trail(self, call: Call, life: Life) -> None:
        """The trail must have the expected events."""
        self.require(call.status == 200, "the trail can be read", call)
        if call.status != 200:
            return
        events = call.body["items"]
        kinds = [event["type"] for event in events]
        expected = [event["type"] for event in life.trail]
        self.require(kinds == expected, f"the trail says {kinds}, not {expected}", call)
        for event, wanted in zip(events, life.trail, strict=False):
            shown = {name: event.get(name) for name in wanted}
            self.require(shown == wanted, f"the trail says {shown}, not {wanted}", call)


def _client(call: Call) -> Item | None:
    """Return the `LastClient` that a call sends, or None if it sends none."""
    reported = call.facts.get("client")
    return {"M": {name: {"S": text} for name, text in reported.items()}} if reported else None


def _lives(item: Item, clock: int) -> bool:
    return "RevokedAt" not in item and _number(item, "ExpirationTime") > clock


def _verdict(secret: str, item: Item, clock: int) -> str:
    """Return the verdict on a token of a live session: "newest", "former", "refused" or
    "reused".
    """
    shown = _hash(secret)
    if shown == _text(item, "TokenHash", "B"):
        return "newest"
    former = shown == _text(item, "PreviousTokenHash", "B")
    if former and _is_graced(item, clock):
        return "former"
    known = former or shown == _text(item, "RetiredTokenHash", "B")
    if known and _number(item, "RetiredTokenUntil") > clock:
        return "refused"
    family = _hash(secret[:FAMILY]) == _text(item, "FamilyHash", "B")
    return "reused" if known or family else "refused"


def _proves(secret: str, item: Item, clock: int) -> bool:
    return _verdict(secret, item, clock) in ("newest", "former")


def _is_graced(item: Item, clock: int) -> bool:
    """Return whether the former token is valid: the newest one is unseen, or the grace period
    runs.
    """
    return "PreviousTokenGrace" in item or _number(item, "PreviousTokenUntil") > clock


def _is_lost(item: Item, clock: int) -> bool:
    """Return whether the newest token has been unseen for longer than the grace period."""
    return "PreviousTokenGrace" in item and _number(item, "PreviousTokenUntil") <= clock


def _number(item: Item, name: str) -> int:
    return int(item[name]["N"]) if name in item else -1


def _text(item: Item, name: str, kind: str = "S") -> str:
    return str(item[name][kind]) if name in item else ""


def _hash(secret: str) -> str:
    """Return the hash as DynamoDB's protocol sends it."""
    return base64.b64encode(sha256(secret)).decode()


def base64url_sha256(text: str) -> str:
    """Return the hash as a caller sends it."""
    return base64url(sha256(text))
