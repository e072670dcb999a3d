"""The promises of the template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import boto3
import pytest
import yaml
from aws_cdk import Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Match, Template
from cdk_nag import AwsSolutionsChecks, ServerlessChecks
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.template import FULL, ROOT, document, resources, synthesize, template

STAGES = ["dev", "prod", "local", FULL]
DAY = 86_400
TTL = {"AttributeName": "ExpirationTime", "Enabled": True}


def table(name: str, stage: str = "dev") -> dict[str, Any]:
    """Return `Sessions`, `SessionAudit` or `Timers`."""
    tables = resources("AWS::DynamoDB::GlobalTable", stage)
    [properties] = [table for logical_id, table in tables.items() if logical_id[7:-8] == name]
    return dict(properties)


@pytest.mark.parametrize("stage", STAGES)
def test_cached_template_is_that_of_the_stack(stage: str) -> None:
    """Most tests read the template from disk."""
    assert document(stage) == template(stage).to_json()


@pytest.mark.parametrize("name", ["Sessions", "SessionAudit"])
@pytest.mark.parametrize("stage", STAGES)
def test_ttl_is_on_expiration_time(stage: str, name: str) -> None:
    """This is the attribute that the code writes.

    With another attribute, items would silently stay.
    """
    assert table(name, stage)["TimeToLiveSpecification"] == TTL


def test_timers_have_their_keys_and_ttl_and_no_copies() -> None:
    """They can be lost: TTL ends the session whose timer is missing, only later."""
    timers = table("Timers", FULL)
    [replica] = timers["Replicas"]
    [resource] = [
        resource
        for name, resource in document(FULL)["Resources"].items()
        if name.startswith("StorageTimers")
    ]

    assert [key["AttributeName"] for key in timers["KeySchema"]] == ["Slot", "Due"]
    assert {d["AttributeName"]: d["AttributeType"] for d in timers["AttributeDefinitions"]} == {
        "Slot": "S",
        "Due": "S",
    }
    assert timers["BillingMode"] == "PAY_PER_REQUEST"
    assert timers["TimeToLiveSpecification"] == TTL
    assert "StreamSpecification" not in timers
    assert "GlobalSecondaryIndexes" not in timers
    assert "PointInTimeRecoverySpecification" not in replica
    assert "DeletionProtectionEnabled" not in replica
    assert resource["DeletionPolicy"] == "Delete"


@pytest.mark.parametrize("stage", STAGES)
def test_stream_carries_old_and_new_images(stage: str) -> None:
    """A deletion by TTL only has an old image. A change is classified by comparing both images."""
    assert table("Sessions", stage)["StreamSpecification"] == {
        "StreamViewType": "NEW_AND_OLD_IMAGES"
    }


def test_trail_has_a_stream_only_if_events_are_sent() -> None:
    """The new image is enough, because an event never changes."""
    assert "StreamSpecification" not in table("SessionAudit")
    assert "StreamSpecification" not in table("SessionAudit", "prod")
    assert table("SessionAudit", "local")["StreamSpecification"] == {"StreamViewType": "NEW_IMAGE"}


def test_keys_and_indexes() -> None:
    def keys(schema: list[dict[str, str]]) -> list[str]:
        return [key["AttributeName"] for key in schema]

    sessions, audit = table("Sessions"), table("SessionAudit")
    [sessions_index], [audit_index] = (
        properties["GlobalSecondaryIndexes"] for properties in (sessions, audit)
    )

    assert keys(sessions["KeySchema"]) == ["SessionId"]
    assert keys(sessions_index["KeySchema"]) == ["UserId", "CreatedAt"]
    assert sessions_index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert keys(audit["KeySchema"]) == ["SessionId", "EventId"]
    assert keys(audit_index["KeySchema"]) == ["UserId", "EventId"]
    assert audit_index["Projection"] == {"ProjectionType": "ALL"}
    assert sessions_index["IndexName"] == audit_index["IndexName"] == "UserIndex"
    assert {d["AttributeName"]: d["AttributeType"] for d in sessions["AttributeDefinitions"]} == {
        "SessionId": "S",
        "UserId": "S",
        "CreatedAt": "N",
    }


@pytest.mark.parametrize("name", ["Sessions", "SessionAudit"])
def test_tables_are_on_demand_and_recoverable(name: str) -> None:
    [replica] = table(name, "prod")["Replicas"]

    assert table(name, "prod")["BillingMode"] == "PAY_PER_REQUEST"
    assert replica["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert replica["DeletionProtectionEnabled"] is True


@pytest.mark.parametrize(("stage", "policy"), [("dev", "Delete"), ("prod", "Retain")])
def test_data_outlives_the_stack_in_production(stage: str, policy: str) -> None:
    kinds = ("AWS::DynamoDB::GlobalTable", "AWS::S3::Bucket", "AWS::Logs::LogGroup")
    for kind in kinds:
        for resource in template(stage).find_resources(kind).values():
            assert resource["DeletionPolicy"] == policy


def test_every_route_is_explicit_and_needs_iam() -> None:
    routes = resources("AWS::ApiGatewayV2::Route").values()

    assert {route["AuthorizationType"] for route in routes} == {"AWS_IAM"}
    assert sorted(route["RouteKey"] for route in routes) == sorted(
        [
            "POST /sessions",
            "GET /sessions",
            "GET /sessions/{session_id}",
            "PATCH /sessions/{session_id}",
            "PUT /sessions/{session_id}",
            "DELETE /sessions/{session_id}",
            "POST /sessions/{session_id}/renew",
            "POST /sessions/{session_id}/rotate",
            "POST /sessions/{session_id}/authenticate",
            "POST /sessions/verify",
            "DELETE /sessions",
            "GET /events",
        ]
    )


def test_contract_names_the_same_routes() -> None:
    """The other tests check answers against docs/openapi.yaml."""
    contract = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    methods = {"get", "post", "put", "patch", "delete"}
    documented = {
        f"{method.upper()} {path}"
        for path, operations in contract["paths"].items()
        for method in operations.keys() & methods
    }

    assert documented == {
        route["RouteKey"] for route in resources("AWS::ApiGatewayV2::Route").values()
    }
    OpenAPIV31SpecValidator(contract).validate()


def test_api_is_throttled_and_logged() -> None:
    [stage] = resources("AWS::ApiGatewayV2::Stage").values()

    assert stage["StageName"] == "$default"
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": 500,
        "ThrottlingBurstLimit": 1000,
    }
    assert "$context.requestId" in stage["AccessLogSettings"]["Format"]


def test_stage_names_its_log_group_as_api_gateway_does() -> None:
    """With the `:*` of a log group's own attribute, drift detection would find a difference."""
    [stage] = resources("AWS::ApiGatewayV2::Stage").values()
    [group] = [name for name in resources("AWS::Logs::LogGroup") if name.startswith("ApiAccessLog")]

    kind, parts = stage["AccessLogSettings"]["DestinationArn"]["Fn::Join"]
    assert kind == ""
    assert parts == [
        "arn:",
        {"Ref": "AWS::Partition"},
        ":logs:",
        {"Ref": "AWS::Region"},
        ":",
        {"Ref": "AWS::AccountId"},
        ":log-group:",
        {"Ref": group},
    ]


def actions(role: str, stage: str = "dev") -> dict[str, set[str]]:
    """Return the actions of a function's role by resource, with short names."""
    actions_by_resource: dict[str, set[str]] = {}
    for policy in resources("AWS::IAM::Policy", stage).values():
        if not policy["Roles"][0]["Ref"].startswith(role):
            continue
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            allowed = statement["Action"]
            on = statement["Resource"]
            for resource in on if isinstance(on, list) else [on]:
                actions_by_resource.setdefault(short(resource), set()).update(
                    [allowed] if isinstance(allowed, str) else allowed
                )
    return actions_by_resource


def short(resource: Any) -> str:
    match resource:
        case str():
            return resource
        case {"Fn::GetAtt": [logical, "Arn"]}:
            return str(logical[:-8])
        case {"Fn::GetAtt": [logical, attribute]}:
            return f"{logical[:-8]}.{attribute}"
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::Join": ["", parts]}:
            return "".join(map(short, parts))
    raise AssertionError(resource)


TRACING = {"*": {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}}
LOGGING = {"logs:CreateLogStream", "logs:PutLogEvents"}


def test_api_may_only_use_the_actions_that_it_needs() -> None:
    """It may not scan or delete. It may only read the trail, and only query one index."""
    assert actions("ApiSessionApiRole") == TRACING | {
        "ApiSessionApiLogs": LOGGING,
        "StorageSessions": {
            "dynamodb:PutItem",
            "dynamodb:GetItem",
            "dynamodb:UpdateItem",
            "dynamodb:BatchGetItem",
        },
        "StorageSessions/index/UserIndex": {"dynamodb:Query"},
        "StorageSessionAudit": {"dynamodb:Query"},
        "StorageSessionAudit/index/UserIndex": {"dynamodb:Query"},
    }


def test_audit_function_is_updated_after_those_that_write() -> None:
    """It applies `not_before` to sessions from its start on.

    The other functions must have the setting before.
    """
    [version] = [
        version
        for name, version in template().find_resources("AWS::Lambda::Version").items()
        if name.startswith("AuditSessionAudit")
    ]
    aliases = {name[:-8] for name in resources("AWS::Lambda::Alias")}

    writers = {"ApiSessionApiLive", "AuthorizerSessionAuthorizerLive"}
    assert writers <= aliases
    assert writers <= {name[:-8] for name in version["DependsOn"]}


def test_audit_may_add_events_and_change_none() -> None:
    """PartiQL's INSERT fails if the key exists, so the trail is append-only by permission."""
    assert actions("AuditSessionAuditRole") == TRACING | {
        "AuditSessionAuditLogs": LOGGING,
        "StorageSessionAudit": {"dynamodb:PartiQLInsert", "dynamodb:BatchGetItem"},
        "StorageSessions.StreamArn": {
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
        },
        "AuditFailedEvents/aws/lambda/*": {"s3:PutObject"},
        "AuditFailedEvents": {"s3:ListBucket"},
    }


def test_events_may_read_the_trails_stream_and_put_on_the_one_bus() -> None:
    """It may not read sessions, their stream or the bucket for failed events."""
    bus = "arn:<AWS::Partition>:events:<AWS::Region>:<AWS::AccountId>:event-bus/default"

    assert actions("EventsSessionEventsRole", "local") == TRACING | {
        "EventsSessionEventsLogs": LOGGING,
        "StorageSessionAudit.StreamArn": {
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
        },
        bus: {"events:PutEvents"},
        "EventsUndelivered/aws/lambda/*": {"s3:PutObject"},
        "EventsUndelivered": {"s3:ListBucket"},
    }


def test_bus_may_be_set_by_its_arn() -> None:
    """The bus may be in another account."""
    arn = "arn:aws:events:eu-west-1:444455556666:event-bus/security"
    _, stack = synthesize(event_bus=arn)

    Template.from_stack(stack).has_resource_properties(
        "AWS::IAM::Policy",
        {
            "PolicyDocument": {
                "Statement": Match.array_with(
                    [{"Action": "events:PutEvents", "Effect": "Allow", "Resource": arn}]
                )
            }
        },
    )


def test_authorizer_may_read_and_update_a_session_and_nothing_else() -> None:
    """It marks tokens and ends stolen sessions.

    It cannot create or list sessions, or read the trail.
    """
    assert actions("AuthorizerSessionAuthorizerRole") == TRACING | {
        "AuthorizerSessionAuthorizerLogs": LOGGING,
        "StorageSessions": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
    }


def test_only_apis_of_this_account_may_invoke_the_authorizer() -> None:
    """The source of a call is an API of the account."""
    [permission] = [
        properties
        for name, properties in resources("AWS::Lambda::Permission").items()
        if name.startswith("Authorizer")
    ]

    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert permission["Action"] == "lambda:InvokeFunction"
    assert permission["FunctionName"] == {
        "Ref": next(
            name for name in resources("AWS::Lambda::Alias") if name.startswith("Authorizer")
        )
    }
    arn = permission["SourceArn"]["Fn::Join"][1]
    assert [part for part in arn if isinstance(part, dict)] == [
        {"Ref": "AWS::Partition"},
        {"Ref": "AWS::Region"},
        {"Ref": "AWS::AccountId"},
    ]
    assert arn[-1] == ":*/authorizers/*"


def test_timers_function_may_only_set_timers() -> None:
    """It may neither read nor change sessions, but for the records of their stream.

    It may not delete a timer either, because PartiQL's INSERT only adds items.
    """
    assert actions("ExpirySessionTimersRole", FULL) == TRACING | {
        "ExpirySessionTimersLogs": LOGGING,
        "StorageTimers": {"dynamodb:PartiQLInsert"},
        "StorageSessions.StreamArn": {
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
        },
        "ExpiryFailedEvents/aws/lambda/*": {"s3:PutObject"},
        "ExpiryFailedEvents": {"s3:ListBucket"},
    }


def test_sweeper_may_delete_sessions_and_change_none() -> None:
    """It cannot create, renew or list sessions, and has no access to the trail."""
    assert actions("ExpirySessionSweeperRole", FULL) == TRACING | {
        "ExpirySessionSweeperLogs": LOGGING,
        "StorageTimers": {"dynamodb:Query", "dynamodb:PartiQLInsert", "dynamodb:UpdateItem"},
        "StorageSessions": {"dynamodb:BatchGetItem", "dynamodb:PartiQLDelete"},
    }


def _without_versions(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template without the digests of functions in the ids of their versions."""
    text = re.sub(r"(CurrentVersion[0-9A-F]{8})[0-9a-f]{32}", r"\1", json.dumps(document))
    versionless: dict[str, Any] = json.loads(text)
    return versionless


def test_prompt_expiry_adds_to_the_template_and_changes_nothing() -> None:
    """Without the setting, the template is what it was before there was one.

    With it, only two things differ: the dashboard, which also shows the new metrics, and a variable
    of the API's function, so that the API can say when an expiry will be recorded.
    """
    without = _without_versions(document("local"))
    with_it = _without_versions(template("local", prompt_expiry=True).to_json())
    added = with_it["Resources"].keys() - without["Resources"].keys()

    assert not re.search("timers|sweeper|prompt.?expiry", json.dumps(without), re.IGNORECASE)
    [api] = [
        resource["Properties"]["Environment"]["Variables"]
        for resource in with_it["Resources"].values()
        if resource["Properties"].get("Handler") == "session_api.handler.lambda_handler"
    ]
    assert api.pop("PROMPT_EXPIRY") == "true"
    changed = [
        resource["Type"]
        for name, resource in without["Resources"].items()
        if with_it["Resources"][name] != resource
    ]
    assert changed == ["AWS::CloudWatch::Dashboard"]
    assert without["Outputs"].items() <= with_it["Outputs"].items()
    for name in added:
        assert re.match("Expiry|StorageTimers|Monitoring(session|Timers|sweeper|timers)", name)


def test_function_url_is_for_callers_with_iam_credentials() -> None:
    """No policy of the function lets anybody in, so each caller needs permissions of its own."""
    [alias] = [name for name in resources("AWS::Lambda::Alias", FULL) if name.startswith("Api")]
    function = resources("AWS::Lambda::Alias", FULL)[alias]["FunctionName"]["Ref"]
    [(name, url)] = resources("AWS::Lambda::Url", FULL).items()
    outputs = document(FULL)["Outputs"]
    permissions = resources("AWS::Lambda::Permission", FULL).values()

    assert url == {
        "AuthType": "AWS_IAM",
        "TargetFunctionArn": {"Fn::GetAtt": [function, "Arn"]},
        "Qualifier": "live",
    }
    assert alias in document(FULL)["Resources"][name]["DependsOn"]
    assert outputs["FunctionUrl"]["Value"] == {"Fn::GetAtt": [name, "FunctionUrl"]}
    assert outputs["ApiFunctionArn"]["Value"] == {"Ref": alias}
    principals = {permission["Principal"] for permission in permissions}
    assert principals == {"apigateway.amazonaws.com", "events.amazonaws.com"}


def test_function_url_adds_to_the_template_and_changes_nothing() -> None:
    """With the setting, only the dashboard differs, which also shows the new metrics."""
    without = document("dev")
    with_it = template("dev", function_url=True).to_json()

    assert not re.search("function.?url", json.dumps(without), re.IGNORECASE)
    changed = [
        resource["Type"]
        for name, resource in without["Resources"].items()
        if with_it["Resources"][name] != resource
    ]
    assert changed == ["AWS::CloudWatch::Dashboard"]
    added = with_it["Resources"].keys() - without["Resources"].keys()
    assert sorted(with_it["Resources"][name]["Type"] for name in added) == [
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Alarm",
        "AWS::Lambda::Url",
    ]


def test_no_role_may_change_or_delete_an_event() -> None:
    forbidden = ("Put", "Update", "Delete", "BatchWrite", "PartiQLUpdate", "PartiQLDelete", "*")
    for role in ("ApiSessionApiRole", "AuditSessionAuditRole"):
        for action in actions(role)["StorageSessionAudit"]:
            assert not action.removeprefix("dynamodb:").startswith(forbidden)


def test_what_is_global_in_an_account_is_named_by_region() -> None:
    """A second region's stack would replace, or fail on, what has the name of the first one's."""
    names = {
        "AWS::CloudWatch::Dashboard": "DashboardName",
        "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
        "AWS::IAM::Role": "RoleName",
        "AWS::S3::Bucket": "BucketName",
    }
    named = {
        kind: properties[names[kind]]
        for kind in names
        for properties in resources(kind, "local").values()
        if names[kind] in properties
    }

    assert named == {
        "AWS::CloudWatch::Dashboard": {
            "Fn::Join": ["", ["Sessions-local-", {"Ref": "AWS::Region"}]]
        }
    }


def test_roles_hold_no_managed_policy() -> None:
    roles = resources("AWS::IAM::Role")

    assert len(roles) == 3
    for role in roles.values():
        assert "ManagedPolicyArns" not in role


def test_functions_are_lean_traced_and_log_json_for_a_limited_time() -> None:
    functions = resources("AWS::Lambda::Function", "prod").values()

    assert len(functions) == 3
    for function in functions:
        assert function["Architectures"] == ["arm64"]
        assert function["Runtime"] == "python3.13"
        assert function["TracingConfig"] == {"Mode": "Active"}
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        assert "SnapStart" not in function
    for group in resources("AWS::Logs::LogGroup", "prod").values():
        assert group["RetentionInDays"] == 365


def test_callers_use_the_alias() -> None:
    template().all_resources_properties("AWS::Lambda::Alias", {"Name": "live"})
    [mapping] = resources("AWS::Lambda::EventSourceMapping").values()
    [integration] = resources("AWS::ApiGatewayV2::Integration").values()

    assert mapping["FunctionName"]["Fn::Join"][1][1] == ":live"
    assert "Live" in integration["IntegrationUri"]["Ref"]
    assert integration["PayloadFormatVersion"] == "2.0"


def mapping(consumer: str, stage: str = "dev") -> dict[str, Any]:
    [properties] = [
        properties
        for name, properties in resources("AWS::Lambda::EventSourceMapping", stage).items()
        if name.startswith(consumer)
    ]
    return dict(properties)


def test_only_new_events_are_sent() -> None:
    """TTL's deletions of old events are filtered out."""
    properties = mapping("EventsSessionEvents", "local")

    assert short(properties["EventSourceArn"]) == "StorageSessionAudit.StreamArn"
    [pattern] = properties["FilterCriteria"]["Filters"]
    assert json.loads(pattern["Pattern"]) == {"eventName": ["INSERT"]}
    for consumer in ("AuditSessionAudit", "ExpirySessionTimers"):
        assert "FilterCriteria" not in mapping(consumer, FULL)


def test_timers_are_set_from_the_stream_of_sessions() -> None:
    """A stream has at most two consumers that are functions, so there is no third one."""
    streams = [
        short(properties["EventSourceArn"])
        for properties in resources("AWS::Lambda::EventSourceMapping", FULL).values()
    ]

    properties = mapping("ExpirySessionTimers", FULL)
    assert short(properties["EventSourceArn"]) == "StorageSessions.StreamArn"
    assert streams.count("StorageSessions.StreamArn") == 2


def test_sweeper_runs_every_minute_and_is_never_retried() -> None:
    """The next run continues the work of one that failed. Two runs at once would be of no use."""
    [rule] = resources("AWS::Events::Rule", FULL).values()
    [config] = resources("AWS::Lambda::EventInvokeConfig", FULL).values()
    [permission] = [
        properties
        for name, properties in resources("AWS::Lambda::Permission", FULL).items()
        if name.startswith("Expiry")
    ]
    [alias] = [
        name
        for name in resources("AWS::Lambda::Alias", FULL)
        if name.startswith("ExpirySessionSweeper")
    ]

    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "ENABLED")
    [target] = rule["Targets"]
    assert target["Arn"] == permission["FunctionName"] == {"Ref": alias}
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}
    assert permission["Principal"] == "events.amazonaws.com"
    assert short(permission["SourceArn"]) == "ExpiryEveryMinute"
    assert config["Qualifier"]["Fn::Select"][1]["Fn::Split"][1] == {"Ref": alias}
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 60)


@pytest.mark.parametrize(
    ("consumer", "kept"),
    [
        ("AuditSessionAudit", "AuditFailedEvents"),
        ("EventsSessionEvents", "EventsUndelivered"),
        ("ExpirySessionTimers", "ExpiryFailedEvents"),
    ],
)
def test_failure_plan_of_a_stream(consumer: str, kept: str) -> None:
    """An outage of some hours loses nothing.

    Records that the stream would drop after a day are stored.
    """
    properties = mapping(consumer, FULL)

    assert short(properties["DestinationConfig"]["OnFailure"]["Destination"]) == kept
    plan = {
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 1,
        "ParallelizationFactor": 4,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": -1,
        "MaximumRecordAgeInSeconds": 22 * 3600,
        # Without these metrics, nobody would notice records that Lambda gave up on.
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }
    assert properties | plan == properties


def test_failed_events_are_private_and_kept_for_a_month() -> None:
    buckets = resources("AWS::S3::Bucket", FULL).values()

    assert len(buckets) == 3
    for bucket in buckets:
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket["LifecycleConfiguration"]["Rules"] == [
            {"ExpirationInDays": 30, "Status": "Enabled"}
        ]


def test_no_one_may_change_an_event() -> None:
    """This includes administrators. TTL may delete events, because it acts as an AWS service."""
    [audit] = [
        table for name, table in resources("AWS::DynamoDB::GlobalTable").items() if "Audit" in name
    ]
    [replica] = audit["Replicas"]
    statements = replica["ResourcePolicy"]["PolicyDocument"]["Statement"]
    not_ttl = {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}
    [role] = [
        name for name in resources("AWS::IAM::Role") if name.startswith("AuditSessionAuditRole")
    ]
    everyone = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Resource": "*"}

    assert statements == [
        everyone
        | {
            "Action": [
                "dynamodb:BatchWriteItem",
                "dynamodb:DeleteItem",
                "dynamodb:PartiQLDelete",
                "dynamodb:PartiQLUpdate",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
            ],
            "Condition": not_ttl,
        },
        everyone
        | {
            "Action": "dynamodb:PartiQLInsert",
            "Condition": not_ttl
            | {"ArnNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": [role, "Arn"]}}},
        },
    ]


ENDPOINT = "https://dynamodb.${AWS::Region}.${AWS::URLSuffix}"


def test_functions_get_their_settings() -> None:
    def as_text(value: Any) -> str:
        match value:
            case {"Ref": "AWS::Region" | "AWS::URLSuffix" as name}:
                return f"${{{name}}}"
            case {"Ref": str(logical_id)}:
                return logical_id[:-8].removeprefix("Storage").removeprefix("Audit")
            case {"Fn::GetAtt": [str(logical_id), name]}:
                return f"{logical_id[:-8]}.{name}"
            case {"Fn::Join": ["", [*parts]]}:
                return "".join(as_text(part) for part in parts)
        return str(value)

    environments = {}
    for function in resources("AWS::Lambda::Function", FULL).values():
        variables = function["Environment"]["Variables"]
        environments[variables["POWERTOOLS_SERVICE_NAME"]] = {
            name: as_text(variable)
            for name, variable in variables.items()
            if name != "POWERTOOLS_SERVICE_NAME"
        }

    assert environments == {
        "session_api": {
            "DYNAMODB_CLIENT": "lean",
            "DYNAMODB_ENDPOINT": ENDPOINT,
            "SESSIONS_TABLE": "Sessions",
            "AUDIT_TABLE": "SessionAudit",
            "DEFAULT_TTL_SECONDS": "1800",
            "DEFAULT_ABSOLUTE_TTL_SECONDS": "86400",
            "MAX_ABSOLUTE_TTL_SECONDS": "34560000",
            "MAX_IMPERSONATION_SECONDS": "3600",
            "MAX_DATA_BYTES": "65536",
            "RENEWAL_FRACTION": "0.1",
            "ROTATION_GRACE_SECONDS": "30",
            "NOT_BEFORE": "0",
            "RECORD_ANONYMOUS": "false",
            "PROMPT_EXPIRY": "true",
            "MAX_SESSIONS_PER_USER": "3",
        },
        "session_audit": {
            "DYNAMODB_CLIENT": "lean",
            "DYNAMODB_ENDPOINT": ENDPOINT,
            "AUDIT_TABLE": "SessionAudit",
            "AUDIT_RETENTION_SECONDS": str(400 * DAY),
            "UNRECORDED_EVENTS": "renewed,confirmed",
            "RECORD_ANONYMOUS": "false",
            "NOT_BEFORE": "0",
            "FAILED_EVENTS_BUCKET": "FailedEvents",
        },
        "session_authorizer": {
            "DYNAMODB_CLIENT": "lean",
            "DYNAMODB_ENDPOINT": ENDPOINT,
            "NOT_BEFORE": "0",
            "AUTHORIZE_ANONYMOUS": "false",
            "SESSIONS_TABLE": "Sessions",
            "SESSION_COOKIE": "__Host-session",
            "ROLE_ARN": "AuthorizerSessionAuthorizerRole.Arn",
        },
        "session_events": {
            "DYNAMODB_CLIENT": "lean",
            "DYNAMODB_ENDPOINT": ENDPOINT,
            "EVENT_BUS": "default",
            "FAILED_EVENTS_BUCKET": "EventsUndelivered",
        },
        "session_timers": {
            "DYNAMODB_CLIENT": "lean",
            "DYNAMODB_ENDPOINT": ENDPOINT,
            "TIMERS_TABLE": "Timers",
            "RECORD_ANONYMOUS": "false",
            "FAILED_EVENTS_BUCKET": "ExpiryFailedEvents",
        },
        "session_sweeper": {
            "DYNAMODB_CLIENT": "lean",
            "DYNAMODB_ENDPOINT": ENDPOINT,
            "SESSIONS_TABLE": "Sessions",
            "TIMERS_TABLE": "Timers",
        },
    }


def test_without_a_limit_the_functions_know_of_none() -> None:
    """So the setting changes nothing in a stack that does not use it."""
    for function in resources("AWS::Lambda::Function").values():
        assert "MAX_SESSIONS_PER_USER" not in function["Environment"]["Variables"]


@pytest.mark.parametrize(
    ("region", "suffix"),
    [
        ("eu-west-1", "amazonaws.com"),
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
        ("us-iso-east-1", "c2s.ic.gov"),
        ("us-isob-east-1", "sc2s.sgov.gov"),
    ],
)
def test_endpoint_of_the_functions_is_that_of_the_sdk(region: str, suffix: str) -> None:
    """In every partition, by the suffix that CloudFormation has for it."""
    endpoint = ENDPOINT.replace("${AWS::Region}", region).replace("${AWS::URLSuffix}", suffix)

    assert boto3.client("dynamodb", region_name=region).meta.endpoint_url == endpoint


def test_snap_start_and_boto3_can_be_enabled() -> None:
    _, stack = synthesize(snap_start=True, dynamodb_client="boto3")

    functions = Template.from_stack(stack).find_resources("AWS::Lambda::Function").values()
    assert len(functions) == 3
    for function in functions:
        properties = function["Properties"]
        assert properties["SnapStart"] == {"ApplyOn": "PublishedVersions"}
        assert properties["Environment"]["Variables"]["DYNAMODB_CLIENT"] == "boto3"


def test_outputs() -> None:
    assert set(template().find_outputs("*")) == {
        "ApiUrl",
        "SessionsTableName",
        "AuditTableName",
        "FailedEventsBucket",
        "AuditFunctionArn",
        "AuthorizerArn",
        "AlarmTopicArn",
    }
    assert set(template("local").find_outputs("*")) - set(template().find_outputs("*")) == {
        "FunctionUrl",
        "ApiFunctionArn",
        "EventsFunctionArn",
        "UndeliveredEventsBucket",
    }
    assert set(template(FULL).find_outputs("*")) - set(template("local").find_outputs("*")) == {
        "TimersTableName",
        "TimersFunctionArn",
        "SweeperFunctionArn",
        "FailedTimersBucket",
    }


@pytest.mark.parametrize("stage", STAGES)
def test_nag_finds_nothing(stage: str) -> None:
    """Suppressed findings have a reason at the place where the resource is created."""
    app, _ = synthesize(stage, alarm_email="ops@example.com")
    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))

    app.synth()


def test_nag_would_find_something() -> None:
    """If the checks did not run, or everything were suppressed, the test above would pass, too."""
    app, stack = synthesize()
    [role] = [
        construct
        for construct in stack.node.find_all()
        if isinstance(construct, iam.Role) and "SessionAudit" in construct.node.path
    ]
    role.add_to_policy(iam.PolicyStatement(actions=["dynamodb:*"], resources=["*"]))
    dynamodb.TableV2(
        stack,
        "Planted",
        partition_key=dynamodb.Attribute(name="k", type=dynamodb.AttributeType.STRING),
    )
    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))

    with pytest.raises(RuntimeError, match="(?i)validation"):
        app.synth()


def documented_command(start: str) -> str:
    """A command of docs/operations.md in one line, whose first words are `start`."""
    text = (ROOT / "docs/operations.md").read_text().replace("\\\n", " ")
    [command] = re.findall(rf"^\s+(aws {start} .*)$", text, re.MULTILINE)
    return str(command)


def test_runbook_makes_a_mapping_like_that_of_the_stack() -> None:
    """The one by hand, for the stream of a restored table."""
    command = documented_command("lambda create-event-source-mapping")
    options = dict(re.findall(r"--([\w-]+) ?([^-\s][^\s]*|-1)?(?= |$)", command))
    properties = mapping("AuditSessionAudit")

    assert options == {
        "function-name": "FUNCTION",
        "event-source-arn": "STREAM_ARN",
        "starting-position": properties["StartingPosition"],
        "batch-size": str(properties["BatchSize"]),
        "maximum-batching-window-in-seconds": str(properties["MaximumBatchingWindowInSeconds"]),
        "parallelization-factor": str(properties["ParallelizationFactor"]),
        "maximum-retry-attempts": str(properties["MaximumRetryAttempts"]),
        "maximum-record-age-in-seconds": str(properties["MaximumRecordAgeInSeconds"]),
        "bisect-batch-on-function-error": "",
        "function-response-types": ",".join(properties["FunctionResponseTypes"]),
        "destination-config": "OnFailure={Destination=arn:aws:s3:::BUCKET}",
        "metrics-config": f"Metrics={','.join(properties['MetricsConfig']['Metrics'])}",
    }
    assert len(properties.keys() - {"Tags"}) == len(options)
    [pattern] = mapping("EventsSessionEvents", "local")["FilterCriteria"]["Filters"]
    [documented] = re.findall("--filter-criteria '(.+)'", (ROOT / "docs/operations.md").read_text())
    [same] = json.loads(documented)["Filters"]
    assert json.loads(same["Pattern"]) == json.loads(pattern["Pattern"])


def test_runbook_points_alarms_to_another_mapping_and_leaves_all_else() -> None:
    command = (ROOT / "docs/operations.md").read_text().partition("put-metric-alarm")[2]
    query = command.partition(".{")[2].partition("}")[0]
    kept = {name: value for name, value in re.findall(r"(\w+): (\w+)", query)}

    for name in ("gave-up", "dropped"):
        [alarm] = [
            properties
            for properties in resources("AWS::CloudWatch::Alarm").values()
            if properties["AlarmName"] == f"Sessions-dev-session_audit-{name}"
        ]
        assert kept == {key: key for key in alarm if key not in ("Dimensions", "Tags")}
        assert [dimension["Name"] for dimension in alarm["Dimensions"]] == [
            "EventSourceMappingUUID"
        ]


def documented_statements(command: str) -> list[Any]:
    """Those of a policy in a command of docs/operations.md, after these words."""
    text = (ROOT / "docs/operations.md").read_text().replace("\\\n", " ")
    [policy] = re.findall(rf"aws {command} [^']*'([^']+)'", text)
    statements = json.loads(policy)["Statement"]
    return statements if isinstance(statements, list) else [statements]


def test_runbook_gives_the_bucket_for_failed_events_its_policy() -> None:
    [statement] = documented_statements("s3api put-bucket-policy")
    [policy] = [
        policy["PolicyDocument"]["Statement"]
        for name, policy in resources("AWS::S3::BucketPolicy").items()
        if name.startswith("AuditFailedEvents")
    ]

    assert [{**denial, "Resource": "…"} for denial in policy] == [{**statement, "Resource": "…"}]
    assert statement["Resource"] == ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"]


@pytest.mark.parametrize(
    ("command", "on"),
    [
        (
            "iam put-role-policy --role-name ROLE --policy-name failed-events",
            {
                "arn:aws:s3:::BUCKET/aws/lambda/*": "AuditFailedEvents/aws/lambda/*",
                "arn:aws:s3:::BUCKET": "AuditFailedEvents",
            },
        ),
        (
            "iam put-role-policy --role-name ROLE --policy-name restored-stream",
            {"STREAM_ARN": "StorageSessions.StreamArn"},
        ),
    ],
)
def test_runbook_gives_the_role_its_permissions(command: str, on: dict[str, str]) -> None:
    statements = documented_statements(command)

    allowed = {
        on[statement["Resource"]]: {statement["Action"]}
        if isinstance(statement["Action"], str)
        else set(statement["Action"])
        for statement in statements
    }
    assert allowed.keys() == set(on.values())
    assert allowed == {name: actions("AuditSessionAuditRole")[name] for name in allowed}
