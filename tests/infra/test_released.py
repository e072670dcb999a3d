"""No release replaces what holds data, or what others know by its address."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from tests.infra import released
from tests.support.template import FULL

TABLES = {"StorageSessionsFCE686BD", "StorageSessionAuditEC7E4BEA"}
STAGE = TABLES | {"AuditFailedEvents890AE8C9", "MonitoringAlarms66989066", "ApiHttpApi4C294DC0"}
IDS = {
    "dev": STAGE,
    "prod": STAGE,
    FULL: STAGE
    | {"EventsUndelivered2E07DD0B", "ExpiryFailedEvents2417A1E6", "StorageTimersAC10766F"},
    "shop": {
        "AdminsApiHttpApi6C1B2194",
        "AdminsAuditFailedEventsD92DE6C8",
        "AdminsMonitoringAlarms0C2A5ADF",
        "AdminsStorageSessionAuditFD056214",
        "AdminsStorageSessions5C57CFB4",
        "CustomersApiHttpApiB9948253",
        "CustomersAuditFailedEvents73C86631",
        "CustomersEventsUndelivered5DF519AD",
        "CustomersExpiryFailedEventsDAEEF119",
        "CustomersMonitoringAlarms393F10D1",
        "CustomersStorageSessionAuditF3574B2B",
        "CustomersStorageSessionsFFECE8BE",
        "CustomersStorageTimers6F75A49F",
    },
}
RELEASES = [
    (folder.name, file.stem)
    for folder in sorted(released.FOLDER.iterdir())
    for file in sorted(folder.iterdir())
]


@pytest.mark.parametrize("name", IDS)
def test_logical_ids_never_change(name: str) -> None:
    """CloudFormation deletes a resource whose id is gone. A change here signs everybody out."""
    assert set(released.stateful(released.templates()[name])) == IDS[name]


def test_every_template_of_a_release_is_compared() -> None:
    assert {name for _, name in RELEASES} <= IDS.keys()
    assert {("0.1.0", "dev"), ("0.1.0", "prod"), ("0.1.0", FULL)} <= set(RELEASES)


@pytest.mark.parametrize(("version", "name"), RELEASES)
def test_update_from_a_release_replaces_nothing(version: str, name: str) -> None:
    old = json.loads((released.FOLDER / version / f"{name}.json").read_text())

    assert set(released.stateful(old)) >= TABLES
    assert list(released.replacements(old, released.templates()[name])) == []


@pytest.fixture
def changed() -> dict[str, Any]:
    """A template to plant a change in."""
    return deepcopy(released.templates()["prod"])


@pytest.mark.parametrize(
    ("logical_id", "name", "value"),
    [
        ("StorageSessionsFCE686BD", "TableName", "sessions"),
        ("StorageSessionsFCE686BD", "KeySchema", [{"AttributeName": "Id", "KeyType": "HASH"}]),
        ("StorageSessionAuditEC7E4BEA", "LocalSecondaryIndexes", [{"IndexName": "ByType"}]),
        ("AuditFailedEvents890AE8C9", "BucketName", "failed-events"),
        ("MonitoringAlarms66989066", "TopicName", "alarms"),
        ("MonitoringAlarms66989066", "FifoTopic", True),
        ("ApiHttpApi4C294DC0", "ProtocolType", "WEBSOCKET"),
    ],
)
def test_property_that_replaces_a_resource_is_noticed(
    changed: dict[str, Any], logical_id: str, name: str, value: Any
) -> None:
    old = deepcopy(changed)
    changed["Resources"][logical_id]["Properties"][name] = value

    assert f"{logical_id} is replaced, because its {name} changes." in list(
        released.replacements(old, changed)
    )


def test_changed_type_of_a_key_is_noticed(changed: dict[str, Any]) -> None:
    """The type of an attribute that is the key of an index alone may change with the index."""
    old = deepcopy(changed)
    table = changed["Resources"]["StorageSessionsFCE686BD"]["Properties"]
    for attribute in table["AttributeDefinitions"]:
        if attribute["AttributeName"] == "SessionId":
            attribute["AttributeType"] = "B"

    assert list(released.replacements(old, changed)) == [
        "StorageSessionsFCE686BD is replaced, because the type of a key changes."
    ]


@pytest.mark.parametrize("logical_id", sorted(STAGE))
def test_resource_that_goes_or_gets_another_id_is_noticed(
    changed: dict[str, Any], logical_id: str
) -> None:
    old = deepcopy(changed)
    changed["Resources"]["Renamed"] = changed["Resources"].pop(logical_id)

    assert list(released.replacements(old, changed)) == [f"{logical_id} is deleted."]


def test_change_of_a_setting_replaces_nothing(changed: dict[str, Any]) -> None:
    old = deepcopy(changed)
    table = changed["Resources"]["StorageSessionsFCE686BD"]["Properties"]
    table["TimeToLiveSpecification"] = {"Enabled": False}

    assert list(released.replacements(old, changed)) == []
