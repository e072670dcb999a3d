"""What one stream record of the `Sessions` table says about a session, as an audit event."""

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
from audit.images import key, text
from sessions.dynamodb import Item, fits_key
from sessions.lifetime import expiry
from sessions.lifetime import seconds as time_in
from sessions.limits import MAX_SECONDS, WRITE_SECONDS

# What happens behind the API's back, and what can't be read.
_ALARMING = {"tampered", "deleted", "unreadable"}
_NOBODYS = {"tampered", "deleted", "expired", "purged"}
_SEQUENCE_NUMBER = re.compile("[0-9]{1,40}").fullmatch
_TTL_SERVICE = ("Service", "dynamodb.amazonaws.com")


def events_in(
    record: Mapping[str, Any], *, not_before: int, enforced_since: int = 0
) -> list[AuditEvent]:
    """The events in a stream record as Lambda delivers it: one, or two for a change of `UserId`.

    Whoever gives a session to another user must not take the change out of the trail of the first
    one, so it stands in both. `not_before` is the setting, and the API has enforced it since
    `enforced_since`; both are epoch seconds.
    """
    event = classify(record, not_before=not_before, enforced_since=enforced_since)
    former_user = _former_user(record) if event.type == "tampered" else None
    if former_user in (None, event.user_id):
        return [event]
    # Another key, and the same one whenever the record is delivered again.
    number = int(sha256(f"{event.event_id}#{former_user}".encode()).hexdigest(), 16)
    other_id = event_id(event.recorded_at, str(number)[:40])
    return [event, replace(event, event_id=other_id, user_id=former_user)]


def _former_user(record: Mapping[str, Any]) -> str | None:
    try:
        return key(record["dynamodb"]["OldImage"], "UserId")
    except Exception:
        return None


def is_reading(event: AuditEvent, record: Mapping[str, Any]) -> bool:
    """Whether `event` is what the record says under another `not_before`.

    The setting may have been raised since the record was delivered first. It decides whether a
    change of an older session is tampering, and when and why a session expired.
    """
    readings = [classify(record, not_before=setting) for setting in (0, MAX_SECONDS)]
    return any(
        event == (replace(one, at=event.at, cause=event.cause) if one.type == "expired" else one)
        for one in readings
    )


def classify(record: Mapping[str, Any], *, not_before: int, enforced_since: int = 0) -> AuditEvent:
    """The event in a stream record, for the user whose session it is then.

    Never raises: what can't be read is an `unreadable` event, since trying again would not help.
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
    """Whether the trail is to have the event of this record.

    It need not have events of the types `unrecorded`, but for a renewal that changed the session's
    window or its end. The first use of a token may come with a renewal, and is then of both types.

    Events of anonymous sessions are kept with `record_anonymous` only. That hides nobody: to take a
    session's `UserId` away, or to give it one, is a `tampered` event, and such events are always
    kept.
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


def beside(event: AuditEvent) -> list[AuditEvent]:
    """What is recorded of an event whose key holds another one: itself, and that this is so.

    Both have keys of their own, and the same ones whenever the record is delivered again.
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
    if not _SEQUENCE_NUMBER(sequence_number) or not 0 <= seconds <= MAX_SECONDS:
        raise ValueError("neither a position nor a time")
    session_id = change["Keys"]["SessionId"]["S"]
    if not fits_key(session_id):
        raise ValueError("no session's id")
    old, new = change.get("OldImage", {}), change.get("NewImage", {})
    match record["eventName"]:
        case "INSERT":
            facts = creation(new, seconds)
        case "MODIFY":
            # Before that, the API may have let sessions live that are dead by now.
            is_enforced = seconds > enforced_since + WRITE_SECONDS
            facts = modification(old, new, seconds, not_before if is_enforced else 0)
        case "REMOVE":
            facts = _removal(old, seconds, record.get("userIdentity"), not_before)
        case _:
            raise ValueError("no such change")
    # The API wrote what is none of these: nobody else's name is believed.
    written = {} if facts["type"] in _NOBODYS else new
    return AuditEvent(
        event_id=event_id(seconds, sequence_number),
        session_id=session_id,
        # Whoever takes it away must not take the event out of the user's trail.
        user_id=key(new, "UserId") or key(old, "UserId"),
        recorded_at=seconds,
        actor=text(written, "Actor"),
        request_id=text(written, "RequestId"),
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
    ended = expiry(old, not_before)
    if ended is None or expires_at > seconds:
        return {"type": "deleted"}
    return {"type": "expired"} | ended | removal


def unreadable(record: Any) -> AuditEvent:
    """Files a record under whatever can still be made out; the same each time it is delivered.

    The session id and the time of record are the only parts of the record that it repeats.
    """
    change = record.get("dynamodb") if isinstance(record, Mapping) else None
    change = change if isinstance(change, Mapping) else {}
    try:
        seconds = max(0, min(int(change["ApproximateCreationDateTime"]), MAX_SECONDS))
    except Exception:
        seconds = 0
    digest = sha256(json.dumps(record, sort_keys=True, default=repr).encode()).hexdigest()
    try:
        found = change["Keys"]["SessionId"]["S"]
        session_id = found if fits_key(found) else UNKNOWN_SESSION
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
