"""Settings that fail silently if they are wrong. `sessions smoke` reads them from a deployment."""

from __future__ import annotations

from typing import Any

# The attribute with the expiry of an item, in epoch seconds. DynamoDB deletes the item some time
# after it. The attribute must be a top-level Number: DynamoDB silently ignores anything else.
TTL_ATTRIBUTE = "ExpirationTime"


def append_only(*, writer: str) -> list[dict[str, Any]]:
    """Return the policy of the `SessionAudit` table, which denies every change of an event.

    It applies to administrators as well, but not to AWS's own TTL. `writer` is the ARN of the only
    role that may add events.
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
        "Resource": "*",  # the table's own ARN would be a circular reference
        "Condition": {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}, **condition},
    }
