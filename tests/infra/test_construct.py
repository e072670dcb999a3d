"""The construct in the CDK app of another team."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template
from aws_cdk.aws_apigatewayv2_integrations import HttpUrlIntegration

from serverless_sessions_cdk import Sessions, SessionsStack, Settings
from tests.infra import foreign
from tests.support.template import app_without_bundle, resources


def of_type(kind: str, stack: str = "Shop") -> dict[str, Any]:
    """Return the properties of all resources of a type, by their logical ids."""
    return {
        name: resource.get("Properties", {})
        for name, resource in foreign.synthesized().templates[stack]["Resources"].items()
        if resource["Type"] == kind
    }


def prefixes(names: list[str]) -> set[str]:
    """Return what the names of alarms begin with."""
    return {name.removesuffix("-ttl-late") for name in names if name.endswith("-ttl-late")}


def test_alarms_and_dashboards_of_two_services_differ() -> None:
    """In a stack of its own, they are named after the stack."""
    names = [alarm["AlarmName"] for alarm in of_type("AWS::CloudWatch::Alarm").values()]
    dashboards = [
        board["DashboardName"] for board in of_type("AWS::CloudWatch::Dashboard").values()
    ]
    [alone] = of_type("AWS::CloudWatch::Dashboard", "Alone").values()
    region = {"Ref": "AWS::Region"}

    customers, admins = sorted(prefixes(names), reverse=True)
    assert re.fullmatch("Shop-Customers-[0-9A-F]{8}", customers)
    assert re.fullmatch("Shop-Admins-[0-9A-F]{8}", admins)
    assert len(names) == len(set(names))
    assert all(name.startswith((f"{customers}-", f"{admins}-")) for name in names)
    assert dashboards == [
        {"Fn::Join": ["", [f"{customers}-", region]]},
        {"Fn::Join": ["", [f"{admins}-", region]]},
    ]
    assert alone["DashboardName"] == {"Fn::Join": ["", ["Alone-", region]]}


def test_nothing_else_has_a_name_of_its_own() -> None:
    """A fixed name would clash with that of another service."""
    named = {
        (resource["Type"], name)
        for resource in foreign.shop()["Resources"].values()
        for name in resource.get("Properties", {})
        if re.fullmatch("(Table|Bucket|Topic|Function|LogGroup|Role)Name|Name", name)
        and not isinstance(resource["Properties"][name], dict)
    }

    # The name of an API need not be unique, and an alias is within its function.
    assert named <= {
        ("AWS::ApiGatewayV2::Api", "Name"),
        ("AWS::Events::EventBus", "Name"),
        ("AWS::Lambda::Alias", "Name"),
    }


def test_names_of_outputs_begin_with_the_path_of_the_construct() -> None:
    """`sessions --stack Shop --service Admins` finds them."""
    outputs = {name[:-8] for name in foreign.shop()["Outputs"] if not name.startswith("Exports")}
    admins = {name for name in outputs if name.startswith("Admins")}

    assert admins == {
        f"Admins{name}"
        for name in (
            "ApiUrl",
            "SessionsTableName",
            "AuditTableName",
            "AuditFunctionArn",
            "AuthorizerArn",
            "FailedEventsBucket",
            "AlarmTopicArn",
        )
    }
    assert outputs - admins == {name.replace("Admins", "Customers", 1) for name in admins} | {
        f"Customers{name}"
        for name in (
            "FunctionUrl",
            "ApiFunctionArn",
            "EventsFunctionArn",
            "UndeliveredEventsBucket",
            "TimersTableName",
            "TimersFunctionArn",
            "SweeperFunctionArn",
            "FailedTimersBucket",
        )
    }


def test_construct_alone_in_a_stack_has_the_resources_of_the_checkout() -> None:
    """Only their settings differ."""
    template = foreign.synthesized().templates["Alone"]

    for kind in ("AWS::DynamoDB::GlobalTable", "AWS::S3::Bucket", "AWS::IAM::Policy"):
        assert of_type(kind, "Alone").keys() == resources(kind).keys()
    assert {"ApiUrl", "AlarmTopicArn"} <= template["Outputs"].keys()


def test_tables_of_a_construct_stay_when_it_is_deleted() -> None:
    tables = [
        resource
        for name, resource in foreign.shop()["Resources"].items()
        if resource["Type"] == "AWS::DynamoDB::GlobalTable" and "Timers" not in name
    ]

    assert {table["DeletionPolicy"] for table in tables} == {"Retain"}


def test_tags_of_the_app_are_not_overwritten() -> None:
    for table in of_type("AWS::DynamoDB::GlobalTable").values():
        [replica] = table["Replicas"]
        assert replica["Tags"] == [{"Key": "service", "Value": "shop"}]


def statements(role: str) -> list[dict[str, Any]]:
    [policy] = [
        policy
        for policy in of_type("AWS::IAM::Policy", "Backend").values()
        if policy["Roles"][0]["Ref"].startswith(role)
    ]
    allowed: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return allowed


def flat(value: Any) -> str:
    match value:
        case {"Fn::Join": ["", parts]}:
            return "".join(map(flat, parts))
        case {"Fn::ImportValue": name} | {"Ref": name}:
            return f"<{re.sub('[0-9A-F]{8}', '', name)}>"
    return str(value)


API = "arn:<AWS::Partition>:execute-api:<AWS::Region>:<AWS::AccountId>:"


def test_grant_allows_the_named_routes_and_no_others() -> None:
    """A parameter of a path is a wildcard, as in docs/integrating/permissions.md."""
    [statement] = statements("Job")

    api = f"{API}<Shop:ExportsOutputRefCustomersApiHttpApi>/$default"
    assert statement["Effect"] == "Allow"
    assert statement["Action"] == "execute-api:Invoke"
    assert [flat(resource) for resource in statement["Resource"]] == [
        f"{api}/POST/sessions/verify",
        f"{api}/POST/sessions/*/renew",
    ]


def test_grant_without_routes_allows_them_all_and_direct_reading_allows_get_item() -> None:
    allowed = {
        (statement["Action"], flat(resource))
        for statement in statements("Role")
        for resource in (
            statement["Resource"]
            if isinstance(statement["Resource"], list)
            else [statement["Resource"]]
        )
    }

    table = "StorageSessions"
    assert allowed - {("s3:GetObject", foreign.PLANTED)} == {
        ("execute-api:Invoke", f"{API}<Shop:ExportsOutputRefCustomersApiHttpApi>/$default/*"),
        ("execute-api:Invoke", f"{API}<Shop:ExportsOutputRefAdminsApiHttpApi>/$default/*"),
        ("execute-api:Invoke", f"{API}<Alone:ExportsOutputRefApiHttpApi>/$default/*"),
        ("dynamodb:GetItem", f"<Shop:ExportsOutputFnGetAttCustomers{table}Arn>"),
        ("dynamodb:GetItem", f"<Shop:ExportsOutputFnGetAttAdmins{table}Arn>"),
        ("dynamodb:GetItem", f"<Alone:ExportsOutputFnGetAtt{table}Arn>"),
    }


@pytest.mark.parametrize("route", ["POST /sessions/verfy", "post /sessions", "/sessions", ""])
def test_grant_of_a_route_that_does_not_exist_names_those_that_do(route: str) -> None:
    stack = Stack(app_without_bundle({}), "Shop")
    role = iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    sessions = Sessions(stack, "Sessions")

    with pytest.raises(ValueError, match=f"no route '{route}'; it has DELETE /sessions, DELETE"):
        sessions.grant_call(role, "POST /sessions/verify", route)


def test_function_url_needs_two_permissions_and_the_setting() -> None:
    stack = Stack(app_without_bundle({}), "Caller")
    role = iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    with_url = Sessions(stack, "With", settings=Settings(function_url=True))
    without = Sessions(stack, "Without")

    with_url.grant_call_function_url(role)
    CfnOutput(stack, "Url", value=with_url.function_url)

    statements = Template.from_stack(stack).find_resources("AWS::IAM::Policy")
    [policy] = [p for name, p in statements.items() if name.startswith("RoleDefaultPolicy")]
    allowed = policy["Properties"]["PolicyDocument"]["Statement"]
    assert {statement["Action"] for statement in allowed} == {
        "lambda:InvokeFunctionUrl",
        "lambda:InvokeFunction",
    }
    assert all("Condition" in statement for statement in allowed)
    for use in (lambda: without.function_url, lambda: without.grant_call_function_url(role)):
        with pytest.raises(ValueError, match="has no function URL"):
            use()


def test_grant_to_nobody_in_particular_fails() -> None:
    """The policy of an account or a service cannot be written here."""
    stack = Stack(app_without_bundle({}), "Shop")
    sessions = Sessions(stack, "Sessions")

    with pytest.raises(RuntimeError, match="could not be added"):
        sessions.grant_call(iam.AccountPrincipal("111122223333"))
    with pytest.raises(RuntimeError, match="could not be added"):
        sessions.grant_read_directly(iam.AccountPrincipal("111122223333"))


def test_authorizers_with_different_caches_are_different() -> None:
    """A route that needs the truth must not get answers that another route keeps."""
    stack = Stack(app_without_bundle({}), "Shop")
    sessions = Sessions(stack, "Sessions")
    http, rest = apigw.HttpApi(stack, "Http"), apigateway.RestApi(stack, "Rest")
    for path, cache in (("orders", 60), ("payments", 0), ("refunds", 0)):
        http.add_routes(
            path=f"/{path}",
            integration=HttpUrlIntegration("Site", "https://example.com"),
            authorizer=sessions.http_authorizer(cache=Duration.seconds(cache)),
        )
        rest.root.add_resource(path).add_method(
            "GET", authorizer=sessions.rest_authorizer(rest, cache=Duration.seconds(cache))
        )
    template = Template.from_stack(stack)

    for kind in ("AWS::ApiGatewayV2::Authorizer", "AWS::ApiGateway::Authorizer"):
        authorizers = template.find_resources(kind).values()
        caches = [
            resource["Properties"]["AuthorizerResultTtlInSeconds"] for resource in authorizers
        ]
        assert sorted(caches) == [0, 60], kind


def test_every_api_has_one_authorizer_for_a_service() -> None:
    """The other stack only imports, so that no circle of references arises."""
    http = of_type("AWS::ApiGatewayV2::Authorizer", "Backend")
    rest = of_type("AWS::ApiGateway::Authorizer", "Backend")

    assert len(rest) == 3
    assert {authorizer["IdentitySource"] for authorizer in rest.values()} == {
        "method.request.header.Cookie"
    }
    assert {authorizer["AuthorizerResultTtlInSeconds"] for authorizer in rest.values()} == {0}
    [web_socket] = [
        authorizer
        for authorizer in http.values()
        if authorizer["IdentitySource"] == ["route.request.header.Cookie"]
    ]
    others = [authorizer for authorizer in http.values() if authorizer != web_socket]
    assert [authorizer["EnableSimpleResponses"] for authorizer in others] == [True] * 3
    assert {authorizer["AuthorizerPayloadFormatVersion"] for authorizer in others} == {"2.0"}
    assert {authorizer["AuthorizerResultTtlInSeconds"] for authorizer in others} == {60}
    uri = (
        "arn:<AWS::Partition>:apigateway:<AWS::Region>:lambda:path/2015-03-31/functions/"
        "<Shop:ExportsOutputRefCustomersAuthorizerSessionAuthorizerLive>/invocations"
    )
    assert flat(web_socket["AuthorizerUri"]) == uri
    assert uri in [flat(authorizer["AuthorizerUri"]) for authorizer in others]
    # Every API of the account may invoke the authorizer already.
    assert not of_type("AWS::Lambda::Permission", "Backend")


def test_nag_finds_nothing_that_it_would_not_find_without_us() -> None:
    """The wildcards of grants are acknowledged, but no others of the same role."""
    findings = foreign.synthesized().findings

    assert {finding for finding in findings if "IAM5" in finding[0]} == {
        (f"AwsSolutions-IAM5[Resource::{foreign.PLANTED}]", "Backend/Role/DefaultPolicy/Resource")
    }
    assert not [path for _, path in findings if not path.startswith("Backend/")]


def test_nag_accepts_a_grant_whose_stack_is_referenced_without_an_export() -> None:
    """The feature flag is on in an app that the CDK creates today."""
    app = app_without_bundle({"@aws-cdk/core:defaultCrossStackReferences": "weak"})
    service = SessionsStack(app, "Alone")
    backend = Stack(app, "Backend")
    role = iam.Role(backend, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    service.sessions.grant_call(role)

    assert foreign.findings(app) == set()
    assert "Fn::GetStackOutput" in (Path(app.outdir) / "Backend.template.json").read_text()
