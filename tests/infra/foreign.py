"""The CDK app of another team, which has two services in one of its stacks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from aws_cdk import App, Duration, Stack, Tags, Validations
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk.aws_apigatewayv2_integrations import HttpUrlIntegration, WebSocketMockIntegration
from cdk_nag import AwsSolutionsChecks, ServerlessChecks

from serverless_sessions_cdk import Sessions, SessionsStack, Settings
from tests.support.template import app_without_bundle

PLANTED = "arn:aws:s3:::planted/*"


class Synthesized(NamedTuple):
    """The templates by the names of their stacks, and cdk-nag's findings."""

    templates: dict[str, dict[str, Any]]
    findings: set[tuple[str, str]]


class Shop(Stack):
    """Two services, one of which sends its events to a bus of this stack."""

    def __init__(self, app: App) -> None:
        super().__init__(app, "Shop")
        bus = events.EventBus(self, "Bus")
        self.customers = Sessions(
            self,
            "Customers",
            settings=Settings(event_bus=bus.event_bus_arn, function_url=True, prompt_expiry=True),
        )
        self.admins = Sessions(self, "Admins")


class Backend(Stack):
    """Callers of the services, and APIs that accept their tokens, in a stack of their own."""

    def __init__(self, app: App, *services: Sessions) -> None:
        super().__init__(app, "Backend")
        customers, *_ = services
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        job = iam.Role(self, "Job", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        # cdk-nag has to find this wildcard in spite of those of the grants.
        role.add_to_policy(iam.PolicyStatement(actions=["s3:GetObject"], resources=[PLANTED]))
        http = apigw.HttpApi(self, "Http", create_default_stage=False)
        rest = apigateway.RestApi(self, "Rest", cloud_watch_role=False)
        for service in services:
            service.grant_call(role)
            service.grant_read_directly(role)
            for path in ("orders", "returns"):
                http.add_routes(
                    path=f"/{service.node.id}/{path}",
                    integration=HttpUrlIntegration("Site", "https://example.com"),
                    authorizer=service.http_authorizer(cache=Duration.minutes(1)),
                )
                rest.root.add_resource(f"{service.node.id}-{path}").add_method(
                    "GET",
                    apigateway.HttpIntegration("https://example.com"),
                    authorizer=service.rest_authorizer(rest, header="Cookie"),
                )
        customers.grant_call(job, "POST /sessions/verify", "POST /sessions/{session_id}/renew")
        apigw.WebSocketApi(
            self,
            "WebSocket",
            connect_route_options=apigw.WebSocketRouteOptions(
                integration=WebSocketMockIntegration("Mock"),
                authorizer=customers.web_socket_authorizer(header="Cookie"),
            ),
        )


@cache
def synthesized() -> Synthesized:
    app = app_without_bundle({})
    shop, alone = Shop(app), SessionsStack(app, "Alone")
    Backend(app, shop.customers, shop.admins, alone.sessions)
    Tags.of(app).add("service", "shop")
    reported = findings(app)
    templates = {
        name: json.loads((Path(app.outdir) / f"{name}.template.json").read_text())
        for name in ("Shop", "Alone", "Backend")
    }
    return Synthesized(templates, reported)


def findings(app: App) -> set[tuple[str, str]]:
    """Synthesize `app` and return cdk-nag's findings: rules and paths of constructs."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
    report = Path(app.outdir) / "validation-report.json"
    try:
        app.synth()
    except RuntimeError:
        if not report.exists():
            raise
    return {
        (violation["ruleName"], construct["constructPath"])
        for plugin in json.loads(report.read_text())["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    }


def shop() -> dict[str, Any]:
    return synthesized().templates["Shop"]
