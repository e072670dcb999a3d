"""A shop with two session services in its own stack: one for customers, and one for its staff.

cdk deploy
"""

from pathlib import Path

from aws_cdk import App, CfnOutput, Duration, Stack
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from serverless_sessions_cdk import Sessions, Settings

FOLDER = Path(__file__).parent


class Shop(Stack):
    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        bus = events.EventBus(self, "Bus")
        customers = Sessions(self, "Customers", settings=Settings(event_bus=bus.event_bus_arn))
        # Members of the staff are signed in on one device, and only for a working day.
        Sessions(
            self,
            "Staff",
            settings=Settings(default_absolute_ttl_seconds=8 * 3600, max_sessions_per_user=1),
        )

        backend = lambda_.Function(
            self,
            "Backend",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            handler="backend.handler",
            code=lambda_.Code.from_asset(str(FOLDER / "backend")),
            # `pip install --target layer/python` makes this folder; see README.md.
            layers=[
                lambda_.LayerVersion(
                    self, "Client", code=lambda_.Code.from_asset(str(FOLDER / "layer"))
                )
            ],
            memory_size=512,
            timeout=Duration.seconds(15),
            environment={
                "SESSIONS_URL": customers.url,
                "SESSIONS_TABLE": customers.sessions_table.table_name,
            },
        )
        customers.grant_call(
            backend, "POST /sessions", "POST /sessions/verify", "DELETE /sessions/{session_id}"
        )
        customers.grant_read_directly(backend)

        api = apigw.HttpApi(self, "Api")
        integration = HttpLambdaIntegration("Backend", backend)
        for method, path in ((apigw.HttpMethod.POST, "/log-in"), (apigw.HttpMethod.GET, "/me")):
            api.add_routes(path=path, methods=[method], integration=integration)
        for method, path in (
            (apigw.HttpMethod.GET, "/orders"),
            (apigw.HttpMethod.POST, "/log-out"),
        ):
            api.add_routes(
                path=path,
                methods=[method],
                integration=integration,
                authorizer=customers.http_authorizer(),
            )

        # For example, a function could read this queue and close what the customer has open.
        undelivered = sqs.Queue(
            self, "Undelivered", enforce_ssl=True, retention_period=Duration.days(14)
        )
        log_outs = sqs.Queue(self, "LogOuts", enforce_ssl=True)
        events.Rule(
            self,
            "LoggedOut",
            event_bus=bus,
            event_pattern=events.EventPattern(
                source=["serverless-sessions"], detail_type=["revoked"]
            ),
            targets=[targets.SqsQueue(log_outs, dead_letter_queue=undelivered)],
        )

        CfnOutput(self, "ApiUrl", value=api.api_endpoint)
        CfnOutput(self, "LogOutsUrl", value=log_outs.queue_url)


if __name__ == "__main__":
    app = App()
    Shop(app, "Shop")
    app.synth()
