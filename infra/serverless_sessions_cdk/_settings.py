"""The settings of a service. Each of them is checked, however the settings are made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from aws_cdk import RemovalPolicy, Token
from aws_cdk.aws_logs import RetentionDays
from msgspec import Meta

# A description completes the sentence "The setting … must be …".
_Flag = Annotated[bool, Meta(description="true or false")]
_Positive = Annotated[int, Meta(ge=1, description="a positive integer")]
# The CDK's tokens stand for texts that only CloudFormation knows, so their form is not checked.
_MAY_BE_TOKENS = {"alarm_email", "event_bus"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one service. All have defaults; docs/configuration.md explains them.

        Settings(default_ttl_seconds=3600, alarm_email="ops@example.com")

    A wrong setting raises a `ValueError` that names it.
    """

    # Session lifetimes, in seconds: the sliding window and the absolute end. The largest values of
    # these and of the grace period are those of `functions/sessions/limits.py`.
    default_ttl_seconds: _Positive = 1800
    default_absolute_ttl_seconds: _Positive = 86_400
    max_absolute_ttl_seconds: Annotated[
        int, Meta(ge=1, le=34_560_000, description="an integer from 1 to 34560000")
    ] = 34_560_000
    # The longest absolute timeout of a session in which somebody else acts as the user.
    max_impersonation_seconds: _Positive = 3600
    # The largest size of the data in one request, as compact JSON.
    max_data_bytes: _Positive = 65_536
    # `verify` renews once this part of the sliding window has passed since the last renewal.
    renewal_fraction: Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")] = 0.1
    # How long the former token still verifies once the new one has been used.
    rotation_grace_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="an integer from 1 to 3600")
    ] = 30
    # Sessions that were created before this time are dead, in epoch seconds. It is never lowered.
    not_before: Annotated[int, Meta(ge=0, description="a time in the past, in epoch seconds")] = 0
    # How many sessions a user may have, or None for no limit. A creation ends the oldest ones
    # beyond it.
    max_sessions_per_user: (
        Annotated[int, Meta(ge=1, le=100, description="an integer from 1 to 100")] | None
    ) = None
    # The name of the cookie in which the authorizer looks for a token.
    session_cookie: Annotated[
        str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z", description="the name of a cookie")
    ] = "__Host-session"
    # Whether the authorizer allows anonymous sessions. If so, "allowed" does not mean "logged in".
    authorize_anonymous: _Flag = False
    audit_retention_days: _Positive = 400
    # The types of events that are not recorded. The beginning and the end of a session are always
    # recorded, and so are changes that the API did not make.
    unrecorded_events: Annotated[
        tuple[Literal["renewed", "confirmed", "updated", "rotated"], ...],
        Meta(description="a list of renewed, confirmed, updated and rotated, or of some of them"),
    ] = ("renewed", "confirmed")
    # The name or ARN of an existing EventBridge bus that events are sent to, or None. It is in the
    # same region, because PutEvents reaches no other one. A token of the CDK must be an ARN.
    # https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
    event_bus: (
        Annotated[
            str,
            Meta(
                pattern=r"^(arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{12}:event-bus/)?"
                r"[/.\-_A-Za-z0-9]{1,256}\Z",
                description="the name or the ARN of an event bus",
            ),
        ]
        | None
    ) = None
    # Whether the events of anonymous sessions are recorded.
    record_anonymous: _Flag = False
    # Whether expired sessions are deleted, and so recorded, within two minutes of their end. If it
    # is false, they are there until TTL deletes them.
    prompt_expiry: _Flag = False
    # The client that the functions use for DynamoDB: `functions/dynamodb`, or AWS's SDK.
    dynamodb_client: Annotated[
        Literal["lean", "boto3"], Meta(description="one of lean and boto3")
    ] = "lean"
    # Whether the API's function also has a URL of its own, which bypasses API Gateway.
    function_url: _Flag = False
    # The part of the account's concurrency that the API may use, or None for no limit. 100 of it
    # must stay unreserved, which the quota of a new account does not allow.
    reserved_concurrency: _Positive | None = None
    # The e-mail address that alarms are sent to. It may be None: other subscriptions can be added
    # to the topic in the output `AlarmTopicArn`.
    alarm_email: (
        Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+\Z", description="an e-mail address")] | None
    ) = None
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    memory_mb: Annotated[
        int, Meta(ge=128, le=10_240, description="an integer from 128 to 10240")
    ] = 512
    # Not every region has SnapStart.
    snap_start: _Flag = False
    throttle_rate_per_second: _Positive = 500
    throttle_burst: _Positive = 1000
    log_retention: Annotated[
        RetentionDays, Meta(description=f"one of {', '.join(RetentionDays.__members__)}")
    ] = RetentionDays.ONE_MONTH
    # What happens to the tables and the failed events when the stack is deleted.
    removal_policy: Annotated[
        RemovalPolicy, Meta(description=f"one of {', '.join(RemovalPolicy.__members__)}")
    ] = RemovalPolicy.RETAIN
    deletion_protection: _Flag = False

    @classmethod
    def from_context(cls, values: Mapping[str, Any]) -> Settings:
        """Return settings from JSON, such as a value in the context of `cdk.json`.

            Settings.from_context(self.node.get_context("sessions"))

        Raises a `ValueError` that names the first wrong setting.
        """
        for name in values.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"The setting '{name}' is unknown.")
        # jsii passes whole numbers as floats.
        arguments: dict[str, Any] = {
            name: int(value) if type(value) is float and value.is_integer() else value
            for name, value in values.items()
        }
        return cls(**arguments)

    def __post_init__(self) -> None:
        for name, kind in _TYPES.items():
            value = getattr(self, name)
            if name in _MAY_BE_TOKENS and isinstance(value, str) and Token.is_unresolved(value):
                continue
            try:
                object.__setattr__(self, name, msgspec.convert(value, kind))
            except msgspec.ValidationError as error:
                [meta] = getattr(kind, "__metadata__", None) or get_args(kind)[0].__metadata__
                raise ValueError(
                    f"The setting '{name}' is {value!r}; it must be {meta.description}."
                ) from error
        if self.not_before > time.time():
            raise ValueError(
                f"The setting 'not_before' is {self.not_before}; it must be a time in the past, in"
                " epoch seconds."
            )
        for smaller, larger in (
            ("default_ttl_seconds", "default_absolute_ttl_seconds"),
            ("default_absolute_ttl_seconds", "max_absolute_ttl_seconds"),
        ):
            if getattr(self, smaller) > getattr(self, larger):
                raise ValueError(f"The setting '{smaller}' exceeds '{larger}'.")


_TYPES = get_type_hints(Settings, include_extras=True)
