"""Asks DynamoDB whether a deployed table really expires its sessions.

TTL on a wrong attribute, or on none, fails without a word: sessions then stay for good.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import boto3

from infra.storage import TTL_ATTRIBUTE


def confirm(outputs: dict[str, str]) -> str:
    """The sentence that all is well; exits with the opposite one if it is not."""
    name = outputs["SessionsTableName"]
    answer = boto3.client("dynamodb").describe_time_to_live(TableName=name)
    ttl = answer["TimeToLiveDescription"]
    status, attribute = ttl.get("TimeToLiveStatus"), ttl.get("AttributeName")
    if status not in ("ENABLED", "ENABLING") or attribute != TTL_ATTRIBUTE:
        sys.exit(f"TTL of {name} is {status} on {attribute}; it is to be on {TTL_ATTRIBUTE}.")
    return f"TTL of {name} is {status} on {attribute}."


if __name__ == "__main__":
    [outputs] = json.loads(Path(sys.argv[1]).read_text()).values()
    print(confirm(outputs))
