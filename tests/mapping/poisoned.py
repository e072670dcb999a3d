"""Records that no write of the API creates, and the events that the trail must have for them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from audit.event import UNKNOWN_SESSION
from tests.mapping.mapping import Record

_LONG = "é" * 20_000


class Poison(NamedTuple):
    """A record of the stream, and the session and type of its event.

    `broken_rule` is the rule of DynamoDB that the event breaks, "number" or "size". It is "" if
    DynamoDB accepts the event.
    """

    record: Record
    session_id: str
    type: str
    broken_rule: str = ""


def poison(name: str, after: Record) -> Poison:
    """Return the record of this name in `NAMES`, which follows the record `after` in the stream.

    The id of its session contains the position of the name.
    """
    place = NAMES.index(name)
    session_id = f"poison-{place:02d}".ljust(12, "_")
    old = _item(session_id, int(after.arrived))
    new: Any = old | {"RequestId": {"S": "new"}, "Version": {"N": "2"}, "Data": {"M": {}}}
    change: dict[str, Any] = {
        "ApproximateCreationDateTime": after.arrived,
        "SequenceNumber": str(int(after.number or 0) + 1),
        "Keys": {"SessionId": {"S": session_id}},
    }
    whole: dict[str, Any] = {"eventID": str(place), "eventName": "INSERT", "dynamodb": change}
    event, event_session_id, broken_rule, text = "unreadable", session_id, "", None
    match name:
        case "an unknown event name":
            whole["eventName"] = "UPSERT"
        case "no event name":
            del whole["eventName"]
        case "INSERT without its image":
            event = "tampered"
        case "MODIFY without its images":
            whole["eventName"], event = "MODIFY", "tampered"
        case "REMOVE without its image":
            whole["eventName"], event = "REMOVE", "deleted"
        case "an image that is a list":
            whole["eventName"] = "MODIFY"
            change |= {"OldImage": old, "NewImage": [new]}
        case "an attribute without its type":
            change["NewImage"] = old | {"ExpirationTime": str(int(after.arrived) + 60)}
        case "an expiration time that is a string":
            change["NewImage"], event = (
                old | {"ExpirationTime": {"S": str(after.arrived)}},
                "tampered",
            )
        case "an expiration time that is not a whole number":
            change["NewImage"], event = old | {"ExpirationTime": {"N": "1E9"}}, "tampered"
        case "a user's id that is a list":
            change["NewImage"], event = old | {"UserId": {"L": [{"S": "ada"}]}}, "tampered"
        case "a user's id that is empty":
            change["NewImage"], event = old | {"UserId": {"S": ""}}, "tampered"
        case "a user's id of 40 KB":
            change["NewImage"], event = old | {"UserId": {"S": _LONG}}, "tampered"
        case "an actor of 40 KB with a lone surrogate":
            change["NewImage"], event = old | {"Actor": {"S": "\ud800" + _LONG}}, "created"
        case "an item of 400 KB":
            names = {f"{i:04d}{_LONG[:150]}": {"N": str(i)} for i in range(1000)}
            whole["eventName"], event = "MODIFY", "updated"
            change |= {"OldImage": old, "NewImage": new | {"Data": {"M": names}}}
        case "an item with 2,000 foreign attributes":
            foreign = {f"Foreign{i}{_LONG[:90]}": {"S": "x"} for i in range(2000)}
            whole["eventName"], event = "MODIFY", "tampered"
            change |= {"OldImage": old, "NewImage": new | foreign}
        case "no key":
            del change["Keys"]
            event_session_id = UNKNOWN_SESSION
        case "a key of another type":
            change["Keys"] = {"SessionId": {"N": "7"}}
            event_session_id = UNKNOWN_SESSION
        case "a key of 3 KB":
            change["Keys"] = {"SessionId": {"S": "k" * 3000}}
            event_session_id = UNKNOWN_SESSION
        case "no time":
            del change["ApproximateCreationDateTime"]
        case "a time in words":
            change["ApproximateCreationDateTime"] = "soon"
        case "a time in nanoseconds":
            change["ApproximateCreationDateTime"] = int(after.arrived) * 10**9
        case "no sequence number":
            del change["SequenceNumber"]
        case "a sequence number in words":
            change["SequenceNumber"] = "seven"
        case "no change":
            del whole["dynamodb"]
            event_session_id = UNKNOWN_SESSION
        case "a string":
            text, event_session_id = '"record"', UNKNOWN_SESSION
        case "null":
            text, event_session_id = "null", UNKNOWN_SESSION
        case "an event for which DynamoDB rejects the whole request":
            change["NewImage"], broken_rule = old, "number"
        case "an event for which DynamoDB rejects only its statement":
            change["NewImage"], broken_rule = old, "size"
    number = change.get("SequenceNumber") if text is None else None
    record = Record(after.arrived, session_id, number, text or json.dumps(whole))
    return Poison(record, event_session_id, event, broken_rule)


NAMES = [
    "an unknown event name",
    "no event name",
    "INSERT without its image",
    "MODIFY without its images",
    "REMOVE without its image",
    "an image that is a list",
    "an attribute without its type",
    "an expiration time that is a string",
    "an expiration time that is not a whole number",
    "a user's id that is a list",
    "a user's id that is empty",
    "a user's id of 40 KB",
    "an actor of 40 KB with a lone surrogate",
    "an item of 400 KB",
    "an item with 2,000 foreign attributes",
    "no key",
    "a key of another type",
    "a key of 3 KB",
    "no time",
    "a time in words",
    "a time in nanoseconds",
    "no sequence number",
    "a sequence number in words",
    "no change",
    "a string",
    "null",
    "an event for which DynamoDB rejects the whole request",
    "an event for which DynamoDB rejects only its statement",
]


def _item(session_id: str, created_at: int) -> dict[str, Any]:
    return {
        "SessionId": {"S": session_id},
        "UserId": {"S": "ada"},
        "ExpirationTime": {"N": str(created_at + 1800)},
        "AbsoluteExpirationTime": {"N": str(created_at + 86_400)},
        "RenewableUntil": {"N": str(created_at + 84_600)},
        "TtlSeconds": {"N": "1800"},
        "CreatedAt": {"N": str(created_at)},
        "RenewedAt": {"N": str(created_at)},
        "Version": {"N": "1"},
        "Data": {"M": {"cart": {"N": "1"}}},
        "TokenHash": {"B": "A" * 43 + "="},
        "FamilyHash": {"B": "A" * 43 + "="},
        "Actor": {"S": "arn:aws:iam::111122223333:user/backend"},
        "RequestId": {"S": "old"},
    }
