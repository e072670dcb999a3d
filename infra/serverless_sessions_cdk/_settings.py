"""The settings of a deployment, read from the context of `cdk.json`."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_type_hints

from aws_cdk import RemovalPolicy
from aws_cdk.aws_logs import RetentionDays

# The largest values that settings may have. They are the same as in `functions/sessions/limits.py`.
_MAXIMUMS = {
    "rotation_grace_seconds": 3600,
    "max_absolute_ttl_seconds": 400 * 24 * 3600,
    "max_sessions_per_user": 100,
}
# The types of events that need not be recorded. The beginning and the end of a session are always
# recorded, and so are changes that the API did not make.
_OPTIONAL_EVENTS = {"confirmed", "renewed", "rotated", "updated"}
# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
_EVENT_BUS = re.compile(
    r"(arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{12}:event-bus/)?[/.\-_A-Za-z0-9]{1,256}"
)


class SettingsError(Exception):
    """A setting in `cdk.json` is unknown, missing or wrong; the message names it."""


class DynamoDBClient(Enum):
    """The client that the functions use for DynamoDB."""

    lean = "functions/dynamodb"
    boto3 = "AWS's SDK"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one stage: `settings` of the context, overridden by `stages.<stage>`."""

    stage: str
    # Session lifetimes, in seconds: the sliding window and the absolute end.
    default_ttl_seconds: int
    default_absolute_ttl_seconds: int
    max_absolute_ttl_seconds: int
    # The largest size of the data in one request, as compact JSON.
    max_data_bytes: int
    # `verify` renews once this part of the sliding window has passed since the last renewal.
    renewal_fraction: float
    # How long the former token still verifies once the new one has been used.
    rotation_grace_seconds: int
    # Sessions that were created before this time are dead, in epoch seconds. It is never lowered.
    not_before: int
    # How many sessions a user may have, or None for no limit. A creation ends the oldest ones
    # beyond it.
    max_sessions_per_user: int | None
    # The name of the cookie in which the authorizer looks for a token.
    session_cookie: str
    # Whether the authorizer allows anonymous sessions. If so, "allowed" does not mean "logged in".
    authorize_anonymous: bool
    audit_retention_days: int
    # The types of events that are not recorded, out of `renewed`, `confirmed`, `updated` and
    # `rotated`.
    unrecorded_events: tuple[str, ...]
    # The name or ARN of an existing EventBridge bus that events are sent to, or None. It is in the
    # same region, because PutEvents reaches no other one.
    event_bus: str | None
    # Whether the events of anonymous sessions are recorded.
    record_anonymous: bool
    # Whether expired sessions are deleted, and so recorded, within two minutes of their end. If it
    # is false, they are there until TTL deletes them.
    prompt_expiry: bool
    dynamodb_client: DynamoDBClient
    # Whether the API's function also has a URL of its own, which bypasses API Gateway.
    function_url: bool
    # The part of the account's concurrency that the API may use, or None for no limit. 100 of it
    # must stay unreserved, which the quota of a new account does not allow.
    reserved_concurrency: int | None
    # The e-mail address that alarms are sent to. It may be None: other subscriptions can be added
    # to the topic in the output `AlarmTopicArn`.
    alarm_email: str | None
    memory_mb: int
    # Not every region has SnapStart.
    snap_start: bool
    throttle_rate_per_second: int
    throttle_burst: int
    log_retention: RetentionDays
    # What happens to the tables and the failed events when the stack is deleted.
    removal_policy: RemovalPolicy
    deletion_protection: bool

    @classmethod
    def of_stage(cls, stage: str, context: Mapping[str, Any]) -> Settings:
        """Return the settings of `stage`. Raises `SettingsError`, which names the wrong setting."""
        stages = context.get("stages", {})
        if stage not in stages:
            names = ", ".join(stages) or "none"
            raise SettingsError(f"cdk.json has no stage '{stage}'; it has {names}.")
        values = {**context.get("settings", {}), **stages[stage]}
        types = {name: kind for name, kind in get_type_hints(cls).items() if name != "stage"}
        for name in values.keys() - types.keys():
            raise SettingsError(f"The setting '{name}' of stage '{stage}' is unknown.")
        # The CDK leaves out settings that are null in `cdk.json`.
        optional = {name for name, kind in types.items() if NoneType in get_args(kind)}
        for name in types.keys() - values.keys() - optional:
            raise SettingsError(f"The setting '{name}' of stage '{stage}' is missing.")
        return cls(
            stage=stage, **{name: _read(name, values.get(name), types[name]) for name in types}
        )

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < 1 and field.name != "not_before":
                raise SettingsError(f"The setting '{field.name}' is {value}; it must be positive.")
        if not 0 <= self.renewal_fraction <= 1:
            raise SettingsError("The setting 'renewal_fraction' must be between 0 and 1.")
        if not 0 <= self.not_before <= time.time():
            raise SettingsError(
                f"The setting 'not_before' is {self.not_before}; it must be a time in the past,"
                " in epoch seconds."
            )
        if wrong := set(self.unrecorded_events) - _OPTIONAL_EVENTS:
            raise SettingsError(
                f"The setting 'unrecorded_events' names {', '.join(sorted(wrong))}; it may name"
                f" {', '.join(sorted(_OPTIONAL_EVENTS))}."
            )
        if self.event_bus is not None and not _EVENT_BUS.fullmatch(self.event_bus):
            raise SettingsError(
                f"The setting 'event_bus' is {self.event_bus!r}; it must be the name or the ARN of"
                " an event bus."
            )
        for name, maximum in _MAXIMUMS.items():
            if (getattr(self, name) or 0) > maximum:
                raise SettingsError(f"The setting '{name}' must be at most {maximum}.")
        if not re.fullmatch("[!#$%&'*+.^_`|~0-9A-Za-z-]+", self.session_cookie):
            raise SettingsError("The setting 'session_cookie' must be the name of a cookie.")
        if self.alarm_email is not None and not re.fullmatch(r"[^@\s]+@[^@\s]+", self.alarm_email):
            raise SettingsError("The setting 'alarm_email' must be an e-mail address.")
        for smaller, larger in (
            ("default_ttl_seconds", "default_absolute_ttl_seconds"),
            ("default_absolute_ttl_seconds", "max_absolute_ttl_seconds"),
        ):
            if getattr(self, smaller) > getattr(self, larger):
                raise SettingsError(f"The setting '{smaller}' exceeds '{larger}'.")


def _read(name: str, value: Any, kind: Any) -> Any:
    if kind == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            return tuple(value)
        raise SettingsError(f"The setting '{name}' is {value!r}; it must be a list of strings.")
    if NoneType in get_args(kind):
        [present] = set(get_args(kind)) - {NoneType}
        return None if value is None else _read(name, value, present)
    if issubclass(kind, Enum):
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
        raise SettingsError(
            f"The setting '{name}' is {value!r}; it must be one of {', '.join(kind.__members__)}."
        )
    # jsii passes whole numbers as floats. `isinstance` would accept a bool as an int.
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise SettingsError(
            f"The setting '{name}' is {value!r}; it must be of type {kind.__name__}."
        )
    return value
