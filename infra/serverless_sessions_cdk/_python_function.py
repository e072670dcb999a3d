"""A Lambda function from `functions/`, built without Docker, with a role of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jsii
from aws_cdk import (
    Acknowledgment,
    Annotations,
    AssetHashType,
    BundlingOptions,
    Duration,
    ILocalBundling,
    Stack,
    Validations,
)
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from deploy import bundle
from deploy.bundle import Target
from serverless_sessions_cdk._settings import Settings

_RUNTIME = lambda_.Runtime.PYTHON_3_13


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
        target = bundle.THIS_MACHINE if settings.stage == "local" else bundle.LAMBDA
        if not target.compiler:
            Annotations.of(stack).add_warning_v2(
                "serverless-sessions:no-byte-code",
                f"Found no Python {target.python} to compile the functions with, so a cold start"
                " of the API takes twice as long; name one with PYTHON_3_13.",
            )
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
            code=_code(target),
            handler=f"{package}.handler.lambda_handler",
            runtime=_RUNTIME,
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
                "DYNAMODB_CLIENT": settings.dynamodb_client.name,
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


def _code(target: Target) -> lambda_.Code:
    return lambda_.Code.from_asset(
        str(bundle.SOURCE),
        asset_hash=bundle.digest(target),
        asset_hash_type=AssetHashType.CUSTOM,
        bundling=BundlingOptions(image=_RUNTIME.bundling_image, local=_Bundling(target)),  # type: ignore[arg-type]
    )


@jsii.implements(ILocalBundling)
class _Bundling:
    """Builds a bundle for `target` without Docker, which the CDK would use otherwise."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def try_bundle(self, output_dir: str, _: BundlingOptions) -> bool:
        bundle.build(Path(output_dir), self._target)
        return True
