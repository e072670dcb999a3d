"""Checks a deployment: its TTL, the policy of its audit table, and the calls of a short session."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from serverless_sessions import SessionNotFound, Sessions, SessionsError
from serverless_sessions._core import clock
from serverless_sessions.operate.deployment import Deployment, OperationError
from serverless_sessions.operate.promises import TTL_ATTRIBUTE, append_only

_USER = "smoke"
# Long enough for slow calls. If the clean-up fails, the session still expires soon.
_TTL_SECONDS = 300
# A new event source mapping starts to read after a minute or two.
_TRAIL_SECONDS = 300
# GetResourcePolicy is eventually consistent:
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetResourcePolicy.html
_POLICY_SECONDS = 30


class NotYet(OperationError):
    """A check failed, but it may succeed in a moment."""


def smoke(
    deployment: Deployment, sessions: Sessions, *, trail_seconds: float = _TRAIL_SECONDS
) -> None:
    """Print a line for every check that succeeds. The first failure raises `OperationError`."""
    print(f"{deployment.stack} in {deployment.region}:")
    dynamodb = deployment.client("dynamodb")
    for output in ("SessionsTableName", "AuditTableName"):
        confirm_ttl(dynamodb, deployment.output(output))
    if deployment.stage == "local":
        _say("the policy of the audit table: not checked, the local stack keeps no table policies")
    else:
        function = deployment.client("lambda").get_function_configuration(
            FunctionName=deployment.output("AuditFunctionArn")
        )
        table = deployment.output("AuditTableName")
        _within(_POLICY_SECONDS, lambda: confirm_append_only(dynamodb, table, function["Role"]))
    session_id = check_session(sessions, lambda token: _authorize(deployment, token))
    _within(trail_seconds, lambda: confirm_trail(sessions, session_id))
    print("It works.")


def confirm_ttl(dynamodb: Any, table: str) -> None:
    """Check the attribute of TTL. If it were wrong, items would silently stay forever."""
    ttl = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    status, attribute = ttl.get("TimeToLiveStatus"), ttl.get("AttributeName")
    state = f"TTL of {table} is {status} on {attribute}"
    if status not in ("ENABLED", "ENABLING") or attribute != TTL_ATTRIBUTE:
        raise OperationError(f"{state}; it must be on {TTL_ATTRIBUTE}.")
    _say(state)


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


def check_session(sessions: Sessions, authorize: Callable[[str], bool]) -> str:
    """Create, verify, change and revoke a session, and return its id.

    `authorize` returns whether the authorizer accepts a token. If anything fails, the session is
    revoked.
    """
    try:
        issued = sessions.create(_USER, ttl_seconds=_TTL_SECONDS)
        session_id, token = issued.session.session_id, issued.token
        _say(f"session {session_id} created")
        if sessions.verify(token) is None:
            raise OperationError("The API refuses the token of a live session.")
        _say("verified by its token")
        sessions.change(session_id, {"smoke": True})
        _say("changed")
        if not authorize(token):
            raise OperationError("The authorizer refuses the token of a live session.")
        _say("let in by the authorizer")
        sessions.revoke(session_id, reason="smoke")
        if _exists(sessions, session_id) or sessions.verify(token) is not None:
            raise OperationError("The API returns a session that was revoked.")
        _say("revoked, and gone")
        if authorize(token):
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
        clock.sleep(0.5)


def _say(line: str) -> None:
    print(f"  {line}", flush=True)
