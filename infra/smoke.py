"""Proves a deployment: reads back what must be so, and lives one short session on it.

`python -m infra.smoke STAGE` ends with 0, or with 1 and a sentence.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from secrets import token_urlsafe
from typing import Any

from botocore.exceptions import BotoCoreError

from infra.deployment import Deployment, OperationError, run
from infra.promises import TTL_ATTRIBUTE, append_only
from local.caller import Answer
from local.secret import Secret

# Long enough for slow calls; short, should the clean-up fail.
_TTL_SECONDS = 300
# A new event source mapping takes a minute or two until it reads.
_TRAIL_SECONDS = 300
# GetResourcePolicy lags behind:
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetResourcePolicy.html
_POLICY_SECONDS = 30

Call = Callable[..., Answer]


class NotYet(OperationError):
    """What is not so, but may be in a moment."""


def smoke(deployment: Deployment, call: Call, *, trail_seconds: float = _TRAIL_SECONDS) -> None:
    """Say what holds, line by line. Raises `OperationError` at the first thing that does not."""
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
    session_id = live(call, lambda token: _authorize(deployment, token))
    _within(trail_seconds, lambda: confirm_trail(call, session_id))
    print("It works.")


def confirm_ttl(dynamodb: Any, table: str) -> None:
    """TTL on a wrong attribute, or on none, fails without a word: items then stay for good."""
    ttl = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    status, attribute = ttl.get("TimeToLiveStatus"), ttl.get("AttributeName")
    found = f"TTL of {table} is {status} on {attribute}"
    if status not in ("ENABLED", "ENABLING") or attribute != TTL_ATTRIBUTE:
        raise OperationError(f"{found}; it is to be on {TTL_ATTRIBUTE}.")
    _say(found)


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


def live(call: Call, authorize: Callable[[str], bool]) -> str:
    """Create, verify, change and revoke a session, and revoke it in any case; answers its id.

    Id and secret are made here, so that a creation can be repeated, and one whose answer is lost
    can be revoked.
    """
    session_id, secret = token_urlsafe(16), Secret()
    path, token = f"/sessions/{session_id}", secret.token(session_id)
    try:
        fields = {
            "user_id": "smoke",
            "ttl_seconds": _TTL_SECONDS,
            "session_id": session_id,
            "token_sha256": secret.token_sha256,
        }
        _expect(201, call, "POST", "/sessions", fields)
        _say(f"session {session_id} created")
        _expect(200, call, "POST", "/sessions/verify", {"token": token})
        _say("verified by its token")
        _expect(200, call, "PATCH", path, {"data": {"smoke": True}})
        _say("changed")
        if not authorize(token):
            raise OperationError("The authorizer refuses the token of a live session.")
        _say("let in by the authorizer")
        _revoke(call, path)
        _expect(404, call, "GET", path)
        _expect(401, call, "POST", "/sessions/verify", {"token": token})
        _say("revoked, and gone")
        if authorize(token):
            raise OperationError("The authorizer lets in the token of a revoked session.")
        _say("refused by the authorizer")
    except BaseException:
        _clean_up(call, path)
        raise
    return session_id


def confirm_trail(call: Call, session_id: str) -> None:
    """The session's trail has what is always on record of a revoked session."""
    query = {"session_id": session_id, "order": "asc"}
    events = _expect(200, call, "GET", "/events", query=query)["items"]
    found = ", ".join(event["type"] for event in events)
    if not {"created", "revoked"} <= {event["type"] for event in events}:
        raise NotYet(
            f"The trail of {session_id} has {found or 'nothing'}:"
            " the log of session_audit may tell why."
        )
    _say(f"in the trail: {found}")


def _expect(status: int, call: Call, method: str, path: str, body: Any = None, **more: Any) -> Any:
    """The answer's JSON, if its status is `status`. The caller repeats what is answered 503."""
    answer = call(method, path, body, **more)
    if answer.status != status:
        hint = "; may this caller do execute-api:Invoke?" if answer.status == 403 else ""
        raise OperationError(f"{method} {path} answered {answer.status}, not {status}{hint}.")
    return answer.json if answer.body else None


def _revoke(call: Call, path: str) -> None:
    _expect(204, call, "DELETE", path, query={"reason": "smoke"})


def _clean_up(call: Call, path: str) -> None:
    try:
        _revoke(call, path)
    except (OperationError, BotoCoreError):
        _say(f"{path} is not revoked; it expires within {_TTL_SECONDS} s if it was created")


def _authorize(deployment: Deployment, token: str) -> bool:
    """What the authorizer answers to an HTTP API that asks about a request with this token."""
    bearer = f"Bearer {token}"
    event = {"version": "2.0", "identitySource": [bearer], "headers": {"authorization": bearer}}
    answer = deployment.invoke(deployment.output("AuthorizerArn"), event)
    return bool(answer["isAuthorized"])


def _within(seconds: float, confirm: Callable[[], None]) -> None:
    """Confirm, again as long as it is not so yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return confirm()
        except NotYet as error:
            if time.monotonic() > deadline:
                raise OperationError(f"{error} Waited {seconds:.0f} s for it.") from error
        time.sleep(0.5)


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="infra.smoke")
    arguments.add_argument("stage")
    deployment = Deployment(arguments.parse_args().stage)
    smoke(deployment, deployment.caller())
    return 0


if __name__ == "__main__":
    run(main)
