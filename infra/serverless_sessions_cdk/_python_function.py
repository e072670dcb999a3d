"""A Lambda function from the bundle, with a role of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

from aws_cdk import Acknowledgment, Duration, Stack, Validations
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from serverless_sessions_cdk._settings import Settings

RUNTIME = lambda_.Runtime.PYTHON_3_13
# The key of a context value: the path of another bundle than that of the wheel.
BUNDLE = "serverless-sessions:bundle"


class PythonFunction(Construct):
    """The function whose `lambda_handler` is in `functions/<package>/handler.py`.

    Callers use `alias`, grants go to `role`, and metrics use `function_name`. `resource` is the
    function itself.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        package: str,
        environment: Mapping[str, str],
        timeout: Duration,
        settings: Settings,
        reserved_concurrency: int | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.package = package
        stack = Stack.of(self)
        log_group = logs.LogGroup(
            self,
            "Logs",
            retention=settings.log_retention,
            removal_policy=settings.removal_policy,
        )
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log_group.grant_write(self.role)
        self.resource = function = lambda_.Function(
            self,
            "Function",
            code=_code(self),
            handler=f"{package}.handler.lambda_handler",
            runtime=RUNTIME,
            architecture=lambda_.Architecture.ARM_64,
            memory_size=settings.memory_mb,
            timeout=timeout,
            role=self.role,
            log_group=log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            tracing=lambda_.Tracing.ACTIVE,
            reserved_concurrent_executions=reserved_concurrency,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if settings.snap_start else None,
            environment={
                "POWERTOOLS_SERVICE_NAME": package,
                "DYNAMODB_CLIENT": settings.dynamodb_client,
                "DYNAMODB_ENDPOINT": f"https://dynamodb.{stack.region}.{stack.url_suffix}",
                **environment,
            },
        )
        self.function_name = function.function_name
        self.alias = lambda_.Alias(
            self, "Live", alias_name="live", version=function.current_version
        )
        Validations.of(self).acknowledge(
            Acknowledgment(
                id="AwsSolutions-IAM5[Resource::*]",
                reason="X-Ray's PutTraceSegments and PutTelemetryRecords support no resource",
            ),
            *(
                Acknowledgment(id=id_, reason="A newer runtime has to be tested first")
                for id_ in ("AwsSolutions-L1", "Serverless-LambdaLatestVersion")
            ),
            Acknowledgment(
                id="Serverless-LambdaDLQ",
                reason="Callers get errors, streams retry, and after a scheduled run comes another",
            ),
        )


def _code(scope: Construct) -> lambda_.Code:
    """Return the bundle. Its comment, if it has one, is a digest of what it was built from."""
    path = scope.node.try_get_context(BUNDLE) or str(Path(__file__).with_name("bundle.zip"))
    with ZipFile(path) as bundle:
        return lambda_.Code.from_asset(path, asset_hash=bundle.comment.decode() or None)
