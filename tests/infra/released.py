"""Keeps what a release deployed: python -m tests.infra.released 1.2.3

The files in `released/` have the resources of a release that must never be replaced, because they
hold data or because others know their addresses. A release adds a folder and changes none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.infra import foreign
from tests.support.template import FULL, document

FOLDER = Path(__file__).with_name("released")
# The properties whose change replaces a resource: "Update requires: Replacement" in
# https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
STATEFUL = {
    "AWS::ApiGatewayV2::Api": {"ProtocolType"},
    "AWS::DynamoDB::GlobalTable": {
        "GlobalTableSourceArn",
        "KeySchema",
        "LocalSecondaryIndexes",
        "TableName",
    },
    "AWS::S3::Bucket": {"BucketName", "BucketNamePrefix", "BucketNamespace"},
    "AWS::SNS::Topic": {"FifoTopic", "TopicName"},
}


def stateful(template: dict[str, Any]) -> dict[str, Any]:
    """Return the resources that must never be replaced, by their logical ids."""
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if resource["Type"] in STATEFUL
    }


def replacements(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each resource of `old` that an update to `new` deletes or replaces."""
    for name, resource in stateful(old).items():
        kind = resource["Type"]
        updated = new["Resources"].get(name)
        if updated is None or updated["Type"] != kind:
            yield f"{name} is deleted."
            continue
        before, after = resource.get("Properties", {}), updated.get("Properties", {})
        for name_of_property in sorted(STATEFUL[kind]):
            if before.get(name_of_property) != after.get(name_of_property):
                yield f"{name} is replaced, because its {name_of_property} changes."
        if _key_types(before) != _key_types(after):
            yield f"{name} is replaced, because the type of a key changes."


def _key_types(table: dict[str, Any]) -> dict[str, str]:
    keys = {key["AttributeName"] for key in table.get("KeySchema", ())}
    return {
        attribute["AttributeName"]: attribute["AttributeType"]
        for attribute in table.get("AttributeDefinitions", ())
        if attribute["AttributeName"] in keys
    }


def templates() -> dict[str, dict[str, Any]]:
    """Return the templates that a release keeps."""
    return {stage: document(stage) for stage in ("dev", "prod", FULL)} | {"shop": foreign.shop()}


def main() -> None:
    folder = FOLDER / sys.argv[1]
    folder.mkdir()
    for name, template in templates().items():
        text = json.dumps({"Resources": stateful(template)}, indent=1)
        (folder / f"{name}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
