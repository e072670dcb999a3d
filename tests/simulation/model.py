"""The promises of the service, compared with its writes and its answers.

`Model.wrote` gets every change of the table, and `Model.answered` gets every answer. Both are
checked against the contract, with the true time and with the clock of the host. `broken` lists the
broken promises.

A check uses the time of the host's clock when the DynamoDB request is sent, or a later time.
"""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

from serverless_sessions.serve.expressions import Item
from sessions.document import from_attributes
from tests.simulation.world import (
    MAX_IMPERSONATION_SECONDS,
    RETIRED_SECONDS,
    Call,
    Request,
    World,
    base64url,
    sha256,
)
from tests.support.functions import ROLE

# This many characters of a secret stay the same in a rotation for its owner.
FAMILY = 12
# A revocation may end a session this long after its expiry, so that a renewal in progress cannot
# undo it.
_JUST_NOW_SECONDS = 60
# By the clock of a host, a period may end this much earlier than by true time: a write is executed
# up to 7 s after its clock was read, clocks differ by 2 s, and the fraction of a second is cut off.
_EARLY_SECONDS = 10
_FIXED = ("SessionId", "UserId", "CreatedAt", "Impersonator")
_FORMER = {"PreviousTokenUntil", "PreviousTokenGrace"}
_TOKENS = {"TokenHash", "FamilyHash", "PreviousTokenHash", "RetiredTokenHash", "RetiredTokenUntil"}
_TOKENS |= _FORMER
_PROOFS = {"AuthenticatedAt", "Methods", "PreviousAuthenticatedAt", "PreviousMethods"}
_RENEWAL = {"ExpirationTime", "RenewedAt", "LastClient"}
_WINDOW = {"TtlSeconds", "RenewableUntil"}
# The attributes that a call of each kind may change.
_MAY_CHANGE = {
    "verify": _RENEWAL | _FORMER,
    "authorize": _FORMER,
    "renew": _RENEWAL | _WINDOW,
    "rotate": _TOKENS | _PROOFS,
    "authenticate": _TOKENS | _PROOFS,
    "change": {"Data", "Version"},
    "replace": {"Data", "Version"},
}
# An item stores the hashes of three tokens only. So a repeated rotation by the session's id may not
# be recognized.
FORMER_HASH_AGAIN = "a hash older than the retired one becomes current again"


Shown = tuple[int | None, list[str]]


class Life:
    """What the model knows about one session."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.user_id: str | None = None
        # The true times at which a creation and an explicit end were first answered.
        self.answered = self.ended = float("inf")
        self.hashes: list[str] = []
        # By the hash of a token: when and how its user proved who they are, and the kind of the
        # call that made it. A token always shows the same.
        self.shown: dict[str, Shown] = {}
        self.made: dict[str, str] = {}
        self.impersonator: dict[str, str] | None = None
        # By the hash of an older token: the periods in which its use must not count as a theft, in
        # true time. The latest period is last.
        self.protected: dict[str, list[tuple[float, float]]] = {}
        self.trail: list[dict[str, Any]] = []


class Model:
    """Checks the writes and answers of a world against the contract."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.broken: list[str] = []
        # Known effects that the service does not promise to avoid, with their number.
        self.tolerated: Counter[str] = Counter()
        self.world: World

    def life(self, session_id: str) -> Life:
        return self.lives.setdefault(session_id, Life(session_id))

    def require(self, truth: object, promise: str, call: Call | None = None) -> None:
        if not truth:
            sentence = f"{call.kind} {call.number}: {promise}" if call else promise
            self.broken.append(sentence)
            self.world.note(f"BROKEN: {sentence}")

    # Writes

    def wrote(self, old: Item, new: Item, request: Request | None) -> None:
        life, now = self.life((new or old)["SessionId"]["S"]), self.world.time.now
        if request is None:
            self.require(not new, "TTL only removes items")
            self._expect_removal(life, old, int(now))
            return
        call = request.call
        call.writes += 1
        # A host whose clock is behind may still revoke a session that by another host's clock has
        # expired a minute ago.
        is_revocation = "RevokedAt" in new and "RevokedAt" not in old
        self.require(
            now < life.ended or is_revocation,
            "a session is not written after its end was answered",
            call,
        )
        self.require(new, "no call deletes an item", call)
        if not old:
            self.require(call.kind == "create", "only a creation creates an item", call)
            self.require(
                now < life.answered, "a creation is not executed again after it was answered", call
            )
            life.user_id = _text(new, "UserId") or None
            life.hashes.append(new["TokenHash"]["B"])
            life.impersonator = call.facts["impersonator"]
            self._created(life, new, call)
            self._expect_event(life, call, "created", impersonator=life.impersonator)
            return
        self.require("RevokedAt" not in old, "a revoked session is not written", call)
        self.require(
            all(old.get(n) == new.get(n) for n in _FIXED),
            f"{', '.join(_FIXED)} do not change",
            call,
        )
        self.require(
            _text(new, "RequestId") == call.request_id, "a write stores the request id", call
        )
        self.require(
            old["RequestId"] != new["RequestId"],
            "a write that is sent twice takes effect once",
            call,
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
        allowed = set(_MAY_CHANGE.get(call.kind, ()))
        if call.facts.get("final"):
            allowed.add("AbsoluteExpirationTime")
        self.require(
            changed <= allowed,
            f"a call of this kind does not change {sorted(changed - allowed)}",
            call,
        )
        self._require_impersonation_to_be_short(new, call)
        match call.kind:
            case "rotate":
                self._rotated(life, old, new, request)
                self._expect_event(life, call, "rotated")
            case "authenticate":
                self._rotated(life, old, new, request)
                self._expect_event(life, call, "authenticated", methods=call.facts["methods"])
            case "renew":
                self._renewed(old, new, request)
                self._expect_event(life, call, "renewed", expires_at=_number(new, "ExpirationTime"))
            case "verify" | "authorize":
                self._used(life, old, new, request)
                expiry = _number(new, "ExpirationTime") if changed - _FORMER else None
                kind = "confirmed" if changed & _FORMER else "renewed"
                if kind == "renewed":
                    expiry = _number(new, "ExpirationTime")
                self._expect_event(life, call, kind, expires_at=expiry)
            case _:
                self._updated(old, new, request)
                self._expect_event(life, call, "updated")

    def _created(self, life: Life, new: Item, call: Call) -> None:
        created_at = _number(new, "CreatedAt")
        proves = life.user_id is not None and not life.impersonator
        at = call.facts["authenticated_at"] or created_at
        shown = (at, call.facts["methods"]) if proves else (None, [])
        life.shown[new["TokenHash"]["B"]] = shown
        life.made[new["TokenHash"]["B"]] = "create"
        self.require(
            _impersonator(new) == life.impersonator, "the impersonator is the caller's", call
        )
        self._require_impersonation_to_be_short(new, call)
        self._require_tokens_to_show_the_same(life, new, call)

    def _require_impersonation_to_be_short(self, new: Item, call: Call) -> None:
        last = _number(new, "CreatedAt") + MAX_IMPERSONATION_SECONDS
        self.require(
            "Impersonator" not in new or _number(new, "AbsoluteExpirationTime") <= last,
            "an impersonated session ends in time",
            call,
        )

    def _require_tokens_to_show_the_same(self, life: Life, item: Item, call: Call) -> None:
        """Require that both valid tokens show in `item` what they showed when they were made."""
        newest = _proof(item, "")
        former = _proof(item, "Previous") if "PreviousAuthenticatedAt" in item else newest
        for name, shown in (("TokenHash", newest), ("PreviousTokenHash", former)):
            if name in item:
                self.require(
                    shown == life.shown.get(item[name]["B"]), "a token always shows the same", call
                )

    def _revoked(self, life: Life, old: Item, new: Item, request: Request) -> None:
        call, reason = request.call, _text(new, "RevokedReason")
        self._expect_event(life, call, "revoked", reason=reason)
        self.require(
            _number(old, "ExpirationTime") > request.clock - _JUST_NOW_SECONDS,
            "a session that expired long ago is not revoked",
            call,
        )
        self.require(
            _number(new, "RevokedAt") == _number(new, "ExpirationTime") == request.clock,
            "a revoked session expires at the time of the revocation",
            call,
        )
        removed = {"Data", "Client", "LastClient"} | _TOKENS | _PROOFS
        self.require(not removed & new.keys(), "a revoked session keeps no data and no hash", call)
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
        """The use of an older token may only end the session after the token's protected period."""
        call = request.call
        item = self._deciding_item(call)
        verdict = _verdict(call.secret, item, request.clock)
        self.require(
            verdict == "reused", "only an older token that is not valid any more is a theft", call
        )
        assert call.last_answered
        slots = ("PreviousTokenHash", "RetiredTokenHash")
        if _hash(call.secret) not in [_text(item, name, "B") for name in slots]:
            return  # after three rotations, the service only knows the family of the token
        periods = life.protected.get(_hash(call.secret), [])
        until = [until for since, until in periods if since < call.last_answered.executed_at][-1:]
        self.require(
            not until or request.sent >= until[0] - _EARLY_SECONDS,
            "a token within its grace period is not a theft",
            call,
        )

    def _rotated(self, life: Life, old: Item, new: Item, request: Request) -> None:
        call, clock, now = request.call, request.clock, self.world.time.now
        grace, presented = call.facts["grace"], call.facts["presented"]
        former, newest = _text(old, "PreviousTokenHash", "B"), _text(old, "TokenHash", "B")
        new_hash = _text(new, "TokenHash", "B")
        replaced = (newest, former or newest)
        if presented and _hash(presented) != newest:
            self.require(
                _verdict(presented, old, clock) == "former" and _is_lost(old, clock),
                "the owner of the former token only replaces a lost token",
                call,
            )
            replaced = (former, newest)
        elif not presented and grace:
            self.require(
                not _is_former_valid(old, clock),
                "a rotation by the session's id keeps a running grace period, unless its own is 0",
                call,
            )
        stored = (_text(new, "PreviousTokenHash", "B"), _text(new, "RetiredTokenHash", "B"))
        self.require(
            stored == replaced,
            "the newest token becomes the former, and the former is retired",
            call,
        )
        self.require(
            not call.secret or new_hash == _hash(call.secret), "the new token is the caller's", call
        )
        family = presented or call.secret
        self.require(
            not family or _text(new, "FamilyHash", "B") == _hash(family[:FAMILY]),
            "the new token has the family of the presented token, or a new family",
            call,
        )
        known = (newest, former, _text(old, "RetiredTokenHash", "B"))
        if new_hash in life.hashes and new_hash not in known and not presented:
            self.tolerated[FORMER_HASH_AGAIN] += 1
        else:
            self.require(
                new_hash not in life.hashes, "a former hash never becomes current again", call
            )
        life.hashes.append(new_hash)
        call.facts["stored"] = new_hash
        if call.kind == "authenticate":
            self.require(
                "UserId" in old and "Impersonator" not in old,
                "only the user themselves can step up",
                call,
            )
            life.shown[new_hash] = clock, call.facts["methods"]
        else:
            shown = life.shown.get(_hash(presented) if presented else newest)
            life.shown[new_hash] = shown or (None, [])
        life.made[new_hash] = call.kind
        self._require_tokens_to_show_the_same(life, new, call)
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
        life.protected.setdefault(replaced[1], []).append((now, now + refused_seconds))
        life.protected.setdefault(replaced[0], []).append((now, former_until))

    def _used(self, life: Life, old: Item, new: Item, request: Request) -> None:
        """Check a write that records the use of a token.

        The first use of the newest token begins the former token's grace period. Any use may renew
        the session.
        """
        call = request.call
        verdict = _verdict(call.secret, old, request.clock)
        self.require(
            verdict in ("newest", "former"),
            "verify only writes if its token is valid at that moment",
            call,
        )
        grace = _number(old, "PreviousTokenGrace")
        is_first_use = verdict == "newest" and grace >= 0
        if is_first_use:
            self.require(
                "PreviousTokenGrace" not in new
                and _number(new, "PreviousTokenUntil") == request.clock + grace,
                "the first use of the newest token begins the full grace period",
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
        if not is_first_use or any(old.get(name) != new.get(name) for name in _RENEWAL):
            self.require(call.facts.get("renew"), "verify renews only if the call says so", call)
            self._renewed(old, new, request)

    def _renewed(self, old: Item, new: Item, request: Request) -> None:
        call, ttl = request.call, request.call.facts.get("ttl")
        renewed, before = _number(new, "RenewedAt"), _number(old, "RenewedAt")
        window = _number(new, "TtlSeconds")
        self.require(
            _number(new, "ExpirationTime")
            == min(renewed + window, _number(old, "AbsoluteExpirationTime")),
            "a renewed session lives for a full window, or until its absolute end",
            call,
        )
        self.require(renewed >= before, "a clock that is behind does not shorten a session", call)
        # If the clock of another host is ahead, a renewal with a new window keeps its `RenewedAt`.
        keeps_time = ttl is not None and renewed == before
        self.require(renewed == request.clock or keeps_time, "a renewal has the current time", call)
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
            "the absolute end never moves to a later time",
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
            "a change of the data increases the version by one",
            call,
        )
        changes, data = call.facts["data"], from_attributes(old["Data"]["M"])
        wanted = data | changes if call.kind == "change" else changes
        self.require(
            from_attributes(new["Data"]["M"]) == wanted, "the data is that of the call", call
        )
        if call.facts["version"] is not None:
            self.require(call.writes == 1, "with If-Match, a change is executed once", call)
            self.require(
                _number(old, "Version") == call.facts["version"],
                "with If-Match, only the requested version is changed",
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

    def _require_live(self, call: Call, item: Item) -> None:
        """Require that `item`, which the call returned as a live session, may be live."""
        life = self.life(_text(item, "SessionId") or call.session_id)
        self.require(call.began < life.ended, "an ended session is never live", call)
        self.require("RevokedAt" not in item, "a revoked session is never live", call)
        self.require(
            _number(item, "ExpirationTime") > call.clock_began,
            "a session that expired before the call is not live",
            call,
        )

    def _require_not_live(self, call: Call, item: Item) -> None:
        self.require(not _is_live(item, call.clock_ended), "a live session is found", call)

    def _deciding_item(self, call: Call) -> Item:
        """Return the item that decided the answer, or {} if there is none."""
        self.require(call.last_answered, "a call sends a request to DynamoDB", call)
        return next(iter(call.last_answered.items), {}) if call.last_answered else {}

    def _check_body(self, call: Call, item: Item) -> None:
        """Require that the answer shows the stored item."""
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
        life = self.life(body["session_id"])
        shown_to = _hash(call.secret) if call.secret else item["TokenHash"]["B"]
        self.require(
            (body["authenticated_at"], body["methods"]) == life.shown.get(shown_to),
            "an answer shows what the token showed when it was made",
            call,
        )
        self.require(
            body["impersonator"] == life.impersonator, "the impersonator is the stored one", call
        )

    def _check_call_by_id(self, call: Call) -> Item:
        """Check what all calls about one session have in common.

        Return the item that decided the answer.
        """
        item = self._deciding_item(call)
        if call.status == 200:
            self._require_live(call, item)
            self._check_body(call, item)
        elif call.status == 404:
            self._require_not_live(call, item)
        else:
            self.require(
                _is_live(item, call.clock_began),
                "for a session that is not live, the answer is 404",
                call,
            )
        return item

    def _get_answered(self, call: Call) -> None:
        self._check_call_by_id(call)
        self.require(call.status in (200, 404), "the status is 200 or 404", call)

    def _renew_answered(self, call: Call) -> None:
        item, final = self._check_call_by_id(call), call.facts["final"]
        if call.status == 409:
            self.require(
                final and "UserId" in item, "only a user's session cannot get a last window", call
            )
            return
        self.require(call.status in (200, 404), "the status is 200 or 404", call)
        if call.status == 200:
            self.require(
                not final
                or _number(item, "ExpirationTime") == _number(item, "AbsoluteExpirationTime"),
                "an answered write was executed",
                call,
            )
            self.require(
                _number(item, "RenewedAt") >= call.clock_began,
                "a renewed session has the time of the renewal",
                call,
            )

    def _change_answered(self, call: Call) -> None:
        item, version = self._check_call_by_id(call), call.facts["version"]
        own = _text(item, "RequestId") == call.request_id
        if call.status == 200:
            self.require(call.writes and own, "an answered write was executed", call)
            return
        self.require(call.status in (404, 412), "the status is 200, 404 or 412", call)
        if call.status == 412:
            self.require(version is not None, "without If-Match, any version is accepted", call)
            self.require(
                _number(item, "Version") != version,
                "with If-Match, the requested version is accepted",
                call,
            )
            self.require(not own, "a call recognizes its own change", call)

    _replace_answered = _change_answered

    def _rotate_answered(self, call: Call) -> None:
        item, presented = self._check_call_by_id(call), call.facts["presented"]
        if call.status == 200:
            self._check_secret(call, item)
            self.require(
                self._is_own(call, item), "a step-up and a rotation are not taken for another", call
            )
            return
        self.require(call.status in (401, 404, 409), "the status is 200, 401, 404 or 409", call)
        if call.status == 404:
            return
        assert call.last_answered
        is_own = self._is_own(call, item)
        if is_own:
            self._check_secret_is_invalid(call, item)
        slots = ("PreviousTokenHash", "RetiredTokenHash")
        # The service may have generated and stored a token before another rotation.
        own = _hash(call.secret) if call.secret else call.facts.get("stored")
        superseded = own in [_text(item, name, "B") for name in slots] or not is_own
        if call.status == 401:
            self.require(
                presented and not _is_valid(presented, item, call.clock_ended),
                "the owner of a valid token is recognized",
                call,
            )
            self.require(not superseded, "the code is token_superseded", call)
            return
        expected = "token_superseded" if superseded else "rotation_in_grace"
        if call.kind == "authenticate" and not superseded:
            if "UserId" not in item:
                expected = "anonymous"
            elif "Impersonator" in item:
                expected = "impersonated"
        self.require(call.body["code"] == expected, f"the code is {expected}", call)
        if expected != "rotation_in_grace":
            return
        if not presented:
            running = _is_former_valid(item, call.last_answered.clock) and call.facts["grace"]
            self.require(running, "rotation_in_grace is only answered during a grace period", call)
            return
        self.require(
            _verdict(presented, item, call.last_answered.clock) == "former",
            "the newest token can always be rotated",
            call,
        )
        tried_twice = len([r for r in call.requests if r.operation == "UpdateItem"]) > 1
        self.require(
            tried_twice or not _is_lost(item, call.clock_ended), "a lost token is replaced", call
        )

    _authenticate_answered = _rotate_answered

    def _is_own(self, call: Call, item: Item) -> bool:
        """Return whether the session's token with the call's hash is one that this call makes.

        A former token does not tell how it was made, but it shows the methods of a step-up. A token
        that is not valid is refused anyway.
        """
        assert call.last_answered
        verdict = _verdict(call.secret, item, call.last_answered.clock) if call.secret else ""
        if verdict not in ("newest", "former"):
            return True
        life, own = self.life(call.session_id), _hash(call.secret)
        if verdict == "newest" and (call.kind == "authenticate") != (
            life.made.get(own) == "authenticate"
        ):
            return False
        return (
            call.kind == "rotate" or life.shown.get(own, (None, None))[1] == call.facts["methods"]
        )

    def _create_answered(self, call: Call) -> None:
        item = self._deciding_item(call)
        if call.status == 201:
            life = self.life(call.body["session_id"])
            if item:  # an earlier attempt or call has created the session
                self._require_live(call, item)
                self._check_body(call, item)
                self._check_secret(call, item)
            life.answered = min(life.answered, call.ended)
            return
        self.require(call.status == 409, "the status is 201 or 409", call)
        self._check_secret_is_invalid(call, item)

    def _check_secret(self, call: Call, item: Item) -> None:
        """Require that a returned secret is valid."""
        if call.secret:
            assert call.last_answered
            self.require(
                _is_valid(call.secret, item, call.last_answered.clock),
                "a returned token is valid",
                call,
            )

    def _check_secret_is_invalid(self, call: Call, item: Item) -> None:
        """Require that the secret of a refused call that can be repeated is not valid any more."""
        valid = _is_live(item, call.clock_ended) and _is_valid(call.secret, item, call.clock_ended)
        self.require(not valid, "a repeated call is answered as the first one was", call)

    def _verify_answered(self, call: Call) -> None:
        item = self._deciding_item(call)
        if call.status == 200:
            assert call.last_answered
            self._require_live(call, item)
            verdict = _verdict(call.secret, item, call.last_answered.clock)
            self.require(
                verdict in ("newest", "former"),
                "only the newest token, and the former token in its grace period, are valid",
                call,
            )
            tried_to_write = call.last_answered.operation == "UpdateItem"
            self.require(
                verdict != "newest"
                or "PreviousTokenGrace" not in item
                or (tried_to_write or call.faults or call.reuses),
                "the first use of a token is recorded",
                call,
            )
            if call.kind == "verify":
                self._check_body(call, item)
            else:
                self.require("UserId" in item, "an anonymous session is not authorized", call)
                self._check_context(call)
            return
        self.require(call.status == 401, "the status is 200 or 401", call)
        refused = call.kind == "authorize" and "UserId" not in item
        self.require(
            refused
            or not (
                _is_live(item, call.clock_ended) and _is_valid(call.secret, item, call.clock_ended)
            ),
            "a valid token of a live session is accepted",
            call,
        )
        read = next(iter(call.requests[0].items), {})
        stolen = _is_live(read, call.clock_ended) and (
            _verdict(call.secret, read, call.clock_began) == "reused"
        )
        reused = [r for r in call.requests if b'"token_reuse"' in r.body]
        self.require(reused or not stolen, "a theft ends the session", call)
        if reused:
            self._end(call, self.life(call.session_id))

    _authorize_answered = _verify_answered

    def _check_context(self, call: Call) -> None:
        """Require that the authorizer shows what `verify` shows."""
        life, context = self.life(call.session_id), call.body
        at, methods = life.shown.get(_hash(call.secret), (None, []))
        expected = {} if at is None else {"authenticated_at": at, "methods": " ".join(methods)}
        if life.impersonator:
            expected["impersonator"] = life.impersonator["id"]
        names = ("authenticated_at", "methods", "impersonator")
        shown = {name: context[name] for name in names if name in context}
        self.require(shown == expected, "the authorizer shows what the token always shows", call)

    def _revoke_answered(self, call: Call) -> None:
        self.require(call.status == 204, "the status is 204", call)
        self._end(call, self.life(call.session_id))

    def _list_answered(self, call: Call) -> None:
        self.require(call.status == 200, "the status is 200", call)
        listed = [item["session_id"] for item in call.body["items"]]
        self.require(len(set(listed)) == len(listed), "a list contains a session once", call)
        items: dict[str, Item] = {}
        for request in call.requests:
            if request.operation == "BatchGetItem":
                items |= {_text(item, "SessionId"): item for item in request.items}
        for entry in call.body["items"]:
            item = items[entry["session_id"]]
            self._require_live(call, item)
            self.require(
                (entry["authenticated_at"], entry["methods"]) == _proof(item, "")
                and entry["impersonator"] == _impersonator(item),
                "a list shows what is stored",
                call,
            )
            self.require(
                _text(item, "UserId") == call.facts["user_id"],
                "a list only contains the user's own sessions",
                call,
            )
        for session_id, item in items.items():
            if _is_live(item, call.clock_ended):
                self.require(session_id in listed, "a list contains all live sessions", call)
        self._require_all_in_index(call, set(items))

    def _require_all_in_index(self, call: Call, read_ids: set[str]) -> None:
        """Require that the call reads all sessions in the index, unless TTL has removed them."""
        query = next(r for r in call.requests if r.operation == "Query")
        for life in self._of_user(call):
            if self.world.tables.session(life.session_id) and self.world.tables.shows(
                life.session_id, query.executed_at
            ):
                self.require(
                    life.session_id in read_ids, "the call reads all sessions in the index", call
                )

    def _sign_out_answered(self, call: Call) -> None:
        self.require(call.status == 200, "the status is 200", call)
        self.require(
            call.body["revoked"] == call.writes, "the answer has the number of ended sessions", call
        )
        if not call.body["complete"]:
            return
        last = [r for r in call.requests if r.operation == "Query"][-1]
        for life in self._of_user(call):
            # A session that was not in the index yet does not have to end.
            if life.session_id != call.facts["keep"] and self.world.tables.shows(
                life.session_id, last.executed_at
            ):
                self._end(call, life)

    def _of_user(self, call: Call) -> list[Life]:
        lives = self.lives.values()
        return [life for life in lives if life.user_id == call.facts["user_id"]]

    def _end(self, call: Call, life: Life) -> None:
        """Note that an explicit end was answered.

        It need not end a session whose creation was answered after the call began. If the call was
        repeated, the first attempt counts.
        """
        if life.answered > call.facts["first"]:
            return
        life.ended = min(life.ended, call.ended)
        item = self.world.tables.session(life.session_id)
        has_expired = _number(item, "ExpirationTime") <= call.clock_ended - _JUST_NOW_SECONDS
        self.require("RevokedAt" in item or has_expired, "an answered end is stored", call)

    # The trail

    def _expect_event(self, life: Life, call: Call, kind: str, **facts: Any) -> None:
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
                **_acting(life),
                **facts,
            }
        )

    def _expect_removal(self, life: Life, old: Item, now: int) -> None:
        expiry = _number(old, "ExpirationTime")
        idle = expiry != _number(old, "AbsoluteExpirationTime")
        event = {
            "user_id": life.user_id,
            "recorded_at": now,
            "removed_by": "ttl",
            "ttl_lag_seconds": now - expiry,
            **_acting(life),
        }
        if "RevokedAt" in old:
            life.trail.append(event | {"type": "purged", "at": now})
        else:
            cause = "idle" if idle else "absolute"
            life.trail.append(event | {"type": "expired", "at": expiry, "cause": cause})

    def read_trail(self, call: Call, life: Life) -> None:
        """Require that the trail has the expected events."""
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


def _acting(life: Life) -> dict[str, Any]:
    """Return who acts as the user, as all events but `created` say it."""
    return {"impersonator": {"id": life.impersonator["id"]} if life.impersonator else None}


def _proof(item: Item, prefix: str) -> Shown:
    """Return what an item stores for its newest token or, with a prefix, for its former one."""
    if f"{prefix}AuthenticatedAt" not in item:
        return None, []
    names = [name["S"] for name in item.get(f"{prefix}Methods", {}).get("L", [])]
    return _number(item, f"{prefix}AuthenticatedAt"), names


def _impersonator(item: Item) -> dict[str, str] | None:
    return from_attributes(item["Impersonator"]["M"]) if "Impersonator" in item else None


def _client(call: Call) -> Item | None:
    """Return the `LastClient` that a call sends, or None if it sends none."""
    reported = call.facts.get("client")
    return {"M": {name: {"S": text} for name, text in reported.items()}} if reported else None


def _is_live(item: Item, clock: int) -> bool:
    return "RevokedAt" not in item and _number(item, "ExpirationTime") > clock


def _verdict(secret: str, item: Item, clock: int) -> str:
    """Return the verdict on a token of a live session: "newest", "former", "refused" or
    "reused".
    """
    shown = _hash(secret)
    if shown == _text(item, "TokenHash", "B"):
        return "newest"
    former = shown == _text(item, "PreviousTokenHash", "B")
    if former and _is_former_valid(item, clock):
        return "former"
    known = former or shown == _text(item, "RetiredTokenHash", "B")
    if known and _number(item, "RetiredTokenUntil") > clock:
        return "refused"
    family = _hash(secret[:FAMILY]) == _text(item, "FamilyHash", "B")
    return "reused" if known or family else "refused"


def _is_valid(secret: str, item: Item, clock: int) -> bool:
    return _verdict(secret, item, clock) in ("newest", "former")


def _is_former_valid(item: Item, clock: int) -> bool:
    """Return whether the former token is valid.

    It is valid until the first use of the newest token, and in the grace period after it.
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
