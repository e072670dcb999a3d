"""The checks of `sessions smoke`, and how it ends if something is wrong."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from io import BytesIO
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import boto3
import moto
import pytest

from serverless_sessions import Event, SessionNotFound, Unavailable
from serverless_sessions.errors import InternalError, NotAllowed, RouteNotFound
from serverless_sessions.operate import promises
from serverless_sessions.operate import smoke as smokes
from serverless_sessions.operate.deployment import Deployment, OperationError
from serverless_sessions.operate.smoke import (
    Settling,
    check_session,
    confirm_append_only,
    confirm_mapping,
    confirm_schedule,
    confirm_trail,
    confirm_ttl,
    smoke,
)
from serverless_sessions_cdk import _promises as stack
from tests.support.aws import Aws, documented_actions
from tests.support.template import FULL, resources

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
    on_a_mapping = {
        alarm["AlarmName"]
        for alarm in resources("AWS::CloudWatch::Alarm", FULL).values()
        if [dimension["Name"] for dimension in alarm["Dimensions"]] == ["EventSourceMappingUUID"]
    }
    assert on_a_mapping == {
        f"Sessions-{FULL}-{package}-{name}"
        for package in ("session_audit", "session_events", "session_timers")
        for name in promises.MAPPING_ALARMS
    }


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


def test_policy_is_put_back_by_the_command_that_the_smoke_prints(
    audit: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment compares templates, so it leaves a policy that was changed by hand as it is."""
    monkeypatch.setattr(smokes, "_POLICY_SECONDS", 0)
    put_policy(audit, promised()[:1])
    role = SimpleNamespace(get_function_configuration=lambda **_: {"Role": WRITER})
    deployment: Any = SimpleNamespace(
        region="us-east-1",
        client=lambda _: role,
        output=lambda name: "audit" if name == "AuditTableName" else name,
    )

    with pytest.raises(OperationError, match="does not deny dynamodb:PartiQLInsert"):
        smokes._confirm_policy(deployment, audit)

    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("aws ")]
    words = shlex.split(line)
    assert words[:3] == ["aws", "dynamodb", "put-resource-policy"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options["--region"] == "us-east-1"
    audit.put_resource_policy(ResourceArn=options["--resource-arn"], Policy=options["--policy"])
    smokes._confirm_policy(deployment, audit)


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
        self.trail: list[Any] = []
        self.calls: Counter[str] = Counter()

    def _call(self, method: str) -> None:
        self.calls[method] += 1
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
        self._call("get")
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
        self._call("events")
        return iter(self.trail)


def authorizer(service: Any) -> Callable[[str], bool]:
    return lambda token: not service.ended


@pytest.mark.parametrize("wrong", ["create", "verify", "change", "revoke"])
@pytest.mark.parametrize("error", [Unavailable("no answer"), KeyboardInterrupt()])
def test_session_is_always_revoked(wrong: str, error: Any) -> None:
    """Its creation may have happened although the answer was lost."""
    service: Any = Service(wrong, error)

    with pytest.raises(type(error)):
        check_session(service, authorizer(service), Settling(0))

    assert service.ended == ["smoke"]


def test_session_that_can_not_be_revoked_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    service: Any = Service("revoke_all", Unavailable("no answer"))

    with pytest.raises(OperationError):
        check_session(service, lambda token: False, Settling(0))

    assert "is not revoked; it expires within 300 s" in capsys.readouterr().out


def test_session_that_outlives_its_end_fails() -> None:
    service: Any = Service("get")

    with pytest.raises(OperationError, match="returns a session that was revoked"):
        check_session(service, authorizer(service), Settling(0))


@pytest.mark.parametrize(("answers", "said"), [(False, "refuses"), (True, "lets in")])
def test_authorizer_that_always_answers_alike_fails(answers: bool, said: str) -> None:
    service: Any = Service()

    with pytest.raises(OperationError, match=f"The authorizer {said}"):
        check_session(service, lambda token: answers, Settling(0))


def test_trail_without_the_session_fails() -> None:
    service: Any = Service()

    with pytest.raises(OperationError, match="The trail of x has nothing"):
        confirm_trail(service, "x")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The smoke's clock, which moves only when it sleeps."""
    clock = SimpleNamespace(now=0.0)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(smokes, "clock", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    return clock


class Unsettled(Service):
    """Refuses the calls of one method until a moment of `clock`."""

    def __init__(self, wrong: str, error: Exception, clock: Any, until: float) -> None:
        super().__init__(wrong, error)
        self.clock, self.until = clock, until
        self.trail = [SimpleNamespace(type="created"), SimpleNamespace(type="revoked")]

    def _call(self, method: str) -> None:
        if self.clock.now < self.until:
            super()._call(method)

    def authorize(self, token: str) -> bool:
        self._call("authorize")
        return not self.ended


REFUSALS = [
    NotAllowed("Forbidden"),
    RouteNotFound("Not Found"),
    InternalError("Internal Server Error"),
    OperationError("The function failed 3 times."),
]
CALLS = ["create", "verify", "change", "revoke", "authorize", "events"]


@pytest.mark.parametrize("error", REFUSALS)
@pytest.mark.parametrize("call", CALLS)
def test_what_aws_spreads_slowly_is_waited_for(
    clock: Any, capsys: pytest.CaptureFixture[str], call: str, error: Exception
) -> None:
    """A stage or a permission of a moment ago: 403, 404 or 500 for up to a minute."""
    service: Any = Unsettled(call, error, clock, until=59)
    settled = Settling(60)

    check_session(service, service.authorize, settled)
    settled(lambda: confirm_trail(service, "x"))

    said = capsys.readouterr().out
    assert said.count("  not yet, ") == 1
    assert f"  not yet, trying again for up to 60 s: {error}\n" in said
    assert service.ended == ["x"]


class Uneven(Unsettled):
    """Some of AWS's machines know the deployment already: every second call of a method works."""

    def _call(self, method: str) -> None:
        self.calls[method] += 1
        if self.calls[method] % 2:
            raise NotAllowed("Forbidden")


def test_any_call_may_be_refused_after_another_one_was_not(clock: Any) -> None:
    service: Any = Uneven("", NotAllowed("Forbidden"), clock, until=0)

    check_session(service, service.authorize, Settling(60))

    assert service.ended == ["x"]
    assert service.calls == {
        "create": 2,
        "verify": 4,
        "change": 2,
        "authorize": 4,
        "revoke": 2,
        "get": 4,
    }


@pytest.mark.parametrize("error", REFUSALS)
def test_what_is_really_refused_fails_after_a_minute(clock: Any, error: Exception) -> None:
    """As what it is, so that the command ends with the code of a missing permission."""
    service: Any = Unsettled("verify", error, clock, until=600)

    with pytest.raises(type(error)) as raised:
        check_session(service, service.authorize, Settling(60))

    assert raised.value is error
    assert 60 <= clock.now < 61


def test_answer_that_is_wrong_is_not_waited_for(clock: Any) -> None:
    service: Any = Service("get")

    with pytest.raises(OperationError, match="returns a session that was revoked"):
        check_session(service, authorizer(service), Settling(60))

    assert clock.now == 0


STREAM = "arn:aws:dynamodb:eu-west-1:123456789012:table/sessions/stream/2026-11-26T00:00:00.000"


TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"


def alarm(name: str, mapping: str, package: str = "session_audit") -> dict[str, Any]:
    dimension = {"Name": "EventSourceMappingUUID", "Value": mapping}
    return {
        "AlarmName": f"Sessions-prod-{package}-{name}",
        "AlarmActions": [TOPIC],
        "Dimensions": [dimension],
    }


SWEEPER = "arn:aws:lambda:eu-west-1:123456789012:function:sweeper:live"
EXPIRY_OUTPUTS = {
    "TimersTableName": "timers",
    "TimersFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:timers:live",
    "SweeperFunctionArn": SWEEPER,
}
FUNCTION_URL_OUTPUTS = {
    "FunctionUrl": "https://abc.lambda-url.eu-west-1.on.aws/",
    "ApiFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:api:live",
}


def deployed(more_outputs: Mapping[str, str] = {}, **answers: Any) -> Aws:
    """An account with a stack on which all is as it should be, but for `answers`."""
    outputs = {
        "SessionsTableName": "sessions",
        "AuditTableName": "audit",
        "AuditFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:audit:live",
        "AuthorizerArn": "arn:aws:lambda:eu-west-1:123456789012:function:authorizer:live",
        "AlarmTopicArn": TOPIC,
        "FailedEventsBucket": "failed-events",
        **more_outputs,
    }
    policy = {"Version": "2012-10-17", "Statement": promises.append_only(writer=WRITER)}
    as_it_should_be = {
        "DescribeStacks": {
            "Stacks": [
                {
                    "Outputs": [
                        {"OutputKey": name, "OutputValue": value} for name, value in outputs.items()
                    ]
                }
            ]
        },
        "DescribeTimeToLive": {
            "TimeToLiveDescription": {
                "TimeToLiveStatus": "ENABLED",
                "AttributeName": "ExpirationTime",
            }
        },
        "DescribeTable": {"Table": {"TableArn": "arn:table", "LatestStreamArn": STREAM}},
        "GetResourcePolicy": {"Policy": json.dumps(policy)},
        "GetFunctionConfiguration": {"Role": WRITER},
        "ListEventSourceMappings": {
            "EventSourceMappings": [
                {"UUID": "old", "EventSourceArn": "arn:old", "State": "Enabled"},
                {"UUID": "m1", "EventSourceArn": STREAM, "State": "Enabled"},
            ]
        },
        "DescribeAlarms": {
            "MetricAlarms": [
                alarm(name, "m1", package)
                for package in ("session_audit", "session_timers")
                for name in ("gave-up", "dropped")
            ]
        },
        "ListRuleNamesByTarget": {"RuleNames": ["every-minute"]},
        "DescribeRule": {"State": "ENABLED"},
        "GetFunctionUrlConfig": {"AuthType": "AWS_IAM"},
    }
    return Aws(**{**as_it_should_be, **answers})


def stack_with(*outputs: str) -> Aws:
    listed = [{"OutputKey": name, "OutputValue": f"value of {name}"} for name in outputs]
    return Aws(DescribeStacks={"Stacks": [{"Outputs": listed}]})


def test_service_at_the_top_of_a_stack_is_called_default() -> None:
    """Its outputs have no prefix, so those of the others must not be mistaken for its own."""
    outputs = "FailedEventsBucket", "ApiUrl", "AFailedEventsBucket0123ABCD", "AApiUrl0123ABCD"
    account = stack_with(*outputs).account

    assert Deployment(account, "Shop", "Default").output("ApiUrl") == "value of ApiUrl"
    assert Deployment(account, "Shop", "A").output("ApiUrl") == "value of AApiUrl0123ABCD"
    with pytest.raises(
        OperationError, match="Shop has several services: A, Default. Use --service"
    ):
        Deployment(account, "Shop")


def test_services_with_the_same_letters_cannot_be_told_apart() -> None:
    """The constructs are A-B and AB. A command for one of them must not reach the other."""
    account = stack_with("ABFailedEventsBucket0123ABCD", "ABFailedEventsBucket4567ABCD").account

    with pytest.raises(OperationError, match="Shop has several services AB; rename one."):
        Deployment(account, "Shop", "A-B")


def mappings(state: str, stream: str = STREAM) -> dict[str, Any]:
    return {"EventSourceMappings": [{"UUID": "m1", "EventSourceArn": stream, "State": state}]}


@pytest.mark.parametrize(
    ("answers", "said", "seconds"),
    [
        (
            {"ListEventSourceMappings": {"EventSourceMappings": []}},
            "No event source mapping sends the stream of sessions to session_audit",
            0,
        ),
        ({"ListEventSourceMappings": mappings("Enabled", "arn:old")}, "No event source mapping", 0),
        ({"ListEventSourceMappings": mappings("Disabled")}, "m1 of session_audit is Disabled", 0),
        ({"ListEventSourceMappings": mappings("Creating")}, "m1 of session_audit is Creating", 60),
        (
            {"DescribeAlarms": {"MetricAlarms": [alarm("gave-up", "m1"), alarm("dropped", "old")]}},
            "alarm session_audit-dropped does not watch the mapping m1",
            0,
        ),
        (
            {"DescribeAlarms": {"MetricAlarms": [alarm("dropped", "m1")]}},
            "alarm session_audit-gave-up does not watch the mapping m1",
            0,
        ),
    ],
    ids=["none", "of another stream", "disabled", "creating", "made by hand", "no alarm"],
)
def test_mapping_that_no_alarm_would_miss_fails(
    clock: Any, answers: dict[str, Any], said: str, seconds: int
) -> None:
    """A mapping that is disabled or gone has no age of records and no errors."""
    service: Any = Service()

    with pytest.raises(OperationError, match=said):
        smoke(Deployment(deployed(**answers).account, "Sessions-prod"), service)

    assert seconds <= clock.now <= seconds + 1


def test_alarms_of_another_service_do_not_count() -> None:
    """Another service of the account has its own topic, and on the local stack all are listed."""
    others = [
        alarm(name, "m2") | {"AlarmActions": ["arn:other"]} for name in ("gave-up", "dropped")
    ]
    answer = {"MetricAlarms": [*others, alarm("gave-up", "m1"), alarm("dropped", "m1")]}

    aws = deployed(DescribeAlarms=answer)
    confirm_mapping(Deployment(aws.account, "Sessions-prod"), "session_audit")

    aws.answers["DescribeAlarms"] = {"MetricAlarms": others}
    with pytest.raises(OperationError, match="alarm session_audit-gave-up does not watch"):
        confirm_mapping(Deployment(aws.account, "Sessions-prod"), "session_audit")


def test_mapping_of_the_stack_is_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    confirm_mapping(Deployment(deployed().account, "Sessions-prod"), "session_audit")

    said = capsys.readouterr().out
    assert said == "  the stream of sessions goes to session_audit, and alarms watch that\n"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"ListRuleNamesByTarget": {"RuleNames": []}}, "No rule of EventBridge invokes"),
        ({"DescribeRule": {"State": "DISABLED"}}, "The rule every-minute, .* is DISABLED"),
    ],
)
def test_sweeper_that_is_never_invoked_fails(answers: dict[str, Any], said: str) -> None:
    """The alarm also notices this, but only ten minutes later."""
    with pytest.raises(OperationError, match=said):
        confirm_schedule(Deployment(deployed(EXPIRY_OUTPUTS, **answers).account, "Sessions-prod"))


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            {"DescribeAlarms": {"MetricAlarms": [alarm("gave-up", "m1"), alarm("dropped", "m1")]}},
            "alarm session_timers-gave-up does not watch",
        ),
        ({"DescribeRule": {"State": "DISABLED"}}, "The rule every-minute"),
    ],
)
def test_broken_prompt_expiry_fails(clock: Any, answers: dict[str, Any], said: str) -> None:
    service: Any = Service()

    with pytest.raises(OperationError, match=said):
        smoke(Deployment(deployed(EXPIRY_OUTPUTS, **answers).account, "Sessions-prod"), service)


def test_timers_without_ttl_fail() -> None:
    """Nothing else deletes them."""
    states = iter(["ENABLED", "ENABLED", "DISABLED"])

    def describe() -> dict[str, Any]:
        ttl = {"TimeToLiveStatus": next(states), "AttributeName": "ExpirationTime"}
        return {"TimeToLiveDescription": ttl}

    aws = deployed(EXPIRY_OUTPUTS, DescribeTimeToLive=describe)
    service: Any = Service()

    with pytest.raises(OperationError, match="TTL of timers is DISABLED"):
        smoke(Deployment(aws.account, "Sessions-prod"), service)


class Services(dict[str, Service]):
    """The services that `smoke` calls, by the output that has the URL. One of them is broken."""

    broken: str | None = None

    def open(self, output: str = "ApiUrl") -> Any:
        service = Service("create", Unavailable("no answer") if output == self.broken else None)
        service.trail = [SimpleNamespace(type="created"), SimpleNamespace(type="revoked")]
        self[output] = service
        return nullcontext(service)


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    services = Services()
    monkeypatch.setattr(Deployment, "sessions", lambda _, *output: services.open(*output))
    return services


def smoke_of_a_working_service(aws: Aws) -> None:
    """The authorizer allows each session once, and denies it then."""
    answers = cycle([{"isAuthorized": True}, {"isAuthorized": False}])
    aws.answers["Invoke"] = lambda: {"Payload": BytesIO(json.dumps(next(answers)).encode())}
    deployment = Deployment(aws.account, "Sessions-prod")

    with deployment.sessions() as service:
        smoke(deployment, service)


def test_prompt_expiry_is_confirmed(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    aws = deployed(EXPIRY_OUTPUTS)

    smoke_of_a_working_service(aws)

    said = capsys.readouterr().out
    assert "  TTL of timers is ENABLED on ExpirationTime\n" in said
    assert "  the stream of sessions goes to session_timers, and alarms watch that\n" in said
    assert "  session_sweeper is invoked by the rule every-minute\n" in said


def test_stack_without_prompt_expiry_has_no_sweeper_to_check(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = deployed()

    smoke_of_a_working_service(aws)

    assert not {action for action in aws.actions if action.startswith("events:")}
    assert "timers" not in capsys.readouterr().out


def test_second_session_goes_through_the_function_url(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke_of_a_working_service(deployed(FUNCTION_URL_OUTPUTS))

    calls = {"create": 1, "verify": 2, "change": 1, "revoke": 1, "get": 1}
    assert services["FunctionUrl"].calls == calls
    assert services["ApiUrl"].calls == calls | {"events": 1}
    said = capsys.readouterr().out
    assert "  the function URL accepts only signed calls\n" in said
    assert said.count("revoked, and gone") == 2


def test_stack_without_a_function_url_is_called_through_the_api_alone(services: Services) -> None:
    smoke_of_a_working_service(deployed())

    assert list(services) == ["ApiUrl"]


def test_function_url_that_anybody_may_call_fails(services: Services) -> None:
    """Somebody has changed it by hand. All other calls still succeed."""
    aws = deployed(FUNCTION_URL_OUTPUTS, GetFunctionUrlConfig={"AuthType": "NONE"})

    with pytest.raises(OperationError, match="accepts unsigned calls: its AuthType is NONE"):
        smoke_of_a_working_service(aws)


def test_broken_function_url_fails(services: Services, clock: Any) -> None:
    """The API still works."""
    services.broken = "FunctionUrl"

    with pytest.raises(Unavailable):
        smoke_of_a_working_service(deployed(FUNCTION_URL_OUTPUTS))


def test_operations_name_the_permissions_that_the_smoke_takes(services: Services) -> None:
    """On AWS, where it also reads the policy of the audit table."""
    aws = deployed(EXPIRY_OUTPUTS | FUNCTION_URL_OUTPUTS)

    smoke_of_a_working_service(aws)

    calls = {"execute-api:Invoke", "lambda:InvokeFunctionUrl"}
    assert documented_actions("smoke") == aws.actions | calls
