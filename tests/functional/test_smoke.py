"""The checks of `sessions smoke`, and how it ends if something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import moto
import pytest

from infra import promises as stack
from serverless_sessions import Event, SessionNotFound, Unavailable
from serverless_sessions.operate import promises
from serverless_sessions.operate.deployment import OperationError
from serverless_sessions.operate.smoke import (
    check_session,
    confirm_append_only,
    confirm_trail,
    confirm_ttl,
)
from tests.support.template import resources

WRITER = "arn:aws:iam::123456789012:role/session_audit"


def enable(tables: Any, attribute: str, *, enabled: bool = True) -> None:
    tables.client.update_time_to_live(
        TableName=tables.sessions,
        TimeToLiveSpecification={"Enabled": enabled, "AttributeName": attribute},
    )


def test_ttl_on_expiration_time_is_confirmed(
    tables: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    enable(tables, "ExpirationTime")

    confirm_ttl(tables.client, tables.sessions)

    assert capsys.readouterr().out == "  TTL of sessions is ENABLED on ExpirationTime\n"


def test_ttl_on_another_attribute_fails(tables: Any) -> None:
    enable(tables, "expires_at")

    with pytest.raises(
        OperationError, match="is ENABLED on expires_at; it must be on ExpirationTime"
    ):
        confirm_ttl(tables.client, tables.sessions)


def test_no_ttl_fails(tables: Any) -> None:
    with pytest.raises(OperationError, match="is DISABLED"):
        confirm_ttl(tables.client, tables.sessions)


def test_the_smoke_expects_what_the_stack_promises() -> None:
    """Each side has its own copy of the settings, because the client is installed without the
    stack.
    """
    assert promises.TTL_ATTRIBUTE == stack.TTL_ATTRIBUTE
    assert promises.append_only(writer=WRITER) == stack.append_only(writer=WRITER)


def promised() -> list[dict[str, Any]]:
    """The statements of the audit table's policy in the template."""
    [policy] = [
        replica["ResourcePolicy"]["PolicyDocument"]
        for table in resources("AWS::DynamoDB::GlobalTable").values()
        for replica in table["Replicas"]
        if "ResourcePolicy" in replica
    ]
    [role] = [
        name for name in resources("AWS::IAM::Role") if name.startswith("AuditSessionAuditRole")
    ]
    reference = json.dumps({"Fn::GetAtt": [role, "Arn"]})
    text = json.dumps(policy["Statement"]).replace(reference, json.dumps(WRITER))
    statements: list[dict[str, Any]] = json.loads(text)
    return statements


@pytest.fixture
def audit() -> Iterator[Any]:
    """The client of a DynamoDB that stores policies, with a table `audit`."""
    with moto.mock_aws():
        client: Any = boto3.client("dynamodb")
        key = {"AttributeName": "SessionId"}
        client.create_table(
            TableName="audit",
            KeySchema=[key | {"KeyType": "HASH"}],
            AttributeDefinitions=[key | {"AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def put_policy(audit: Any, statements: list[dict[str, Any]]) -> None:
    arn = audit.describe_table(TableName="audit")["Table"]["TableArn"]
    policy = {"Version": "2012-10-17", "Statement": statements}
    audit.put_resource_policy(ResourceArn=arn, Policy=json.dumps(policy))


def test_policy_of_the_template_is_confirmed(audit: Any) -> None:
    put_policy(audit, promised())

    confirm_append_only(audit, "audit", WRITER)


def test_equivalent_or_stricter_policy_is_confirmed(audit: Any) -> None:
    """A value or a list with the value, and one statement or two, are the same denial."""
    changes, insert = promised()
    first, *others = changes["Action"]
    anyone = {"Principal": "*", "Resource": ["*"]}
    reader = {"Effect": "Allow", "Principal": "*", "Action": "dynamodb:Query", "Resource": "*"}
    not_ttl = {"BoolIfExists": {"aws:PrincipalIsAWSService": ["false"]}}
    rewritten = [
        changes | {"Action": first} | anyone,
        changes | {"Action": others, "Condition": not_ttl},
    ]
    put_policy(audit, [reader, insert, *rewritten])

    confirm_append_only(audit, "audit", WRITER)


def test_missing_policy_fails(audit: Any) -> None:
    with pytest.raises(OperationError, match="audit has no policy"):
        confirm_append_only(audit, "audit", WRITER)


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    "weaken",
    [
        lambda statement: statement.update(Effect="Allow"),
        lambda statement: statement.update(Action=statement["Action"][:-1]),
        lambda statement: statement.update(Principal={"AWS": "arn:aws:iam::123456789012:root"}),
        lambda statement: statement.update(Resource="arn:aws:dynamodb:::table/other"),
        lambda statement: statement["Condition"].update(Bool={"aws:MultiFactorAuthPresent": "no"}),
        lambda statement: statement.pop("Principal"),
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_weakened_policy_fails(audit: Any, weaken: Change, number: int) -> None:
    statements = promised()
    weaken(statements[number])
    put_policy(audit, statements)

    with pytest.raises(OperationError, match="does not deny dynamodb:"):
        confirm_append_only(audit, "audit", WRITER)


def test_policy_that_lets_another_role_write_fails(audit: Any) -> None:
    put_policy(audit, promised())

    with pytest.raises(OperationError, match="does not deny dynamodb:PartiQLInsert"):
        confirm_append_only(audit, "audit", "arn:aws:iam::123456789012:role/other")


class Service:
    """A client whose methods succeed, except for one, and whose trail is empty."""

    def __init__(self, wrong: str = "", error: Exception | None = None) -> None:
        self.wrong, self.error = wrong, error
        self.ended: list[str] = []

    def _call(self, method: str) -> None:
        if method == self.wrong and self.error:
            raise self.error

    def create(self, user_id: str, *, ttl_seconds: int) -> Any:
        self._call("create")
        return SimpleNamespace(session=SimpleNamespace(session_id="x"), token="x.secret")

    def verify(self, token: str) -> Any:
        self._call("verify")
        return None if self.ended else SimpleNamespace()

    def change(self, session_id: str, changes: dict[str, Any]) -> None:
        self._call("change")

    def get(self, session_id: str) -> None:
        if self.ended and self.wrong != "get":
            raise SessionNotFound("gone")

    def revoke(self, session_id: str, *, reason: str) -> None:
        self._call("revoke")
        self.ended.append(session_id)

    def revoke_all(self, user_id: str, *, reason: str) -> int:
        self._call("revoke_all")
        self.ended.append(user_id)
        return 1

    def events(self, **_: Any) -> Iterator[Event]:
        return iter(())


def authorizer(service: Any) -> Callable[[str], bool]:
    return lambda token: not service.ended


@pytest.mark.parametrize("wrong", ["create", "verify", "change", "revoke"])
@pytest.mark.parametrize("error", [Unavailable("no answer"), KeyboardInterrupt()])
def test_session_is_always_revoked(wrong: str, error: Any) -> None:
    """Its creation may have happened although the answer was lost."""
    service: Any = Service(wrong, error)

    with pytest.raises(type(error)):
        check_session(service, authorizer(service))

    assert service.ended == ["smoke"]


def test_session_that_can_not_be_revoked_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    service: Any = Service("revoke_all", Unavailable("no answer"))

    with pytest.raises(OperationError):
        check_session(service, lambda token: False)

    assert "is not revoked; it expires within 300 s" in capsys.readouterr().out


def test_session_that_outlives_its_end_fails() -> None:
    service: Any = Service("get")

    with pytest.raises(OperationError, match="returns a session that was revoked"):
        check_session(service, authorizer(service))


@pytest.mark.parametrize(("answers", "said"), [(False, "refuses"), (True, "lets in")])
def test_authorizer_that_always_answers_alike_fails(answers: bool, said: str) -> None:
    service: Any = Service()

    with pytest.raises(OperationError, match=f"The authorizer {said}"):
        check_session(service, lambda token: answers)


def test_trail_without_the_session_fails() -> None:
    service: Any = Service()

    with pytest.raises(OperationError, match="The trail of x has nothing"):
        confirm_trail(service, "x")
