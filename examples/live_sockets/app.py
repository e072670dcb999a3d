"""A WebSocket API for callers with a live session. When the session ends, its sockets are closed.

cdk deploy --context authorizer_arn=… --context origin=https://… [--context event_bus=default]
"""

from typing import Any

from aws_cdk import App, CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from aws_cdk.aws_apigatewayv2_authorizers import WebSocketLambdaAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import WebSocketLambdaIntegration

app = App()
authorizer_arn = app.node.get_context("authorizer_arn")
origin = app.node.get_context("origin")
event_bus = app.node.try_get_context("event_bus") or "default"
stack = Stack(app, "LiveSockets")

connections = dynamodb.TableV2(
    stack,
    "Connections",
    partition_key=dynamodb.Attribute(name="SessionId", type=dynamodb.AttributeType.STRING),
    time_to_live_attribute="ExpirationTime",
    removal_policy=RemovalPolicy.DESTROY,
)


def allow(function: lambda_.Function, action: str, resource: str) -> None:
    function.add_to_role_policy(iam.PolicyStatement(actions=[action], resources=[resource]))


def socket_function(name: str, **options: Any) -> lambda_.Function:
    """Create the function `name` in `functions/sockets.py`."""
    function = lambda_.Function(
        stack,
        name.capitalize(),
        runtime=lambda_.Runtime.PYTHON_3_13,
        architecture=lambda_.Architecture.ARM_64,
        handler=f"sockets.{name}",
        code=lambda_.Code.from_asset("functions"),
        timeout=Duration.seconds(20),
        environment={"CONNECTIONS_TABLE": connections.table_name, "ORIGIN": origin},
        **options,
    )
    allow(function, "dynamodb:UpdateItem", connections.table_arn)
    return function


authorizer = WebSocketLambdaAuthorizer(
    "Sessions",
    lambda_.Function.from_function_arn(stack, "SessionAuthorizer", authorizer_arn),
    # A page can't set the headers of the request that opens a socket, but cookies are sent with it.
    identity_source=["route.request.header.Cookie"],
)
api = apigw.WebSocketApi(
    stack,
    "Api",
    connect_route_options=apigw.WebSocketRouteOptions(
        integration=WebSocketLambdaIntegration("Connect", socket_function("connect")),
        authorizer=authorizer,
    ),
    disconnect_route_options=apigw.WebSocketRouteOptions(
        integration=WebSocketLambdaIntegration("Disconnect", socket_function("disconnect")),
    ),
)
stage = apigw.WebSocketStage(stack, "Live", web_socket_api=api, stage_name="live", auto_deploy=True)

# Events for which `close` could not be called, or failed.
undelivered = sqs.Queue(stack, "Undelivered", enforce_ssl=True, retention_period=Duration.days(14))
close = socket_function("close", on_failure=destinations.SqsDestination(undelivered))
allow(
    close,
    "execute-api:ManageConnections",
    api.arn_for_execute_api_v2("DELETE/@connections/*", stage.stage_name),
)
# The AWS SDK reads the endpoint of its client from this variable.
close.add_environment("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", stage.callback_url)
events.Rule(
    stack,
    "SessionEnded",
    event_bus=events.EventBus.from_event_bus_name(stack, "Bus", event_bus),
    event_pattern=events.EventPattern(
        source=["serverless-sessions"], detail_type=["revoked", "expired", "deleted"]
    ),
    targets=[targets.LambdaFunction(close, dead_letter_queue=undelivered)],
)
CfnOutput(stack, "SocketUrl", value=stage.url)
app.synth()
