"""A small API with one route, which requires the token of a live session.

cdk deploy --context authorizer_arn=… [--context cache_seconds=0] [--context stack=ProtectedApi]
"""

from aws_cdk import App, CfnOutput, Duration, Stack
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_apigatewayv2_authorizers import HttpLambdaAuthorizer, HttpLambdaResponseType
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration

# The function returns what the authorizer says about the caller.
WHOAMI = """
import json

def handler(event, context):
    return json.dumps(event["requestContext"]["authorizer"]["lambda"])
"""

app = App()
authorizer_arn = app.node.get_context("authorizer_arn")
cache_seconds = int(app.node.try_get_context("cache_seconds") or 0)
stack = Stack(app, app.node.try_get_context("stack") or "ProtectedApi")

authorizer = HttpLambdaAuthorizer(
    "Sessions",
    lambda_.Function.from_function_arn(stack, "SessionAuthorizer", authorizer_arn),
    response_types=[HttpLambdaResponseType.SIMPLE],
    identity_source=["$request.header.Authorization"],
    results_cache_ttl=Duration.seconds(cache_seconds),
)
whoami = lambda_.Function(
    stack,
    "WhoAmI",
    runtime=lambda_.Runtime.PYTHON_3_13,
    architecture=lambda_.Architecture.ARM_64,
    handler="index.handler",
    code=lambda_.Code.from_inline(WHOAMI),
)
api = apigw.HttpApi(stack, "Api")
api.add_routes(
    path="/whoami",
    methods=[apigw.HttpMethod.GET],
    integration=HttpLambdaIntegration("WhoAmI", whoami),
    authorizer=authorizer,
)
CfnOutput(stack, "ApiUrl", value=api.api_endpoint)
app.synth()
