"""The default settings, and the errors for wrong settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import RemovalPolicy

from serverless_sessions_cdk._settings import Settings, SettingsError
from sessions import limits
from tests.support import template
from tests.support.template import ROOT, SETTINGS, STAGES, cdk_context, context


def settings(stage: str = "dev", **overrides: Any) -> Settings:
    values = context()
    values["settings"] = {
        name: value for name, value in (values["settings"] | overrides).items() if value is not ...
    }
    return Settings.of_stage(stage, values)


def test_defaults_are_those_that_tests_rely_on() -> None:
    """If a deployer changes `cdk.json`, only this test fails."""
    assert cdk_context()["settings"] == SETTINGS
    assert cdk_context()["stages"] == STAGES


def test_tests_deploy_the_settings_that_they_rely_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployer's own settings neither change nor break what end-to-end tests see."""
    edited = cdk_context() | {"settings": {"snap_start": True}, "stages": {"staging": {}}}
    (tmp_path / "cdk.json").write_text(json.dumps({"context": edited}))
    monkeypatch.setattr(template, "ROOT", tmp_path)

    folder = template.app_folder(tmp_path / "app")

    deployed = json.loads((folder / "cdk.json").read_text())["context"]
    assert deployed == edited | {"settings": SETTINGS, "stages": STAGES}


def test_documentation_has_the_defaults() -> None:
    """The value after a semicolon is for another stage."""
    page = (ROOT / "docs/configuration.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `?(.+?)`?(?:; .*)? \|", page, re.MULTILINE))

    assert {name: rows[name] for name in SETTINGS} == {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in SETTINGS.items()
    }


def test_stages_override_the_common_settings() -> None:
    assert settings("dev").removal_policy is RemovalPolicy.DESTROY
    assert settings("prod").removal_policy is RemovalPolicy.RETAIN
    assert settings("prod").default_ttl_seconds == settings("dev").default_ttl_seconds


def test_concurrency_is_not_limited_unless_it_is_set() -> None:
    """The value null does not limit it either. The CDK omits null."""
    assert settings().reserved_concurrency is None
    assert settings(reserved_concurrency=None).reserved_concurrency is None
    assert settings(reserved_concurrency=20).reserved_concurrency == 20


def test_sessions_of_a_user_are_not_limited_unless_it_is_set() -> None:
    assert settings().max_sessions_per_user is None
    assert settings(max_sessions_per_user=None).max_sessions_per_user is None
    assert settings(max_sessions_per_user=1).max_sessions_per_user == 1


def test_events_are_sent_only_if_a_bus_is_set() -> None:
    assert settings().event_bus is None
    assert settings(event_bus=None).event_bus is None
    assert settings("local").event_bus == "default"
    for bus in ("sessions.v2", "arn:aws-cn:events:cn-north-1:111122223333:event-bus/a/b_c"):
        assert settings(event_bus=bus).event_bus == bus


def test_alarms_send_no_mail_unless_an_address_is_set() -> None:
    assert settings().alarm_email is None
    assert settings(alarm_email=None).alarm_email is None
    assert settings(alarm_email="ops@example.com").alarm_email == "ops@example.com"


def test_whole_numbers_may_come_as_floats() -> None:
    """jsii converts the numbers in `cdk.json` to floats."""
    assert settings(memory_mb=256.0).memory_mb == 256


@pytest.mark.parametrize(
    ("overrides", "culprit"),
    [
        ({"ttl": 5}, "'ttl' of stage 'dev' is unknown"),
        ({"memory_mb": ...}, "'memory_mb' of stage 'dev' is missing"),
        ({"memory_mb": "512"}, "'memory_mb' is '512'; it must be of type int"),
        ({"memory_mb": 512.5}, "'memory_mb' is 512.5"),
        ({"memory_mb": True}, "'memory_mb' is True"),
        ({"memory_mb": None}, "'memory_mb' is None"),
        ({"memory_mb": 0}, "'memory_mb' is 0; it must be positive"),
        ({"snap_start": 1}, "'snap_start' is 1; it must be of type bool"),
        ({"snap_start": "yes"}, "'snap_start' is 'yes'"),
        ({"function_url": "AWS_IAM"}, "'function_url' is 'AWS_IAM'; it must be of type bool"),
        ({"unrecorded_events": "renewed"}, "'unrecorded_events' is 'renewed'; it must be a list"),
        ({"unrecorded_events": [1]}, "'unrecorded_events' is [1]; it must be a list"),
        (
            {"unrecorded_events": ["revoked", "renewed"]},
            "'unrecorded_events' names revoked; it may name confirmed, renewed, rotated, updated",
        ),
        ({"reserved_concurrency": 0}, "'reserved_concurrency' is 0; it must be positive"),
        ({"reserved_concurrency": "9"}, "'reserved_concurrency' is '9'; it must be of type int"),
        ({"max_sessions_per_user": 0}, "'max_sessions_per_user' is 0; it must be positive"),
        ({"max_sessions_per_user": 101}, "'max_sessions_per_user' must be at most 100"),
        ({"event_bus": 7}, "'event_bus' is 7; it must be of type str"),
        ({"event_bus": ""}, "'event_bus' is ''; it must be the name or the ARN of an event bus"),
        ({"event_bus": "a b"}, "'event_bus' is 'a b'; it must be the name"),
        ({"event_bus": "arn:aws:sqs:us-east-1:111122223333:queue"}, "it must be the name"),
        ({"alarm_email": 7}, "'alarm_email' is 7; it must be of type str"),
        ({"alarm_email": ""}, "'alarm_email' must be an e-mail address"),
        ({"alarm_email": "ops"}, "'alarm_email' must be an e-mail address"),
        ({"log_retention": "FOREVER"}, "'log_retention' is 'FOREVER'; it must be one of ONE_DAY"),
        (
            {"dynamodb_client": "botocore"},
            "'dynamodb_client' is 'botocore'; it must be one of lean, boto3",
        ),
        ({"removal_policy": 7}, "'removal_policy' is 7; it must be one of"),
        ({"removal_policy": []}, "'removal_policy' is []"),
        ({"renewal_fraction": 1.5}, "'renewal_fraction' must be between 0 and 1"),
        ({"renewal_fraction": -0.1}, "'renewal_fraction' must be between 0 and 1"),
        ({"renewal_fraction": "0.1"}, "'renewal_fraction' is '0.1'; it must be of type float"),
        ({"rotation_grace_seconds": 3601}, "'rotation_grace_seconds' must be at most 3600"),
        (
            {"max_absolute_ttl_seconds": 34_560_001},
            "'max_absolute_ttl_seconds' must be at most 34560000",
        ),
        ({"not_before": -1}, "'not_before' is -1; it must be a time in the past"),
        ({"not_before": 10**10 - 1}, "'not_before' is 9999999999; it must be a time in the past"),
        ({"session_cookie": "a;b"}, "'session_cookie' must be the name of a cookie"),
        ({"session_cookie": ""}, "'session_cookie' must be the name of a cookie"),
        ({"default_ttl_seconds": 86_401}, "'default_ttl_seconds' exceeds"),
        ({"default_absolute_ttl_seconds": 34_560_001}, "'default_absolute_ttl_seconds' exceeds"),
    ],
)
def test_wrong_settings_are_named(overrides: dict[str, Any], culprit: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings(**overrides)

    assert culprit in str(error.value)


@pytest.mark.parametrize("stage", ["test", "", "settings"])
def test_unknown_stage_is_named_with_the_known_stages(stage: str) -> None:
    with pytest.raises(SettingsError, match=f"no stage '{stage}'; it has dev, prod, local"):
        settings(stage)


def test_bounds_are_those_of_the_functions() -> None:
    """A longer grace period or window would be `tampered` in the trail."""
    settings(
        rotation_grace_seconds=limits.MAX_GRACE_SECONDS,
        max_absolute_ttl_seconds=limits.MAX_LIFETIME_SECONDS,
        max_sessions_per_user=limits.MAX_SESSIONS,
    )
    for name, most in (
        ("rotation_grace_seconds", limits.MAX_GRACE_SECONDS),
        ("max_absolute_ttl_seconds", limits.MAX_LIFETIME_SECONDS),
        ("max_sessions_per_user", limits.MAX_SESSIONS),
    ):
        with pytest.raises(SettingsError, match=f"at most {most}"):
            settings("dev", **{name: most + 1})
