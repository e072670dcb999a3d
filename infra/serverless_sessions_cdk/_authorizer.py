"""The Lambda authorizer that lets other APIs of the account accept session tokens."""

from __future__ import annotations

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from serverless_sessions_cdk._python_function import PythonFunction
from serverless_sessions_cdk._settings import Settings


class Authorizer(Construct):
    """APIs name `function.alias` as their authorizer."""

    def __init__(
        self, scope: Construct, id: str, *, sessions_table: str, settings: Settings
    ) -> None:
        super().__init__(scope, id)
        self.function = PythonFunction(
            self,
            "SessionAuthorizer",
            package="session_authorizer",
            environment={
                "SESSIONS_TABLE": sessions_table,
                "SESSION_COOKIE": settings.session_cookie,
                "NOT_BEFORE": str(settings.not_before),
                "AUTHORIZE_ANONYMOUS": str(settings.authorize_anonymous).lower(),
            },
            # API Gateway waits 10 s for an authorizer.
            timeout=Duration.seconds(10),
            settings=settings,
        )
        # The audit trail names the authorizer by this ARN.
        self.function.resource.add_environment("ROLE_ARN", self.function.role.role_arn)
        # The ARN of the source contains this account, which keeps out APIs of other accounts.
        self.function.alias.add_permission(
            "AnyApiOfThisAccount",
            principal=iam.ServicePrincipal("apigateway.amazonaws.com"),
            source_arn=Stack.of(self).format_arn(
                service="execute-api",
                resource="*",
                resource_name="authorizers/*",
                arn_format=ArnFormat.SLASH_RESOURCE_NAME,
            ),
        )
