"""What fails silently if it is wrong: the stack sets it, and `sessions smoke` reads it back."""

from __future__ import annotations

from typing import Any

# DynamoDB deletes an item some time after this many epoch seconds. It reads a top-level Number
# and silently ignores anything else.
TTL_ATTRIBUTE = "ExpirationTime"


def append_only(*, writer: str) -> list[dict[str, Any]]:
    """The `SessionAudit` table's policy: no one, administrators too, may change or delete an event.

    AWS's own TTL may. `writer` is the ARN of the only role that may add events.
    """
    changes = "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"
    return [
        _deny(*changes, "PartiQLUpdate", "PartiQLDelete"),
        _deny("PartiQLInsert", ArnNotEquals={"aws:PrincipalArn": writer}),
    ]


def _deny(*actions: str, **condition: dict[str, str]) -> dict[str, Any]:
    return {
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": [f"dynamodb:{action}" for action in actions],
        "Resource": "*",  # the table's own ARN here would be a circle
        "Condition": {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}, **condition},
    }
