"""Changes of sessions, and the events that the trail must have for them.

The store's own operations change the items, so the records are those that DynamoDB would write. The
expected event of each record is derived from the operation, not from the record.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from heapq import heappop, heappush
from random import Random
from typing import Any

import pytest

import clock
from dynamodb import client as lean
from dynamodb.connection import Answer
from serverless_sessions.serve.tables import Tables
from sessions.errors import InvalidToken
from sessions.rotation import Rotation
from sessions.session import Limits, Session
from sessions.store import SessionStore
from sessions.table import Writer
from sessions.token import FAMILY_CHARACTERS, Token
from tests.mapping.mapping import Record

START = 1_795_435_200
RETENTION_SECONDS = 400 * 86_400
_LIMITS = Limits(
    default_ttl_seconds=1800,
    default_absolute_ttl_seconds=86_400,
    max_absolute_ttl_seconds=86_400,
    max_impersonation_seconds=3600,
    max_data_bytes=65_536,
)
_WINDOWS = (300, 900, 1800, 3600)
_ACTORS = ("backend", "operator")
# In the middle of the stream, the sequence numbers get one more digit, so they must not be compared
# as strings.
_MIDDLE = 10**21
_STEP = 7919

Item = dict[str, Any]
Key = tuple[str, str]


class Life:
    """A session, and all of its tokens."""

    def __init__(
        self, newest: Token, user_id: str | None, impersonator: dict[str, str] | None
    ) -> None:
        self.session_id = newest.session_id
        self.user_id = user_id
        self.impersonator = impersonator
        self.newest = newest
        self.former: Token | None = None
        self.retired: Token | None = None


class Changes:
    """The ordered `records` of a stream, and the `expected` items of the trail by their keys.

    `numbers` contains the sequence numbers of the records from which these items are made, by the
    same keys. `kinds` counts the operations by their names.
    """

    def __init__(self, count: int, sessions: int, pace: float, seed: int) -> None:
        """`pace` is the average time from one change to the next, in seconds."""
        self.expected: dict[Key, Item] = {}
        self.numbers: dict[Key, str] = {}
        self.kinds: dict[str, int] = {}
        self._random = Random(seed)
        self._count = count
        self._now = START
        self._tables = Tables(lambda: self._now, lambda: 0.0, lambda *_: None)
        self._store = SessionStore(
            lean.Client(_Direct(self._tables), region="us-east-1"),
            "sessions",
            not_before=0,
        )
        self._calls = 0
        self._lives: list[Life] = []
        # Sessions that have ended or are abandoned, with the time at which they are logged out or
        # removed.
        self._abandoned: list[tuple[int, int, Life]] = []
        self.sessions = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clock, "time", lambda: self._now)
            while len(self._tables.stream) < count:
                self._now += self._random.choice((0, 0, round(pace), round(2 * pace)))
                if self._abandoned and self._abandoned[0][0] <= self._now:
                    self._end(heappop(self._abandoned)[2])
                elif not self._lives or self.sessions * count < len(self._tables.stream) * sessions:
                    self._begin()
                else:
                    self._act_on(self._random.choice(self._lives))
        self.ended = self._now
        self.records = [self._record(i) for i in range(count)]

    def _act_on(self, life: Life) -> None:
        item = self._tables.session(life.session_id)
        if int(item["ExpirationTime"]["N"]) <= self._now:
            self._abandon(life, item)
        else:
            self._random.choice(_ACTIONS)(self, life, item)

    def _abandon(self, life: Life, item: Item) -> None:
        """Abandon a session.

        After its expiry it is logged out, or it is removed by TTL or by somebody else.
        """
        delay = self._random.choice((30, 100, 900, 4000))
        self._lives.remove(life)
        due = int(item["ExpirationTime"]["N"]) + delay
        heappush(self._abandoned, (due, len(self._tables.stream), life))

    def _end(self, life: Life) -> None:
        item = self._tables.session(life.session_id)
        if "RevokedAt" in item or self._now - int(item["ExpirationTime"]["N"]) >= 60:
            self._remove(life, item)
        else:
            self._revoke(life, item)

    def _begin(self) -> None:
        self.sessions += 1
        anonymous = self.sessions % 10 == 0
        token = Token(self._text(12), self._text(27))
        agent = None
        if self.sessions % 10 == 5:
            agent = {"id": f"agent-{self.sessions % 3}", "reason": "ticket-42"}
        life = Life(token, None if anonymous else f"user-{self.sessions % 97}", agent)
        session = Session.start(
            life.user_id,
            session_id=life.session_id,
            data={"made": self._calls},
            client={"ip": "203.0.113.7"},
            ttl_seconds=self._random.choice(_WINDOWS),
            absolute_ttl_seconds=3600 if agent else self._random.choice((3600, 7200, 86_400)),
            impersonator=agent,
            limits=_LIMITS,
            now=self._now,
        )
        by = self._call()
        self._store.create(session, token.hashes, by=by)
        self._lives.append(life)
        self._expect(life, "created", by, ExpiresAt=session.expires_at)

    def _change(self, life: Life, item: Item) -> None:
        by = self._call()
        names = self._random.sample(("cart", "theme", "é", "a.b"), 2)
        gone = [name for name in item["Data"]["M"] if name == "made"]
        changes: dict[str, Any] = dict.fromkeys(gone) | dict.fromkeys(names, self._calls)
        self._store.change(life.session_id, changes, versions=None, by=by)
        self._expect(life, "updated", by, Changed=sorted(changes))

    def _replace(self, life: Life, item: Item) -> None:
        by = self._call()
        data = {"cart": self._calls, "new": [1, {"deep": True}]}
        names = item["Data"]["M"].keys() | data.keys()
        if item["Data"]["M"].get("new"):
            names -= {"new"}
        self._store.replace(life.session_id, data, versions=None, by=by)
        self._expect(life, "updated", by, Changed=sorted(names))

    def _renew(self, life: Life, _: Item) -> None:
        self._store.renew(life.session_id, by=self._call())
        self._count_one("renewed, not kept")

    def _renew_with_a_window(self, life: Life, item: Item) -> None:
        by = self._call()
        windows = [window for window in _WINDOWS if window != int(item["TtlSeconds"]["N"])]
        renewed = self._store.renew(life.session_id, ttl_seconds=windows[0], by=by)
        self._expect(life, "renewed", by, ExpiresAt=renewed.expires_at, Changed=["TtlSeconds"])

    def _verify(self, life: Life, item: Item) -> None:
        before = len(self._tables.stream)
        self._store.verify(
            life.newest,
            renew=True,
            renewal_fraction=0.1,
            client={"ip": "203.0.113.8"},
            by=self._call(),
        )
        if len(self._tables.stream) > before:
            first_use = "PreviousTokenGrace" in item
            self._count_one("confirmed, not kept" if first_use else "renewed, not kept")

    def _rotate(self, life: Life, item: Item) -> None:
        """Rotate with the newest token, with the former token or without a token."""
        grace = self._random.choice((0, 30, 30))
        unseen = "PreviousTokenGrace" in item
        in_grace = unseen or _seconds(item, "PreviousTokenUntil") > self._now
        is_lost = unseen and _seconds(item, "PreviousTokenUntil") <= self._now
        presented = self._random.choice((life.newest, life.newest, life.former, None))
        if presented is None and in_grace and grace:
            return
        if presented is not None and presented is not life.newest and not is_lost:
            return
        family = presented.secret[:FAMILY_CHARACTERS] if presented else self._text(12)
        token = Token(life.session_id, family + self._text(15))
        by = self._call()
        methods = None
        if life.user_id and not life.impersonator:
            methods = self._random.choice((None, ["otp"], ["pwd", "hwk"]))
        rotation = Rotation(token.hashes, presented, grace, retired_seconds=30, methods=methods)
        self._store.rotate(life.session_id, rotation, by=by)
        if presented and presented is life.former:
            life.retired, life.newest = life.newest, token
        else:
            life.retired, life.former, life.newest = life.former, life.newest, token
        if methods:
            self._expect(life, "authenticated", by, Methods=methods)
        else:
            self._expect(life, "rotated", by)

    def _use_an_old_token(self, life: Life, item: Item) -> None:
        """Use a former or a retired token that is not valid any more."""
        unseen = "PreviousTokenGrace" in item
        is_valid = unseen or _seconds(item, "PreviousTokenUntil") > self._now
        old = self._random.choice((life.retired, None if is_valid else life.former))
        if old is None or _seconds(item, "RetiredTokenUntil") > self._now:
            return
        by = self._call()
        with suppress(InvalidToken):
            self._store.verify(old, renew=True, renewal_fraction=0.1, client={}, by=by)
        self._expect(life, "revoked", by, Reason="token_reuse")
        self._abandon(life, self._tables.session(life.session_id))

    def _revoke(self, life: Life, item: Item) -> None:
        by = self._call()
        reason = self._random.choice(("logout", "admin"))
        self._store.revoke(life.session_id, reason=reason, by=by)
        expires_at = int(item["ExpirationTime"]["N"])
        late = {"ExpiredAt": expires_at} if expires_at <= self._now else {}
        self._expect(life, "revoked", by, Reason=reason, **late)
        if life not in self._lives:
            self._lives.append(life)
        self._abandon(life, self._tables.session(life.session_id))

    def _tamper(self, life: Life, item: Item) -> None:
        """Write without the API, as somebody who may know the format of a request id."""
        forged = self._random.choice(
            (
                {
                    "Role": {"S": f"admin-{self._calls}"},
                    "RequestId": {"S": f"forged-{self._calls}"},
                },
                {"Note": {"N": str(self._calls)}},
                {"Data": {"M": {"role": {"N": str(self._calls)}}}, "Actor": {"S": "mallory"}},
            )
        )
        self._calls += 1
        changed = [name for name, value in forged.items() if item.get(name) != value]
        request = {
            "TableName": "sessions",
            "Item": item | forged,
            "ConditionExpression": "attribute_exists(SessionId)",
        }
        self._tables.answer("PutItem", json.dumps(request).encode())
        if changed:
            self._expect(life, "tampered", None, Changed=sorted(changed))

    def _delete(self, life: Life, _: Item) -> None:
        self._lives.remove(life)
        self._delete_item(life, by_ttl=False)
        self._expect(life, "deleted", None)

    def _remove(self, life: Life, item: Item) -> None:
        """Remove an item, usually by TTL, otherwise by somebody else."""
        by_ttl = self._random.random() < 0.9
        self._delete_item(life, by_ttl=by_ttl)
        expires_at = int(item["ExpirationTime"]["N"])
        facts: dict[str, Any] = {"RemovedBy": "ttl" if by_ttl else "unknown"}
        if by_ttl:
            facts["TtlLagSeconds"] = self._now - expires_at
        if "RevokedAt" in item:
            self._expect(life, "purged", None, **facts)
            return
        cause = "absolute" if item["AbsoluteExpirationTime"] == item["ExpirationTime"] else "idle"
        self._expect(life, "expired", None, At=expires_at, Cause=cause, **facts)

    def _delete_item(self, life: Life, *, by_ttl: bool) -> None:
        self._tables.remove_expired(life.session_id)
        if not by_ttl:
            # Only the record of a removal by TTL has a `userIdentity`.
            del self._tables.stream[-1]["userIdentity"]

    def _expect(self, life: Life, kind: str, by: Writer | None, **facts: Any) -> None:
        """Expect this event for the last change, if the trail records it."""
        if life.user_id is None and kind not in ("tampered", "deleted"):
            self._count_one("anonymous, not kept")
            return
        self._count_one(kind)
        place = len(self._tables.stream) - 1
        if place >= self._count:
            return
        number = _sequence_number(place, self._count)
        item = {
            "SessionId": life.session_id,
            "EventId": f"{self._now:010d}#{number:0>40}",
            **({"UserId": life.user_id} if life.user_id else {}),
            "Type": kind,
            "At": self._now,
            "RecordedAt": self._now,
            "ExpirationTime": self._now + RETENTION_SECONDS,
            **({"Actor": by.actor, "RequestId": by.request_id} if by else {}),
            **_acting(life, kind),
            **facts,
        }
        key = life.session_id, str(item["EventId"])
        self.expected[key] = {name: _attribute(value) for name, value in item.items()}
        self.numbers[key] = number

    def _count_one(self, kind: str) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def _record(self, place: int) -> Record:
        record = self._tables.stream[place]
        change = record["dynamodb"]
        number = _sequence_number(place, self._count)
        stream_record = {
            "eventID": f"{place:032x}",
            "eventName": record["eventName"],
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "us-east-1",
            "dynamodb": change | {"SequenceNumber": number, "SizeBytes": 300},
            "eventSourceARN": "arn:aws:dynamodb:us-east-1:111122223333:table/Sessions/stream/1",
        }
        if identity := record.get("userIdentity"):
            stream_record["userIdentity"] = identity
        key = change["Keys"]["SessionId"]["S"]
        return Record(change["ApproximateCreationDateTime"], key, number, json.dumps(stream_record))

    def _call(self) -> Writer:
        self._calls += 1
        actor = f"arn:aws:iam::111122223333:user/{self._random.choice(_ACTORS)}"
        return Writer(actor=actor, request_id=f"request-{self._calls}")

    def _text(self, size: int) -> str:
        """Return `size` random base64url characters."""
        return base64.urlsafe_b64encode(self._random.randbytes(size)).decode()[:size]


_ACTIONS: tuple[Callable[[Changes, Life, Item], None], ...] = (
    *(Changes._change,) * 13,
    *(Changes._replace,) * 4,
    *(Changes._renew,) * 3,
    *(Changes._renew_with_a_window,) * 3,
    *(Changes._verify,) * 3,
    *(Changes._rotate,) * 7,
    *(Changes._tamper,) * 3,
    *(Changes._abandon,) * 2,
    Changes._use_an_old_token,
    Changes._revoke,
    Changes._delete,
)


class _Direct:
    """A transport of the lean client to tables in memory."""

    host = "dynamodb.us-east-1.amazonaws.com"

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        status, answer = self._tables.answer(headers["x-amz-target"].partition(".")[2], body)
        return Answer(status, None, answer)

    def close(self) -> None:
        """Do nothing, because there are no connections."""


@cache
def changes(count: int, *, sessions: int, pace: float = 3.0, seed: int = 1) -> Changes:
    """Return changes. They are the same for the same arguments, so they are only made once."""
    return Changes(count, sessions, pace, seed)


def _sequence_number(place: int, count: int) -> str:
    return str(_MIDDLE + (place - count // 2) * _STEP)


def _seconds(item: Item, name: str) -> int:
    return int(item[name]["N"]) if name in item else 0


def _acting(life: Life, kind: str) -> dict[str, Any]:
    """Return who acts as the user. Only the first event of a session has the reason."""
    if life.impersonator is None:
        return {}
    names = ("id", "reason") if kind == "created" else ("id",)
    return {"Impersonator": {name: life.impersonator[name] for name in names}}


def _attribute(value: Any) -> Any:
    if isinstance(value, list):
        return {"L": [{"S": text} for text in value]}
    if isinstance(value, dict):
        return {"M": {name: {"S": text} for name, text in value.items()}}
    return {"N": str(value)} if isinstance(value, int) else {"S": value}
