"""The commands for a deployment: the smoke, and the redrive of failed events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from secrets import token_urlsafe
from typing import Any

import pytest
from botocore.credentials import Credentials

from local.stack import REGION, STACK, LocalStack
from serverless_sessions import IssuedSession, SessionNotFound
from serverless_sessions.operate import smoke
from serverless_sessions.operate.account import Account
from serverless_sessions.operate.deployment import Deployment, OperationError
from tests.e2e.calls import ContractCaller
from tests.support.functions import sample
from tests.support.template import ROOT

# The code of the script `sessions`. The installed script may belong to another version.
_SESSIONS = "from serverless_sessions.cli.commands import main; main()"


def operator(stack: LocalStack, keys: Credentials | None = None) -> dict[str, str]:
    """Return the environment of an operator with these keys, by default MiniStack's root user."""
    return {
        "AWS_ENDPOINT_URL": stack.endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": keys.access_key if keys else "test",
        "AWS_SECRET_ACCESS_KEY": keys.secret_key if keys else "test",
    }


def start(*arguments: str, env: dict[str, str], stage: str = "local") -> subprocess.Popen[str]:
    """Start `sessions --stage …` with these arguments, without a terminal."""
    return subprocess.Popen(
        [sys.executable, "-c", _SESSIONS, "--stage", stage, *arguments],
        cwd=ROOT,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def operate(*arguments: str, env: dict[str, str], stage: str = "local") -> tuple[int, str, str]:
    """Run the command. Return its exit code, its output and its errors."""
    with start(*arguments, env=env, stage=stage) as process:
        out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture
def deployment(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    for name, value in operator(stack).items():
        monkeypatch.setenv(name, value)
    return Deployment(Account(), STACK)


def trail(call: ContractCaller, **owner: str) -> list[dict[str, Any]]:
    """Return all events of a user or of a session."""
    events: list[dict[str, Any]] = []
    query: dict[str, Any] = {**owner, "limit": 100, "order": "asc"}
    while True:
        page = call("GET", "/events", query=query).json
        events += page["items"]
        if not page["next_cursor"]:
            return events
        query["cursor"] = page["next_cursor"]


def test_smoke_checks_the_deployment(
    deployment: Deployment, call: ContractCaller, capsys: pytest.CaptureFixture[str]
) -> None:
    with deployment.sessions() as sessions:
        smoke.smoke(deployment, sessions)

    heading, *lines, end = capsys.readouterr().out.splitlines()
    assert heading == "Sessions-local in us-east-1:"
    assert [line.split(" of ")[0].strip() for line in lines[:3]] == ["TTL", "TTL", "the policy"]
    assert "not checked" in lines[2]
    sessions_table, audit_table = (
        deployment.output(f"{name}TableName") for name in ("Sessions", "Audit")
    )
    assert [line.strip() for line in lines[3:5]] == [
        f"the stream of {sessions_table} goes to session_audit, and alarms watch that",
        f"the stream of {audit_table} goes to session_events, and alarms watch that",
    ]
    assert lines[5].strip() == "the function URL accepts only signed calls"
    assert lines[12].strip() == "the same through the function URL:"
    for first in (13, 6):
        _, session_id, created = lines[first].split()
        assert created == "created"
        assert [line.strip() for line in lines[first + 1 : first + 6]] == [
            "verified by its token",
            "changed",
            "let in by the authorizer",
            "revoked, and gone",
            "refused by the authorizer",
        ]
    assert "smoke" in {event.get("reason") for event in trail(call, session_id=session_id)}
    assert lines[19].strip().startswith("in the trail: created, updated, revoked")
    assert end == "It works."


def test_smoke_is_a_command(stack: LocalStack) -> None:
    code, out, err = operate("smoke", env=operator(stack))

    assert (code, err) == (0, "")
    assert out.endswith("It works.\n")


def test_smoke_waits_for_the_trail_until_its_deadline(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deployment.sessions() as sessions:
        monkeypatch.setattr(sessions, "events", lambda **_: iter(()))

        with pytest.raises(
            OperationError, match="The trail of .* has nothing: .* Waited 1 s for it"
        ):
            smoke.smoke(deployment, sessions, trail_seconds=1)


def test_interrupted_smoke_leaves_no_live_session(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes a session whose creation got no answer."""
    with deployment.sessions() as sessions:
        create, created = sessions.create, []

        def create_and_interrupt(user_id: str, **fields: Any) -> IssuedSession:
            created.append(create(user_id, **fields).session.session_id)
            raise KeyboardInterrupt

        monkeypatch.setattr(sessions, "create", create_and_interrupt)

        with pytest.raises(KeyboardInterrupt):
            smoke.smoke(deployment, sessions)

        [session_id] = created
        with pytest.raises(SessionNotFound):
            sessions.get(session_id)


def test_disabled_mapping_is_noticed(stack: LocalStack) -> None:
    """No alarm goes off for it: it has no errors, and records of no age."""
    client, function = stack.client("lambda"), stack.outputs["EventsFunctionArn"]
    [mapping] = client.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        code, _, err = operate("smoke", env=operator(stack))
    finally:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    assert code == 1
    said = f"Error: The event source mapping {mapping['UUID']} of session_events is Disabled.\n"
    assert err == said


READS = (
    "cloudformation:DescribeStacks",
    "cloudwatch:DescribeAlarms",
    "dynamodb:DescribeTable",
    "dynamodb:DescribeTimeToLive",
    "lambda:GetFunctionUrlConfig",
    "lambda:ListEventSourceMappings",
)


@pytest.mark.parametrize(
    ("user", "actions", "message"),
    [
        ("may-nothing", (), "DescribeStacks"),
        ("may-read", READS, "May this caller do execute-api:Invoke"),
        ("may-call", (*READS, "execute-api:Invoke"), "the Invoke operation"),
    ],
    ids=["nothing", "read", "call"],
)
def test_missing_permission_gives_a_message(
    stack: LocalStack, user: str, actions: tuple[str, ...], message: str
) -> None:
    """The missing permission is one of AWS or one of the API."""
    env = operator(stack, stack.credentials(user, *actions))

    code, _, err = operate("smoke", "--wait", "0", env=env)

    assert code == 4
    assert message in err
    assert ("this shell uses the local stack instead of AWS" in err) == (user != "may-read")
    assert err.count("\n") == 1


@pytest.mark.parametrize("operation", ["smoke", "redrive"])
def test_missing_stack_gives_a_message(stack: LocalStack, operation: str) -> None:
    """On the local stack, somebody has probably forgotten the variables that it has printed."""
    code, _, err = operate(operation, env=operator(stack), stage="dev")

    assert code == 1
    assert err.startswith(
        "Error: There is no stack Sessions-dev in us-east-1 of this account."
        f" AWS_ENDPOINT_URL is {stack.endpoint}, so this shell uses the local stack instead of AWS."
    )


def test_missing_credentials_give_a_message(stack: LocalStack) -> None:
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(stack.folder)}

    code, _, err = operate("redrive", env=operator(stack, Credentials("", "")) | nowhere)

    assert code == 1
    assert err == "Error: Unable to locate credentials\n"


def records(stack: LocalStack, user_id: str, count: int) -> list[dict[str, Any]]:
    """Return stream records of the deployed table for new sessions that were never created."""
    [created] = sample("stream_created")["Records"]
    text = json.dumps(created).replace(
        "table/Sessions/", f"table/{stack.outputs['SessionsTableName']}/"
    )
    result = []
    for number in range(count):
        record = json.loads(text)
        change, session_id = record["dynamodb"], {"S": token_urlsafe(9)}
        change |= {"Keys": {"SessionId": session_id}, "SequenceNumber": str(10**20 + number)}
        change["NewImage"] |= {"SessionId": session_id, "UserId": {"S": user_id}}
        result.append(record)
    return result


class Bucket:
    """The deployed bucket for failed events. It is emptied first."""

    def __init__(self, stack: LocalStack) -> None:
        self._s3 = stack.client("s3")
        self._name = stack.outputs["FailedEventsBucket"]
        for key in self.keys():
            self._s3.delete_object(Bucket=self._name, Key=key)

    def keys(self) -> set[str]:
        page = self._s3.list_objects_v2(Bucket=self._name)
        return {item["Key"] for item in page.get("Contents", ())}

    def put(self, key: str, body: str) -> None:
        self._s3.put_object(Bucket=self._name, Key=key, Body=body.encode())

    def fail(self, shard: int, records: list[dict[str, Any]]) -> str:
        """Store a batch as Lambda does after its last attempt, and return the key."""
        time = "2026-11-24T00.13.49"
        uuid = "7c0a7b2f-4d0e-4ad1-9f0d-3a1f4a6d3c11"
        key = f"aws/lambda/{uuid}/shardId-{shard:020d}-864758bb/2026/11/24/{time}-{uuid}"
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        arn = f"arn:aws:lambda:{REGION}:000000000000:function:session_audit"
        document = {
            "requestContext": {
                "requestId": uuid,
                "functionArn": f"{arn}:live",
                "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": 400,
            },
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "1",
                "functionError": "Unhandled",
            },
            "version": "1.0",
            "timestamp": "2026-11-24T00:13:49.717Z",
            "DDBStreamBatchInfo": {
                "shardId": f"shardId-{shard:020d}-864758bb",
                "startSequenceNumber": numbers[0],
                "endSequenceNumber": numbers[-1],
                "approximateArrivalOfFirstRecord": "2026-11-24T00:13:19Z",
                "approximateArrivalOfLastRecord": "2026-11-24T00:13:19Z",
                "batchSize": len(records),
                "streamArn": records[0]["eventSourceARN"],
            },
            "payload": json.dumps({"Records": records}),
        }
        self.put(key, json.dumps(document))
        return key


def test_failed_events_are_played_back_into_the_trail(
    stack: LocalStack, call: ContractCaller
) -> None:
    """The redrive is killed and repeated. The trail then has every event once."""
    bucket, env = Bucket(stack), operator(stack)
    events = records(stack, "redriven", 230)
    expected = {
        bucket.fail(1, events[:150]),
        bucket.fail(2, events[150:200]),
        bucket.fail(3, events[200:]),
    }
    unexpected = {bucket.fail(4, sample("stream_created")["Records"]), "notes.txt"}
    bucket.put("notes.txt", "Keep these.")

    code, out, _ = operate("redrive", "--dry-run", env=env)
    assert code == 1
    assert "230 records of 230 sessions in 3 objects" in out
    assert bucket.keys() == expected | unexpected

    code, _, err = operate("redrive", env=env)
    assert code == 2
    assert err.endswith("there is no one to ask; say --yes (YES=1 with make).\n")
    assert bucket.keys() == expected | unexpected

    with start("redrive", "--yes", env=env) as process:
        assert process.stdout
        next(line for line in process.stdout if "1 of 3" in line)
        process.kill()
    assert bucket.keys() < expected | unexpected

    code, _, err = operate("redrive", "--yes", env=env)
    assert code == 1
    assert all(f"Left alone: {key}: " in err for key in unexpected)
    assert bucket.keys() == unexpected

    recorded = [event["session_id"] for event in trail(call, user_id="redriven")]
    assert sorted(recorded) == sorted(
        event["dynamodb"]["Keys"]["SessionId"]["S"] for event in events
    )
    Bucket(stack)
    assert operate("redrive", env=env)[0] == 0


def test_record_that_is_still_unreadable_is_stored_again(
    stack: LocalStack, call: ContractCaller
) -> None:
    """The function itself stores it, so the redrive ends and the record is not lost."""
    bucket, env = Bucket(stack), operator(stack)
    [record] = records(stack, "unreadable", 1)
    record["eventName"] = "UNKNOWN"
    former_key = bucket.fail(1, [record])

    for _ in range(2):
        code, out, _ = operate("redrive", "--yes", env=env)
        assert code == 0
        assert "Objects that came in meanwhile: 1." in out
        [key] = bucket.keys()
        assert key.startswith("aws/lambda/refused/")
        assert key != former_key
        former_key = key

    session_id = record["dynamodb"]["Keys"]["SessionId"]["S"]
    assert [event["type"] for event in trail(call, session_id=session_id)] == ["unreadable"]
    Bucket(stack)
