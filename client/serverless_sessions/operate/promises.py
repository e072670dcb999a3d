"""The settings of a deployment that would fail silently if they were wrong.

The stack has its own copy of these definitions, so that the smoke notices a mistake in either.
"""

from __future__ import annotations

from typing import Any

# DynamoDB deletes an item some time after this many epoch seconds. It reads a top-level Number
# and silently ignores anything else.
TTL_ATTRIBUTE = "ExpirationTime"
# The names of the alarms that watch one event source mapping, after the names of the stack and of
# the function.
MAPPING_ALARMS = "gave-up", "dropped"


def append_only(*, writer: str) -> list[dict[str, Any]]:
    """Return the statements of the `SessionAudit` table's policy. They deny changes of events.

    `writer` is the ARN of the only role that may add events. DynamoDB's TTL may delete them.
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
