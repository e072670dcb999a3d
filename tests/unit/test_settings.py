"""The default settings, and the errors for wrong settings."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import RemovalPolicy, Token

from deploy.stages import settings_of
from serverless_sessions_cdk import Settings
from sessions import limits
from tests.support import template
from tests.support.template import ROOT, SETTINGS, STAGES, cdk_context, context


def settings(stage: str = "dev", **overrides: Any) -> Settings:
    values = context()
    values["settings"] |= overrides
    return settings_of(stage, values)


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


def test_impersonated_sessions_last_an_hour_at_most_unless_it_is_set() -> None:
    """A `cdk.json` of an earlier version does not have the setting."""
    assert settings(max_impersonation_seconds=600).max_impersonation_seconds == 600


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


WRONG: list[tuple[str, Any, str]] = [
    ("memory_mb", "512", "an integer from 128 to 10240"),
    ("memory_mb", 512.5, "an integer from 128 to 10240"),
    ("memory_mb", True, "an integer from 128 to 10240"),
    ("memory_mb", None, "an integer from 128 to 10240"),
    ("memory_mb", 127, "an integer from 128 to 10240"),
    ("memory_mb", 10_241, "an integer from 128 to 10240"),
    ("default_ttl_seconds", 0, "a positive integer"),
    ("throttle_burst", -1, "a positive integer"),
    ("snap_start", 1, "true or false"),
    ("snap_start", "yes", "true or false"),
    ("function_url", "AWS_IAM", "true or false"),
    ("unrecorded_events", "renewed", "a list of renewed, confirmed, updated and rotated"),
    ("unrecorded_events", [1], "a list of renewed, confirmed, updated and rotated"),
    ("unrecorded_events", ["revoked", "renewed"], "a list of renewed, confirmed, updated"),
    ("reserved_concurrency", 0, "a positive integer"),
    ("reserved_concurrency", "9", "a positive integer"),
    ("max_impersonation_seconds", 0, "a positive integer"),
    ("max_sessions_per_user", 0, "an integer from 1 to 100"),
    ("max_sessions_per_user", 101, "an integer from 1 to 100"),
    ("event_bus", 7, "the name or the ARN of an event bus"),
    ("event_bus", "", "the name or the ARN of an event bus"),
    ("event_bus", "a b", "the name or the ARN of an event bus"),
    ("event_bus", "default\n", "the name or the ARN of an event bus"),
    ("event_bus", "arn:aws:sqs:us-east-1:111122223333:queue", "the name or the ARN of"),
    ("alarm_email", 7, "an e-mail address"),
    ("alarm_email", "", "an e-mail address"),
    ("alarm_email", "ops", "an e-mail address"),
    ("log_retention", "FOREVER", "one of ONE_DAY"),
    ("dynamodb_client", "botocore", "one of lean and boto3"),
    ("removal_policy", 7, "one of DESTROY, RETAIN"),
    ("removal_policy", [], "one of DESTROY, RETAIN"),
    ("renewal_fraction", 1.5, "a number from 0 to 1"),
    ("renewal_fraction", -0.1, "a number from 0 to 1"),
    ("renewal_fraction", "0.1", "a number from 0 to 1"),
    ("rotation_grace_seconds", 3601, "an integer from 1 to 3600"),
    ("max_absolute_ttl_seconds", 34_560_001, "an integer from 1 to 34560000"),
    ("not_before", -1, "a time in the past, in epoch seconds"),
    ("not_before", 10**10 - 1, "a time in the past, in epoch seconds"),
    ("session_cookie", "a;b", "the name of a cookie"),
    ("session_cookie", "", "the name of a cookie"),
]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_wrong_setting_is_named_in_a_sentence(name: str, value: Any, expected: str) -> None:
    """The sentence is the same for settings in `cdk.json` and in Python."""
    sentence = re.escape(f"The setting '{name}' is {value!r}; it must be {expected}") + ".*[.]$"
    with pytest.raises(ValueError, match=f"^{sentence}"):
        settings(**{name: value})
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("values", "larger"),
    [
        ({"default_ttl_seconds": 86_401}, "default_absolute_ttl_seconds"),
        ({"default_absolute_ttl_seconds": 34_560_001}, "max_absolute_ttl_seconds"),
    ],
)
def test_timeout_that_exceeds_a_longer_one_is_named(values: Any, larger: str) -> None:
    [smaller] = values
    for make in (settings, Settings):
        with pytest.raises(ValueError, match=f"^The setting '{smaller}' exceeds '{larger}'.$"):
            make(**values)


def test_unknown_setting_is_named() -> None:
    with pytest.raises(ValueError, match=r"^The setting 'ttl' is unknown\.$"):
        settings(ttl=5)
    with pytest.raises(TypeError, match="'ttl'"):
        Settings(ttl=5)  # type: ignore[call-arg]


def test_each_setting_describes_what_it_must_be() -> None:
    """An object is the right value of no setting."""
    for field in fields(Settings):
        wrong: dict[str, Any] = {field.name: object()}
        with pytest.raises(ValueError, match=f"'{field.name}' is <object .*; it must be [a-z -]+"):
            Settings(**wrong)


def test_defaults_are_those_of_the_checkout_but_keep_the_data() -> None:
    """The tables of a construct stay when somebody deletes it from their app by mistake."""
    defaults = Settings.from_context(SETTINGS | {"removal_policy": "RETAIN"})

    assert defaults == Settings()
    assert SETTINGS.keys() == {
        field.name for field in fields(Settings) if getattr(defaults, field.name) is not None
    }


def test_text_that_only_cloudformation_knows_is_not_checked() -> None:
    """The bus may be a resource of the same stack, and the address a parameter."""
    bus, email = (Token.as_string({"Ref": name}) for name in ("Bus", "Email"))

    assert Settings(event_bus=bus, alarm_email=email).event_bus == bus
    with pytest.raises(ValueError, match="'session_cookie'"):
        Settings(session_cookie=bus)


@pytest.mark.parametrize("stage", ["test", "", "settings"])
def test_unknown_stage_is_named_with_the_known_stages(stage: str) -> None:
    with pytest.raises(ValueError, match=f"no stage '{stage}'; it has dev, prod, local"):
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
        with pytest.raises(ValueError, match=f"from 1 to {most}"):
            settings("dev", **{name: most + 1})
