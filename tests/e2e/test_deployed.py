"""The deployed local stack, as callers of the service use it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from local.demo import COMMANDS, exports
from local.invoke import invoke
from local.stack import LocalError, LocalStack
from tests.e2e.calls import ALSO_EMBEDDED, ContractCaller
from tests.support.caller import Answer, Caller
from tests.support.template import ROOT, SETTINGS
from tests.support.waiting import eventually


def create(call: ContractCaller, user_id: str, **fields: Any) -> dict[str, Any]:
    answer = call("POST", "/sessions", {"user_id": user_id, **fields})
    assert answer.status == 201, answer
    session: dict[str, Any] = answer.json
    return session


def change(
    call: ContractCaller, path: str, data: dict[str, Any], *, version: int
) -> dict[str, Any]:
    """Change the session if it has this version."""
    headers = {"If-Match": f'"v{version}"'}
    answer = call("PATCH", path, {"data": data}, headers=headers)
    if answer.status == 412 and answer.sends > 1:  # a send that got a 503 may have made the change
        answer = call("GET", path)
    assert answer.status == 200, answer
    changed: dict[str, Any] = answer.json
    assert changed["version"] == version + 1
    return changed


def trail(call: ContractCaller, session: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the session's events from its user's trail.

    If a creation was answered 503, the user may have another session.
    """
    query = {"user_id": session["user_id"], "order": "asc", "limit": 100}
    events = call("GET", "/events", query=query).json["items"]
    return [event for event in events if event["session_id"] == session["session_id"]]


def trail_of(call: ContractCaller, session: dict[str, Any], *types: str) -> list[dict[str, Any]]:
    """Wait until the session's trail has exactly events of these types, and return them."""

    def complete() -> list[dict[str, Any]]:
        events = trail(call, session)
        return events if [event["type"] for event in events] == list(types) else []

    return eventually(complete)  # type: ignore[no-any-return]


def expiry_of(call: ContractCaller, session: dict[str, Any]) -> dict[str, Any]:
    """Wait until the last event of the session's trail is its expiry, and return that event.

    It need not be the second event. A slow creation may be sent to DynamoDB twice, the second time
    after TTL has removed the item.
    """

    def last_event() -> list[dict[str, Any]]:
        return [event for event in trail(call, session)[-1:] if event["type"] == "expired"]

    [expired] = eventually(last_event)
    return expired  # type: ignore[no-any-return]


def listed(call: ContractCaller, user_id: str) -> list[str]:
    page = call("GET", "/sessions", query={"user_id": user_id}).json
    return [item["session_id"] for item in page["items"]]


@ALSO_EMBEDDED
def test_life_of_a_session(call: ContractCaller) -> None:
    """The session is created, read, changed, renewed and revoked. The trail has every step."""
    user_id = "auth0|a/b@c +&,%😀"
    session = create(call, user_id, data={"n": 1.25})
    path = f"/sessions/{session['session_id']}"

    assert call("GET", path).json | {"token": session["token"]} == session
    changed = change(call, path, {"m": None, "k": "ä"}, version=1)
    assert changed["data"] == {"n": 1.25, "k": "ä"}
    assert call("PUT", path, {"data": {}}, headers={"If-Match": '"v1"'}).status == 412
    assert call("POST", f"{path}/renew").status == 200
    assert session["session_id"] in listed(call, user_id)
    assert call("DELETE", path, query={"reason": "logout"}).status == 204
    assert call("GET", path).status == 404
    assert session["session_id"] not in listed(call, user_id)

    created, updated, revoked, purged = trail_of(
        call, session, "created", "updated", "revoked", "purged"
    )
    assert updated["changed"] == ["k"]
    assert revoked["reason"] == "logout"
    assert purged["removed_by"] == "ttl"
    assert created["actor"].endswith(":user/tests")
    by_session = call("GET", "/events", query={"session_id": session["session_id"]}).json["items"]
    assert by_session == [purged, revoked, updated, created]


@ALSO_EMBEDDED
@pytest.mark.parametrize(
    ("cause", "fields"),
    [("idle", {"ttl_seconds": 1}), ("absolute", {"ttl_seconds": 1, "absolute_ttl_seconds": 1})],
)
def test_expiry_is_recorded_from_the_stream(call: ContractCaller, cause: str, fields: Any) -> None:
    """TTL removes the item, and the stream record becomes the last event of the trail."""
    session = create(call, f"expires-{cause}", **fields)

    expired = expiry_of(call, session)

    assert expired["cause"] == cause
    assert expired["removed_by"] == "ttl"
    assert expired["at"] == session["expires_at"]
    assert expired["recorded_at"] == expired["at"] + expired["ttl_lag_seconds"]
    assert call("GET", f"/sessions/{session['session_id']}").status == 404


def test_deletion_without_the_api_is_recorded_as_deleted(
    call: ContractCaller, stack: LocalStack
) -> None:
    session = create(call, "deleted")
    stack.client("dynamodb").delete_item(
        TableName=stack.outputs["SessionsTableName"],
        Key={"SessionId": {"S": session["session_id"]}},
    )

    _, deleted = trail_of(call, session, "created", "deleted")
    assert deleted["actor"] is None


def test_change_without_the_api_is_recorded_as_tampered(
    call: ContractCaller, stack: LocalStack
) -> None:
    session = create(call, "tampered")
    stack.client("dynamodb").update_item(
        TableName=stack.outputs["SessionsTableName"],
        Key={"SessionId": {"S": session["session_id"]}},
        UpdateExpression="SET ExpirationTime = :later",
        ExpressionAttributeValues={":later": {"N": "9999999999"}},
    )

    _, tampered = trail_of(call, session, "created", "tampered")
    assert tampered["changed"] == ["ExpirationTime"]


def test_every_item_has_a_number_of_seconds_as_expiration_time(
    call: ContractCaller, stack: LocalStack
) -> None:
    """TTL is enabled on exactly this attribute of both tables."""
    create(call, "numbers")
    expiry_of(call, create(call, "numbers", ttl_seconds=1, absolute_ttl_seconds=5))
    client, now = stack.client("dynamodb"), time.time()
    for output in ("SessionsTableName", "AuditTableName"):
        name = stack.outputs[output]
        items = client.scan(TableName=name)["Items"]
        assert items
        for item in items:
            [(kind, value)] = item["ExpirationTime"].items()
            assert kind == "N"
            assert now - 60 < int(value) < 10**10
        ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ExpirationTime"}


@ALSO_EMBEDDED
def test_one_of_twenty_concurrent_changes_wins(call: ContractCaller) -> None:
    """The condition of the write decides, not the order in which the requests arrive."""
    path = f"/sessions/{create(call, 'racers')['session_id']}"

    def race(i: int) -> Answer:
        return call("PATCH", path, {"data": {"winner": i}}, headers={"If-Match": '"v1"'})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(race, range(20)))

    session = call("GET", path).json
    assert session["version"] == 2
    winner = answers.pop(session["data"]["winner"])
    # If the winner's first answer was a 503, its next attempt conflicts with its own change.
    assert winner.status == 200 or (winner.status == 412 and winner.sends > 1)
    assert [answer.status for answer in answers] == [412] * 19


@ALSO_EMBEDDED
def test_renewals_that_race_a_revocation_never_undo_it(call: ContractCaller) -> None:
    path = f"/sessions/{create(call, 'race')['session_id']}"

    def renew_or_revoke(i: int) -> int:
        return call("DELETE" if i == 5 else "POST", path if i == 5 else f"{path}/renew").status

    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(renew_or_revoke, range(12)))

    assert set(statuses) <= {200, 204, 404}
    assert call("GET", path).status == 404


def test_revocation_with_a_doubled_slash_ends_the_session(
    call: ContractCaller, stack: LocalStack
) -> None:
    """API Gateway routes it to the session, although the contract has no such path."""
    session_id = call("POST", "/sessions", {"user_id": "ada"}).json["session_id"]

    answer = Caller(stack.url, call.credentials)("DELETE", f"//sessions/{session_id}")

    assert answer.status == 204
    assert call("GET", f"/sessions/{session_id}").status == 404


@ALSO_EMBEDDED
def test_data_above_the_limit_of_an_item_is_413(call: ContractCaller) -> None:
    """DynamoDB's limit is 400 KB. The stored data does not change."""
    path = f"/sessions/{create(call, 'grows')['session_id']}"

    for i in range(1, 7):
        change(call, path, {f"k{i}": "x" * 65_000}, version=i)

    assert call("PATCH", path, {"data": {"k7": "x" * 65_000}}).status == 413
    assert call("GET", path).json["version"] == 7


def test_unsigned_call_is_refused(stack: LocalStack) -> None:
    call = ContractCaller(stack.url, None)

    assert call("GET", "/sessions", query={"user_id": "ada"}).status == 403
    assert call("POST", "/sessions", {"user_id": "ada"}).status == 403


def test_settings_are_those_that_tests_rely_on(stack: LocalStack) -> None:
    """A deployer's own `cdk.json` is not read."""
    functions = stack.client("lambda").list_functions()["Functions"]
    [variables] = [
        function["Environment"]["Variables"]
        for function in functions
        if "SessionApi" in function["FunctionName"]
    ]

    assert stack.app != ROOT
    assert variables["DEFAULT_TTL_SECONDS"] == str(SETTINGS["default_ttl_seconds"])


def test_unknown_keys_are_refused(stack: LocalStack) -> None:
    call = ContractCaller(stack.url, Credentials("AKIAUNKNOWN", "secret"))

    assert call("GET", "/sessions", query={"user_id": "ada"}).status == 403


def test_wrong_signature_is_refused(stack: LocalStack, call: ContractCaller) -> None:
    assert call.credentials
    forger = ContractCaller(stack.url, Credentials(call.credentials.access_key, "guessed"))

    assert forger("GET", "/sessions", query={"user_id": "ada"}).status == 403


def test_caller_without_permission_is_refused(stack: LocalStack) -> None:
    call = ContractCaller(stack.url, stack.credentials("nobody"))

    assert call("GET", "/sessions", query={"user_id": "ada"}).status == 403


def function_role(stack: LocalStack, construct: str) -> tuple[str, str, dict[str, Any]]:
    """Return the name, the policy's name and the policy of a function's deployed role."""
    iam = stack.client("iam")
    [role] = [
        role["RoleName"] for role in iam.list_roles()["Roles"] if construct in role["RoleName"]
    ]
    [policy] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    return role, policy, json.loads(document) if isinstance(document, str) else document


def test_role_without_its_permission_really_fails(call: ContractCaller, stack: LocalStack) -> None:
    """This proves that the local stack enforces the permissions of the template."""
    iam = stack.client("iam")
    role, policy, document = function_role(stack, "ApiSessionApi")
    path = f"/sessions/{create(call, 'permission')['session_id']}"
    without = json.loads(json.dumps(document).replace('"dynamodb:GetItem", ', ""))
    assert without != document
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(without))
    try:
        assert call("GET", path).status == 500
        assert call("POST", f"{path}/renew").status == 200
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
    assert call("GET", path).status == 200


def test_role_of_the_audit_function_can_only_add_events(
    call: ContractCaller, stack: LocalStack
) -> None:
    """An intruder with the function's permissions cannot change the trail."""
    session = create(call, "append-only")
    [event] = trail_of(call, session, "created")
    iam = stack.client("iam")
    credentials = stack.credentials("intruder")
    _, _, document = function_role(stack, "AuditSessionAudit")
    iam.put_user_policy(
        UserName="intruder", PolicyName="stolen", PolicyDocument=json.dumps(document)
    )
    client = stack.client("dynamodb", credentials)
    table = stack.outputs["AuditTableName"]
    key = {"SessionId": {"S": event["session_id"]}, "EventId": {"S": event["event_id"]}}

    def refused(operation: str, **parameters: Any) -> bool:
        with pytest.raises(ClientError) as error:
            getattr(client, operation)(**parameters)
        return bool(error.value.response["Error"]["Code"] == "AccessDeniedException")

    assert refused("delete_item", TableName=table, Key=key)
    assert refused("put_item", TableName=table, Item=key)
    assert refused("update_item", TableName=table, Key=key)
    where = f"WHERE SessionId = '{event['session_id']}' AND EventId = '{event['event_id']}'"
    assert refused("execute_statement", Statement=f'DELETE FROM "{table}" {where}')
    assert refused("execute_statement", Statement=f'UPDATE "{table}" SET Reason = 1 {where}')
    [answer] = client.batch_execute_statement(
        Statements=[
            {
                "Statement": f"INSERT INTO \"{table}\" VALUE {{'SessionId': ?, 'EventId': ?}}",
                "Parameters": list(key.values()),
            }
        ]
    )["Responses"]
    assert answer["Error"]["Code"] == "DuplicateItem"
    assert trail(call, session) == [event]


EVENTS = sorted(path.name for path in (ROOT / "events").iterdir())
# The events of functions that this stack has only with `prompt_expiry`.
LEFT_OUT = [name for name in EVENTS if name.startswith(("sweeper_", "timers_"))]


@pytest.mark.parametrize("file", LEFT_OUT)
def test_sample_event_of_a_function_that_is_left_out_gives_a_message(
    stack: LocalStack, file: str
) -> None:
    with pytest.raises(LocalError, match="The settings of this stack leave out the function"):
        invoke(stack, f"events/{file}")


@pytest.mark.parametrize("file", [name for name in EVENTS if name not in LEFT_OUT])
def test_sample_events_run(
    stack: LocalStack, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make invoke EVENT=events/…` runs them in the same way."""

    def answer_of_function() -> Any:
        invoke(stack, f"events/{file}")
        answer = json.loads(capsys.readouterr().out)
        return answer if answer.get("statusCode") != 503 else None

    answer = eventually(answer_of_function)
    match file.partition("_")[0]:
        case "api":
            statuses = {
                "api_create_session.json": 201,
                "api_function_url.json": 201,
                "api_get_session.json": 404,
            }
            assert answer["statusCode"] == statuses.get(file, 200)
        case "authorizer":
            assert answer["context"] == {}
        case "stream" | "trail":
            assert answer == {"batchItemFailures": []}


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_printed_commands_work(stack: LocalStack, tmp_path: Path) -> None:
    """A new user copies these commands. The shell may have a profile of another account."""
    keys = stack.credentials("newcomer", "execute-api:Invoke")
    with stack.sessions(keys) as sessions:
        session_id = sessions.create("ada").session.session_id
        eventually(lambda: list(sessions.events(session_id=session_id)))
    (tmp_path / ".curlrc").write_text('silent\nfail\nretry = 20\nwrite-out = "\\n"\n')

    done = subprocess.run(
        ["bash", "-ec", "\n".join((exports(stack, keys), *COMMANDS))],  # noqa: S607
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "AWS_PROFILE": "other", "CURL_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    *table, created, trail = done.stdout.splitlines()
    rows = [line.split("\t") for line in table]
    assert session_id in [row[0] for row in rows]
    assert ("created", session_id) in [(row[1], row[2]) for row in rows]
    assert json.loads(created)["user_id"] == "grace"
    assert json.loads(trail)["items"] is not None


def test_no_data_in_the_logs(call: ContractCaller, stack: LocalStack) -> None:
    """The logs contain neither session data nor user agents, whether calls succeed or fail."""
    secret = "c0nfidential"
    session = create(call, "discreet", data={"k": secret}, client={"user_agent": secret})
    path = f"/sessions/{session['session_id']}"
    change(call, path, {"k": secret * 2}, version=1)
    for body in ({"data": secret}, {secret: 1}):
        assert call("PATCH", path, body).status == 422
    call("DELETE", path)
    trail_of(call, session, "created", "updated", "revoked", "purged")

    log = (stack.folder / "ministack.log").read_text()
    assert re.search("recorded", log)
    assert secret not in log
