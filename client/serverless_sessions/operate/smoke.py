"""Checks a deployment: its TTL, the policy of its audit table, and the calls of short sessions."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from serverless_sessions import SessionNotFound, Sessions, SessionsError
from serverless_sessions._core import clock
from serverless_sessions.errors import NotAllowed, RouteNotFound, Unavailable
from serverless_sessions.operate.deployment import Deployment, OperationError, is_local
from serverless_sessions.operate.promises import MAPPING_ALARMS, TTL_ATTRIBUTE, append_only
from serverless_sessions.operate.report import say

Result = TypeVar("Result")

_USER = "smoke"
# Long enough for slow calls. If the clean-up fails, the session still expires soon.
_TTL_SECONDS = 300
# A new event source mapping starts to read after a minute or two.
_TRAIL_SECONDS = 300
# GetResourcePolicy is eventually consistent:
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetResourcePolicy.html
_POLICY_SECONDS = 30
# A mapping that was created or changed a moment ago is not enabled yet.
_MAPPING_SECONDS = 60
# After a first deployment a call can fail for up to a minute: with 404 until the stage is known
# everywhere, and with 403 or 500 until the permissions of the caller or of the function are.
SETTLING_SECONDS = 60
_PAUSE_SECONDS = 0.5


class NotYet(OperationError):
    """A check failed, but it may succeed in a moment."""


class Settling:
    """Repeats failing calls for up to `seconds`, because AWS spreads a deployment slowly.

    A call that really lacks a permission fails only after this time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = clock.monotonic() + seconds
        self._is_announced = False

    def __call__(self, call: Callable[[], Result]) -> Result:
        """Return the result of `call`. Raises its last error when the time is over."""
        while True:
            try:
                return call()
            except NotYet:
                raise
            except (NotAllowed, RouteNotFound, Unavailable, OperationError) as error:
                if clock.monotonic() >= self._end:
                    raise
                if not self._is_announced:
                    _say(f"not yet, trying again for up to {self._seconds:.0f} s: {error}")
                self._is_announced = True
            clock.sleep(_PAUSE_SECONDS)


def smoke(
    deployment: Deployment,
    sessions: Sessions,
    *,
    settling_seconds: float = SETTLING_SECONDS,
    trail_seconds: float = _TRAIL_SECONDS,
) -> None:
    """Print a line for every check that succeeds. The first failure raises `OperationError`."""
    say(
        f"{deployment.name} in {deployment.region}:",
        stack=deployment.stack,
        region=deployment.region,
    )
    dynamodb = deployment.client("dynamodb")
    has_timers = deployment.has_output("TimersFunctionArn")
    for output in ("SessionsTableName", "AuditTableName", *(["TimersTableName"] * has_timers)):
        confirm_ttl(dynamodb, deployment.output(output))
    if is_local():
        _say("the policy of the audit table: not checked, the local stack keeps no table policies")
    else:
        _confirm_policy(deployment, dynamodb)
    _within(_MAPPING_SECONDS, lambda: confirm_mapping(deployment, "session_audit"))
    if deployment.has_output("EventsFunctionArn"):
        _within(_MAPPING_SECONDS, lambda: confirm_mapping(deployment, "session_events"))
    if has_timers:
        _within(_MAPPING_SECONDS, lambda: confirm_mapping(deployment, "session_timers"))
        confirm_schedule(deployment)
    has_function_url = deployment.has_output("FunctionUrl")
    if has_function_url:
        confirm_function_url(deployment)
    settled, authorize = Settling(settling_seconds), partial(_authorize, deployment)
    session_id = check_session(sessions, authorize, settled)
    if has_function_url:
        _say("the same through the function URL:")
        with deployment.sessions("FunctionUrl") as through_url:
            check_session(through_url, authorize, settled)
    _within(trail_seconds, lambda: settled(lambda: confirm_trail(sessions, session_id)))
    say("It works.", stack=deployment.stack, works=True)


def confirm_ttl(dynamodb: Any, table: str) -> None:
    """Check the attribute of TTL. If it were wrong, items would silently stay forever."""
    ttl = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    status, attribute = ttl.get("TimeToLiveStatus"), ttl.get("AttributeName")
    state = f"TTL of {table} is {status} on {attribute}"
    if status not in ("ENABLED", "ENABLING") or attribute != TTL_ATTRIBUTE:
        raise OperationError(f"{state}; it must be on {TTL_ATTRIBUTE}.")
    _say(state)


def _confirm_policy(deployment: Deployment, dynamodb: Any) -> None:
    """Check the policy of the audit table. If it is wrong, print the command that corrects it."""
    function = deployment.client("lambda").get_function_configuration(
        FunctionName=deployment.output("AuditFunctionArn")
    )
    table, writer = deployment.output("AuditTableName"), function["Role"]
    try:
        _within(_POLICY_SECONDS, lambda: confirm_append_only(dynamodb, table, writer))
    except OperationError:
        arn = dynamodb.describe_table(TableName=table)["Table"]["TableArn"]
        policy = {"Version": "2012-10-17", "Statement": append_only(writer=writer)}
        command = ["aws", "dynamodb", "put-resource-policy", "--region", deployment.region]
        command += ["--resource-arn", arn, "--policy", json.dumps(policy)]
        _say("this command restores the policy, without any statements of your own:")
        say(f"\n{shlex.join(command)}\n", command=command)
        raise


def confirm_append_only(dynamodb: Any, table: str, writer: str) -> None:
    """Check that the table's policy denies changes. `writer` is the audit function's role.

    Other statements in the policy do no harm, because a denial takes precedence.
    """
    arn = dynamodb.describe_table(TableName=table)["Table"]["TableArn"]
    try:
        answer = dynamodb.get_resource_policy(ResourceArn=arn)
    except dynamodb.exceptions.PolicyNotFoundException as error:
        raise NotYet(f"{table} has no policy: its events can be changed.") from error
    denied = _denials(json.loads(answer["Policy"])["Statement"], arn)
    for action, condition in _denials(append_only(writer=writer), arn):
        if (action, condition) not in denied:
            raise NotYet(f"The policy of {table} does not deny {action} as it should.")
    _say(f"the policy of {table} denies every change of an event")


def _denials(statements: Any, table_arn: str) -> list[tuple[str, Any]]:
    """Return the actions on the table that are denied to everyone, with their conditions."""
    return [
        (action, _with_lists(statement.get("Condition", {})))
        for statement in _list(statements)
        if statement["Effect"] == "Deny"
        and statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        and {"*", table_arn} & set(_list(statement.get("Resource")))
        for action in _list(statement.get("Action"))
    ]


def _with_lists(condition: Any) -> Any:
    """Return a condition whose values are all lists. A policy can have a single value instead."""
    return {
        operator: {key: _list(values) for key, values in keys.items()}
        for operator, keys in condition.items()
    }


def _list(one_or_more: Any) -> list[Any]:
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def confirm_mapping(deployment: Deployment, package: str) -> None:
    """Check that a mapping sends a table's stream to the function, and that alarms watch it.

    No alarm goes off if a mapping is missing or disabled. Two of the alarms name one mapping, so
    they miss the failures of a mapping that was created by hand.
    """
    table, function = {
        "session_audit": ("SessionsTableName", "AuditFunctionArn"),
        "session_events": ("AuditTableName", "EventsFunctionArn"),
        "session_timers": ("SessionsTableName", "TimersFunctionArn"),
    }[package]
    table, function = deployment.output(table), deployment.output(function)
    described = deployment.client("dynamodb").describe_table(TableName=table)
    stream = described["Table"].get("LatestStreamArn")
    listed = deployment.client("lambda").list_event_source_mappings(FunctionName=function)
    states = {
        mapping["UUID"]: mapping["State"]
        for mapping in listed["EventSourceMappings"]
        if mapping["EventSourceArn"] == stream
    }
    if not states:
        raise OperationError(f"No event source mapping sends the stream of {table} to {package}.")
    # Lambda refuses a second mapping of the same stream to the same function.
    mapping, state = next(iter(states.items()))
    if state != "Enabled":
        kind = OperationError if state == "Disabled" else NotYet
        raise kind(f"The event source mapping {mapping} of {package} is {state}.")
    topic = deployment.output("AlarmTopicArn")
    pages = deployment.client("cloudwatch").get_paginator("describe_alarms")
    watched = {
        alarm["AlarmName"]: [dimension["Value"] for dimension in alarm.get("Dimensions", ())]
        for page in pages.paginate(ActionPrefix=topic)
        for alarm in page["MetricAlarms"]
        if topic in alarm.get("AlarmActions", ())
    }
    for name in MAPPING_ALARMS:
        alarms = [alarm for alarm in watched if alarm.endswith(f"-{package}-{name}")]
        if [watched[alarm] for alarm in alarms] != [[mapping]]:
            raise OperationError(
                f"The alarm {package}-{name} does not watch the mapping {mapping}."
            )
    _say(f"the stream of {table} goes to {package}, and alarms watch that")


def confirm_schedule(deployment: Deployment) -> None:
    """Check that an enabled rule invokes the sweeper. Without it, sessions wait for TTL."""
    events = deployment.client("events")
    answer = events.list_rule_names_by_target(TargetArn=deployment.output("SweeperFunctionArn"))
    states = {name: events.describe_rule(Name=name)["State"] for name in answer["RuleNames"]}
    if not states:
        raise OperationError("No rule of EventBridge invokes session_sweeper.")
    for rule, state in states.items():
        if state != "ENABLED":
            raise OperationError(f"The rule {rule}, which invokes session_sweeper, is {state}.")
    _say(f"session_sweeper is invoked by the rule {', '.join(states)}")


def confirm_function_url(deployment: Deployment) -> None:
    """Check that the function URL requires IAM credentials. Without them, anybody could call it."""
    function, _, alias = deployment.output("ApiFunctionArn").rpartition(":")
    config = deployment.client("lambda").get_function_url_config(
        FunctionName=function, Qualifier=alias
    )
    if config["AuthType"] != "AWS_IAM":
        raise OperationError(
            f"The function URL accepts unsigned calls: its AuthType is {config['AuthType']} instead"
            " of AWS_IAM."
        )
    _say("the function URL accepts only signed calls")


def check_session(sessions: Sessions, authorize: Callable[[str], bool], settled: Settling) -> str:
    """Create, verify, change and revoke a session, and return its id.

    `authorize` returns whether the authorizer accepts a token. If anything fails, the session is
    revoked.
    """
    try:
        issued = settled(lambda: sessions.create(_USER, ttl_seconds=_TTL_SECONDS))
        session_id, token = issued.session.session_id, issued.token
        _say(f"session {session_id} created")
        if settled(lambda: sessions.verify(token)) is None:
            raise OperationError("The API refuses the token of a live session.")
        _say("verified by its token")
        settled(lambda: sessions.change(session_id, {"smoke": True}))
        _say("changed")
        if not settled(lambda: authorize(token)):
            raise OperationError("The authorizer refuses the token of a live session.")
        _say("let in by the authorizer")
        settled(lambda: sessions.revoke(session_id, reason="smoke"))
        if settled(lambda: _exists(sessions, session_id) or sessions.verify(token) is not None):
            raise OperationError("The API returns a session that was revoked.")
        _say("revoked, and gone")
        if settled(lambda: authorize(token)):
            raise OperationError("The authorizer lets in the token of a revoked session.")
        _say("refused by the authorizer")
    except BaseException:
        _clean_up(sessions)
        raise
    return session_id


def _exists(sessions: Sessions, session_id: str) -> bool:
    try:
        sessions.get(session_id)
    except SessionNotFound:
        return False
    return True


def _clean_up(sessions: Sessions) -> None:
    """Revoke all sessions of the user. If a creation got no response, its id is not known here."""
    try:
        sessions.revoke_all(_USER, reason="smoke")
    except SessionsError:
        _say(
            f"the session of the user {_USER} is not revoked;"
            f" it expires within {_TTL_SECONDS} s if it was created"
        )


def confirm_trail(sessions: Sessions, session_id: str) -> None:
    """Check that the trail has the events that are always recorded for a revoked session."""
    types = [event.type for event in sessions.events(session_id=session_id, newest_first=False)]
    if not {"created", "revoked"} <= set(types):
        raise NotYet(
            f"The trail of {session_id} has {', '.join(types) or 'nothing'}:"
            " the log of session_audit may have the reason."
        )
    _say(f"in the trail: {', '.join(types)}")


def _authorize(deployment: Deployment, token: str) -> bool:
    """Return whether the authorizer allows an HTTP API's request with this token."""
    bearer = f"Bearer {token}"
    event = {"version": "2.0", "identitySource": [bearer], "headers": {"authorization": bearer}}
    answer = deployment.invoke(deployment.output("AuthorizerArn"), event)
    return bool(answer["isAuthorized"])


def _within(seconds: float, confirm: Callable[[], None]) -> None:
    """Repeat `confirm` until it succeeds, for at most `seconds`."""
    deadline = clock.monotonic() + seconds
    while True:
        try:
            return confirm()
        except NotYet as error:
            if clock.monotonic() > deadline:
                raise OperationError(f"{error} Waited {seconds:.0f} s for it.") from error
        clock.sleep(_PAUSE_SECONDS)


def _say(line: str) -> None:
    say(f"  {line}")
