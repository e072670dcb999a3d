"""What one stream record of the `Sessions` table says about a session, as an audit event."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from sessions.dynamodb import Item, fits_key

MAX_NAMES = 100
MAX_SECONDS = 10**10 - 1  # what the ten digits of an event id hold
# An event must fit into an item, whatever the stream brings.
_MAX_CHARACTERS = 512
_TTL_SERVICE = ("Service", "dynamodb.amazonaws.com")

# Files the records that do not even tell whose they are; has the shape of a session id.
UNKNOWN_SESSION = "unreadable____________"


class AuditEvent(Struct, frozen=True):
    """One immutable line of a session's history; encoding one gives the API's JSON.

    `recorded_at` is the time of the stream record, `at` when it took effect, in epoch seconds.
    """

    event_id: str
    type: str
    session_id: str
    user_id: str | None
    at: int
    recorded_at: int
    actor: str | None = None
    request_id: str | None = None
    reason: str | UnsetType = UNSET
    cause: str | UnsetType = UNSET
    removed_by: str | UnsetType = UNSET
    changed: list[str] | UnsetType = UNSET
    changed_count: int | UnsetType = UNSET
    expires_at: int | UnsetType = UNSET
    ttl_lag_seconds: int | UnsetType = UNSET


def event_id(seconds: int, sequence_number: str) -> str:
    """Sorts by time of record, then by the stream's order; the same for a repeated record."""
    return f"{seconds:010d}#{sequence_number.zfill(40)}"


def classify(record: Mapping[str, Any], *, keep_renewals: bool) -> AuditEvent | None:
    """The event in a stream record as Lambda delivers it, or None if it is not one to keep.

    Never raises: what can't be read is an `unreadable` event, since trying again would not help.
    """
    try:
        event = _read(record)
    except Exception:
        return _unreadable(record)
    return None if event and event.type == "renewed" and not keep_renewals else event


def _read(record: Mapping[str, Any]) -> AuditEvent | None:
    change = record["dynamodb"]
    seconds = int(change["ApproximateCreationDateTime"])
    sequence_number = change["SequenceNumber"]
    if not re.fullmatch("[0-9]{1,40}", sequence_number) or not 0 <= seconds <= MAX_SECONDS:
        raise ValueError("neither a position nor a time")
    session_id = change["Keys"]["SessionId"]["S"]
    if not fits_key(session_id):
        raise ValueError("no session's id")
    old, new = change.get("OldImage", {}), change.get("NewImage", {})
    facts: dict[str, Any] | None
    match record["eventName"]:
        case "INSERT":
            facts = {"type": "created", "expires_at": _number(new, "ExpirationTime")}
            written = new
        case "MODIFY":
            facts = _modification(old, new)
            if facts is None:
                return None
            written = {} if facts["type"] == "tampered" else new
        case "REMOVE":
            facts, written = _removal(old, seconds, record.get("userIdentity")), {}
        case _:
            raise ValueError("no such change")
    return AuditEvent(
        event_id=event_id(seconds, sequence_number),
        session_id=session_id,
        user_id=_user_id(new or old),
        recorded_at=seconds,
        actor=_text(written, "Actor"),
        request_id=_text(written, "RequestId"),
        **{"at": seconds} | {name: fact for name, fact in facts.items() if fact is not None},
    )


def _modification(old: Item, new: Item) -> dict[str, Any] | None:
    def differs(name: str) -> bool:
        return old.get(name) != new.get(name)

    if not differs("RequestId"):
        return {"type": "tampered"} | _names_of_changes(old, new)
    if "RevokedAt" in new and "RevokedAt" not in old:
        return {"type": "revoked", "reason": _text(new, "RevokedReason")}
    if differs("TokenHash"):
        return {"type": "rotated"}
    if differs("Version"):
        return {"type": "updated"} | _names_of_changes(_map(old, "Data"), _map(new, "Data"))
    if differs("ExpirationTime"):
        return {"type": "renewed", "expires_at": _number(new, "ExpirationTime")}
    return None


def _removal(old: Item, seconds: int, identity: Any) -> dict[str, Any]:
    service = isinstance(identity, Mapping) and (identity.get("type"), identity.get("principalId"))
    by_ttl = service == _TTL_SERVICE
    removal: dict[str, Any] = {"removed_by": "ttl" if by_ttl else "unknown"}
    expiry = _number(old, "ExpirationTime")
    if by_ttl and expiry is not None:
        removal["ttl_lag_seconds"] = seconds - expiry
    if "RevokedAt" in old:
        return {"type": "purged"} | removal
    if expiry is None or expiry > seconds:
        return {"type": "deleted"}
    absolute = expiry == _number(old, "AbsoluteExpirationTime")
    cause = "absolute" if absolute else "idle"
    return {"type": "expired", "at": expiry, "cause": cause} | removal


def _unreadable(record: Any) -> AuditEvent:
    """Files a record under whatever can still be made out; the same each time it is delivered."""
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


def _names_of_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The names whose values differ, in order, never the values."""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    changes: dict[str, Any] = {"changed": [_fit(name) for name in names[:MAX_NAMES]]}
    if len(names) > MAX_NAMES:
        changes["changed_count"] = len(names)
    return changes


def _text(image: Item, name: str) -> str | None:
    text = image.get(name, {}).get("S")
    return _fit(text) if text and isinstance(text, str) else None


def _fit(text: str) -> str:
    return text[:_MAX_CHARACTERS].encode(errors="replace").decode()


def _number(image: Item, name: str) -> int | None:
    """A whole number, or None: a string or a fraction is not what the service writes."""
    text = image.get(name, {}).get("N", "")
    return int(text) if text.removeprefix("-").isdigit() else None


def _map(image: Item, name: str) -> dict[str, Any]:
    value = image.get(name, {}).get("M")
    return value if isinstance(value, dict) else {}


def _user_id(image: Item) -> str | None:
    user_id = image.get("UserId", {}).get("S")
    return user_id if fits_key(user_id) else None
