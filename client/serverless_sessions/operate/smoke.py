"""Proves a deployment: reads back what must be so, and lives one short session on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from serverless_sessions import SessionNotFound, Sessions, SessionsError
from serverless_sessions._core import clock
from serverless_sessions.operate.deployment import Deployment, OperationError
from serverless_sessions.operate.promises import TTL_ATTRIBUTE, append_only

_USER = "smoke"
# Long enough for slow calls; short, should the clean-up fail.
_TTL_SECONDS = 300
# A new event source mapping takes a minute or two until it reads.
_TRAIL_SECONDS = 300
# GetResourcePolicy lags behind:
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetResourcePolicy.html
_POLICY_SECONDS = 30


class NotYet(OperationError):
    """Something does not hold, but may in a moment."""


def smoke(
    deployment: Deployment, sessions: Sessions, *, trail_seconds: float = _TRAIL_SECONDS
) -> None:
    """Print what holds, line by line. Raises `OperationError` at the first thing that does not."""
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
    session_id = live(sessions, lambda token: _authorize(deployment, token))
    _within(trail_seconds, lambda: confirm_trail(sessions, session_id))
    print("It works.")


def confirm_ttl(dynamodb: Any, table: str) -> None:
    """TTL on a wrong attribute, or on none, fails silently: items then stay for good."""
    ttl = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    status, attribute = ttl.get("TimeToLiveStatus"), ttl.get("AttributeName")
    state = f"TTL of {table} is {status} on {attribute}"
    if status not in ("ENABLED", "ENABLING") or attribute != TTL_ATTRIBUTE:
        raise OperationError(f"{state}; it must be on {TTL_ATTRIBUTE}.")
    _say(state)


def confirm_append_only(dynamodb: Any, table: str, writer: str) -> None:
    """The table's policy denies what it promises to; `writer` is the audit function's role.

    The policy may say more: no permission outweighs a denial.
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
    """Each action on the table that is denied to everyone, and the condition under which it is."""
    return [
        (action, _plain(statement.get("Condition", {})))
        for statement in _list(statements)
        if statement["Effect"] == "Deny"
        and statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        and {"*", table_arn} & set(_list(statement.get("Resource")))
        for action in _list(statement.get("Action"))
    ]


def _plain(condition: Any) -> Any:
    """A condition whose values are lists; in a policy one value may stand without."""
    return {
        operator: {key: _list(values) for key, values in keys.items()}
        for operator, keys in condition.items()
    }


def _list(one_or_more: Any) -> list[Any]:
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def live(sessions: Sessions, authorize: Callable[[str], bool]) -> str:
    """Create, verify, change and revoke a session; return its id.

    Whatever goes wrong, the session is ended.
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
            raise OperationError("The API answers a session that was revoked.")
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
    """All sessions of the user: one whose creation was not answered has no id here."""
    try:
        sessions.revoke_all(_USER, reason="smoke")
    except SessionsError:
        _say(
            f"the session of the user {_USER} is not revoked;"
            f" it expires within {_TTL_SECONDS} s if it was created"
        )


def confirm_trail(sessions: Sessions, session_id: str) -> None:
    """The session's trail has what is always on record of a revoked session."""
    types = [event.type for event in sessions.events(session_id=session_id, newest_first=False)]
    if not {"created", "revoked"} <= set(types):
        raise NotYet(
            f"The trail of {session_id} has {', '.join(types) or 'nothing'}:"
            " the log of session_audit may tell why."
        )
    _say(f"in the trail: {', '.join(types)}")


def _authorize(deployment: Deployment, token: str) -> bool:
    """Whether the authorizer lets an HTTP API's request with this token in."""
    bearer = f"Bearer {token}"
    event = {"version": "2.0", "identitySource": [bearer], "headers": {"authorization": bearer}}
    answer = deployment.invoke(deployment.output("AuthorizerArn"), event)
    return bool(answer["isAuthorized"])


def _within(seconds: float, confirm: Callable[[], None]) -> None:
    """Repeat `confirm` until it holds, for at most `seconds`."""
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
