"""What must be so in a deployment and would fail silently otherwise.

The stack sets it, and says it a second time: a mistake on one of the two sides is noticed.
"""

from __future__ import annotations

from typing import Any

# DynamoDB deletes an item some time after this many epoch seconds. It reads a top-level Number
# and silently ignores anything else.
TTL_ATTRIBUTE = "ExpirationTime"


def append_only(*, writer: str) -> list[dict[str, Any]]:
    """The statements of the `SessionAudit` table's policy: events can be added and read only.

    `writer` is the ARN of the only role that may add events. AWS's own TTL may delete them.
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
        "Resource": "*",
        "Condition": {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}, **condition},
    }
