"""Turns stream records of the `Sessions` table into audit events."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from audit.changes import creation, modification
from audit.event import UNKNOWN_SESSION, AuditEvent, event_id
from audit.images import impersonator, key, text
from sessions.dynamodb import Item, fits_key
from sessions.lifetime import expiry
from sessions.lifetime import seconds as time_in
from sessions.limits import MAX_SECONDS, WRITE_SECONDS

# Changes that no call of the API makes, and records that can't be read.
_ALARMING = {"tampered", "deleted", "unreadable"}
# The API did not make these changes, so `Actor` and `RequestId` say nothing about them.
_WITHOUT_ACTOR = {"tampered", "deleted", "expired", "purged"}
_is_sequence_number = re.compile("[0-9]{1,40}").fullmatch
_TTL_SERVICE = ("Service", "dynamodb.amazonaws.com")


def events_in(
    record: Mapping[str, Any], *, not_before: int, enforced_since: int = 0
) -> list[AuditEvent]:
    """Return the events of a stream record: one, or two if the change gave the session to another
    user.

    Such a change must not disappear from the first user's trail, so it is recorded for both users.
    `not_before` is the setting, and the API has enforced it since `enforced_since`. Both times are
    in epoch seconds.
    """
    event = classify(record, not_before=not_before, enforced_since=enforced_since)
    former_user = _former_user(record) if event.type == "tampered" else None
    if former_user in (None, event.user_id):
        return [event]
    # The second event needs a key of its own. It is the same each time the record is delivered.
    number = int(sha256(f"{event.event_id}#{former_user}".encode()).hexdigest(), 16)
    other_id = event_id(event.recorded_at, str(number)[:40])
    return [event, replace(event, event_id=other_id, user_id=former_user)]


def _former_user(record: Mapping[str, Any]) -> str | None:
    try:
        return key(record["dynamodb"]["OldImage"], "UserId")
    except Exception:
        return None


def is_from_record(event: AuditEvent, record: Mapping[str, Any]) -> bool:
    """Whether `event` was made from this record, possibly under another `not_before`.

    The setting may have been raised since the first delivery of the record. It decides whether a
    change of an older session counts as tampering, and when and why a session expired.
    """
    for setting in (0, MAX_SECONDS):
        candidate = classify(record, not_before=setting)
        if candidate.type == "expired":
            candidate = replace(candidate, at=event.at, cause=event.cause)
        if candidate == event:
            return True
    return False


def classify(record: Mapping[str, Any], *, not_before: int, enforced_since: int = 0) -> AuditEvent:
    """Return the event of a stream record, for the user who has the session after the change.

    Never raises: a record that can't be read becomes an `unreadable` event, because a retry would
    not help.
    """
    try:
        return _read(record, not_before, enforced_since)
    except Exception:
        return unreadable(record)


def is_kept(
    event: AuditEvent,
    record: Mapping[str, Any],
    unrecorded: Collection[str],
    *,
    record_anonymous: bool,
) -> bool:
    """Whether the event of this record belongs in the trail.

    Events of the types `unrecorded` are left out, except for a renewal that changed the session's
    window or its end. A first use of a token that comes with a renewal counts as both types.

    Events of anonymous sessions are kept only with `record_anonymous`. Nobody can use this to hide
    a change: adding or removing a `UserId` is a `tampered` event, which is always kept.
    """
    if event.type in _ALARMING:
        return True
    if event.user_id is None and not record_anonymous and _is_anonymous(record):
        return False
    types = {event.type}
    if event.type == "confirmed" and event.expires_at is not UNSET:
        types.add("renewed")
    return not types <= set(unrecorded) or (event.type == "renewed" and event.changed is not UNSET)


def _is_anonymous(record: Mapping[str, Any]) -> bool:
    """An unreadable `UserId` does not make the session anonymous."""
    change = record["dynamodb"]
    images = [change[name] for name in ("OldImage", "NewImage") if change.get(name)]
    return bool(images) and not any("UserId" in image for image in images)


def replacements(event: AuditEvent) -> list[AuditEvent]:
    """Return the events to record if another event has the key of this one.

    These are the event itself and a `tampered` event that reports it. Both have new keys, which are
    the same whenever the record is delivered again.
    """
    text = msgspec.json.encode(event)
    keys = [
        event_id(event.recorded_at, str(int(sha256(text + suffix).hexdigest(), 16))[:40])
        for suffix in (b"", b"#tampered")
    ]
    report = AuditEvent(
        event_id=keys[1],
        type="tampered",
        session_id=event.session_id,
        user_id=event.user_id,
        at=event.recorded_at,
        recorded_at=event.recorded_at,
        changed=["EventId"],
    )
    return [replace(event, event_id=keys[0]), report]


def _read(record: Mapping[str, Any], not_before: int, enforced_since: int) -> AuditEvent:
    change = record["dynamodb"]
    seconds = int(change["ApproximateCreationDateTime"])
    sequence_number = change["SequenceNumber"]
    if not _is_sequence_number(sequence_number) or not 0 <= seconds <= MAX_SECONDS:
        raise ValueError("invalid sequence number or time")
    session_id = change["Keys"]["SessionId"]["S"]
    if not fits_key(session_id):
        raise ValueError("invalid session id")
    old, new = change.get("OldImage", {}), change.get("NewImage", {})
    match record["eventName"]:
        case "INSERT":
            facts = creation(new, seconds)
        case "MODIFY":
            # Before it was enforced, the API may have accepted sessions older than `not_before`.
            is_enforced = seconds > enforced_since + WRITE_SECONDS
            facts = modification(old, new, seconds, not_before if is_enforced else 0)
        case "REMOVE":
            facts = _removal(old, seconds, record.get("userIdentity"), not_before)
        case _:
            raise ValueError("unknown event name")
    # Only the API's own writes have a reliable `Actor` and `RequestId`.
    trusted = {} if facts["type"] in _WITHOUT_ACTOR else new
    # As with the `UserId`, a change that removes the impersonator still names them.
    if agent := impersonator(new) or impersonator(old):
        facts["impersonator"] = agent if facts["type"] == "created" else {"id": agent["id"]}
    return AuditEvent(
        event_id=event_id(seconds, sequence_number),
        session_id=session_id,
        # A change that removes the `UserId` must not disappear from the user's trail.
        user_id=key(new, "UserId") or key(old, "UserId"),
        recorded_at=seconds,
        actor=text(trusted, "Actor"),
        request_id=text(trusted, "RequestId"),
        **{"at": seconds, **facts},
    )


def _removal(old: Item, seconds: int, identity: Any, not_before: int) -> dict[str, Any]:
    service = isinstance(identity, Mapping) and (identity.get("type"), identity.get("principalId"))
    by_ttl = service == _TTL_SERVICE
    removal: dict[str, Any] = {"removed_by": "ttl" if by_ttl else "unknown"}
    expires_at = time_in(old, "ExpirationTime")
    if by_ttl and expires_at >= 0:
        removal["ttl_lag_seconds"] = seconds - expires_at
    if "RevokedAt" in old:
        return {"type": "purged"} | removal
    end = expiry(old, not_before)
    if end is None or expires_at > seconds:
        return {"type": "deleted"}
    return {"type": "expired"} | end | removal


def unreadable(record: Any) -> AuditEvent:
    """Return an event for a record that can't be read.

    It has the session id and the time of record if these can be read, and no other part of the
    record. It is the same whenever the record is delivered again.
    """
    change = record.get("dynamodb") if isinstance(record, Mapping) else None
    change = change if isinstance(change, Mapping) else {}
    try:
        seconds = max(0, min(int(change["ApproximateCreationDateTime"]), MAX_SECONDS))
    except Exception:
        seconds = 0
    digest = sha256(json.dumps(record, sort_keys=True, default=repr).encode()).hexdigest()
    try:
        key = change["Keys"]["SessionId"]["S"]
        session_id = key if fits_key(key) else UNKNOWN_SESSION
    except Exception:
        session_id = UNKNOWN_SESSION
    return AuditEvent(
        event_id=event_id(seconds, str(int(digest, 16))[:40]),
        type="unreadable",
        session_id=session_id,
        user_id=None,
        at=seconds,
        recorded_at=seconds,
    )
