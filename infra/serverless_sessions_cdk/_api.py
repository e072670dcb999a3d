"""The HTTP API: explicit routes to one function, for callers with IAM credentials.

If the setting `function_url` is true, the function also has a URL of its own, for the same callers.
"""

from __future__ import annotations

import json

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk.aws_apigatewayv2_authorizers import HttpIamAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from serverless_sessions_cdk._python_function import PythonFunction
from serverless_sessions_cdk._settings import Settings

_METHODS = {
    "/sessions": ("POST", "GET", "DELETE"),
    "/sessions/verify": ("POST",),
    "/sessions/{session_id}": ("GET", "PATCH", "PUT", "DELETE"),
    "/sessions/{session_id}/renew": ("POST",),
    "/sessions/{session_id}/rotate": ("POST",),
    "/sessions/{session_id}/authenticate": ("POST",),
    "/events": ("GET",),
}
ROUTES = frozenset(f"{method} {path}" for path, methods in _METHODS.items() for method in methods)
# The access log names callers and outcomes. Paths contain session ids, which are not secret, but
# never tokens.
_ACCESS_LOG = {
    "requestId": "$context.requestId",
    "time": "$context.requestTimeEpoch",
    "caller": "$context.identity.userArn",
    "sourceIp": "$context.identity.sourceIp",
    "routeKey": "$context.routeKey",
    "path": "$context.path",
    "status": "$context.status",
    "latencyMs": "$context.responseLatency",
    "error": "$context.error.message",
    "integrationError": "$context.integrationErrorMessage",
}


class Api(Construct):
    """`function` answers the requests to `api` at `url`, and `stage` has the metrics.

    The ARN of a route begins with `arn`. `function_url` is None without the setting.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        sessions_table: str,
        audit_table: str,
        settings: Settings,
    ) -> None:
        super().__init__(scope, id)
        limit = settings.max_sessions_per_user
        self.function = PythonFunction(
            self,
            "SessionApi",
            package="session_api",
            environment={
                "SESSIONS_TABLE": sessions_table,
                "AUDIT_TABLE": audit_table,
                "DEFAULT_TTL_SECONDS": str(settings.default_ttl_seconds),
                "DEFAULT_ABSOLUTE_TTL_SECONDS": str(settings.default_absolute_ttl_seconds),
                "MAX_ABSOLUTE_TTL_SECONDS": str(settings.max_absolute_ttl_seconds),
                "MAX_IMPERSONATION_SECONDS": str(settings.max_impersonation_seconds),
                "MAX_DATA_BYTES": str(settings.max_data_bytes),
                "RENEWAL_FRACTION": str(settings.renewal_fraction),
                "ROTATION_GRACE_SECONDS": str(settings.rotation_grace_seconds),
                "NOT_BEFORE": str(settings.not_before),
                "RECORD_ANONYMOUS": str(settings.record_anonymous).lower(),
                # They are left out by default, so that the settings do not change other templates.
                **({"PROMPT_EXPIRY": "true"} if settings.prompt_expiry else {}),
                **({"MAX_SESSIONS_PER_USER": str(limit)} if limit else {}),
            },
            # API Gateway gives up after 30 s.
            timeout=Duration.seconds(29),
            settings=settings,
            reserved_concurrency=settings.reserved_concurrency,
        )
        self.api = api = apigw.HttpApi(self, "HttpApi", create_default_stage=False)
        integration = HttpLambdaIntegration(
            "Integration", self.function.alias, scope_permission_to_route=False
        )
        for path, methods in _METHODS.items():
            api.add_routes(
                path=path,
                methods=[apigw.HttpMethod(method) for method in methods],
                integration=integration,
                authorizer=HttpIamAuthorizer(),
            )
        self.stage = apigw.HttpStage(
            self,
            "Stage",
            http_api=api,
            auto_deploy=True,
            throttle=apigw.ThrottleSettings(
                rate_limit=settings.throttle_rate_per_second,
                burst_limit=settings.throttle_burst,
            ),
        )
        access_log = logs.LogGroup(
            self,
            "AccessLog",
            retention=settings.log_retention,
            removal_policy=settings.removal_policy,
        )
        resource = self.stage.node.default_child
        assert isinstance(resource, apigw.CfnStage)  # noqa: S101
        resource.access_log_settings = apigw.CfnStage.AccessLogSettingsProperty(
            # The attribute of the log group ends with `:*`. API Gateway stores the ARN without it,
            # so drift detection would always find a difference.
            destination_arn=Stack.of(self).format_arn(
                service="logs",
                resource="log-group",
                resource_name=access_log.log_group_name,
                arn_format=ArnFormat.COLON_RESOURCE_NAME,
            ),
            format=json.dumps(_ACCESS_LOG),
        )
        self.url = api.api_endpoint
        self.function_url = (
            lambda_.FunctionUrl(
                self,
                "FunctionUrl",
                function=self.function.alias,
                auth_type=lambda_.FunctionUrlAuthType.AWS_IAM,
            )
            if settings.function_url
            else None
        )
        self.arn = Stack.of(self).format_arn(
            service="execute-api", resource=api.api_id, resource_name="$default"
        )
