"""A Lambda function from `functions/`, built without Docker, with a role of its own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jsii
from aws_cdk import (
    Acknowledgment,
    AssetHashType,
    BundlingOptions,
    Duration,
    ILocalBundling,
    Validations,
)
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct
from uv import find_uv_bin

from infra.settings import Settings

_ROOT = Path(__file__).parent.parent
_SOURCE = _ROOT / "functions"
_REQUIREMENTS = _ROOT / "requirements" / "functions.txt"
_RUNTIME = lambda_.Runtime.PYTHON_3_13
# The local stack runs functions with its own interpreter.
_LAMBDA = ("--python-platform", "aarch64-manylinux2014", "--python-version", "3.13")
_THIS_MACHINE = ("--python-version", f"{sys.version_info.major}.{sys.version_info.minor}")


class PythonFunction(Construct):
    """The function whose `lambda_handler` is in `functions/<package>/handler.py`.

    Callers use `alias`, grants go to `role`.
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
    ) -> None:
        super().__init__(scope, id)
        log_group = logs.LogGroup(
            self,
            "Logs",
            retention=settings.log_retention,
            removal_policy=settings.removal_policy,
        )
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log_group.grant_write(self.role)
        function = lambda_.Function(
            self,
            "Function",
            code=_bundle(_THIS_MACHINE if settings.stage == "local" else _LAMBDA),
            handler=f"{package}.handler.lambda_handler",
            runtime=_RUNTIME,
            architecture=lambda_.Architecture.ARM_64,
            memory_size=settings.memory_mb,
            timeout=timeout,
            role=self.role,
            log_group=log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            tracing=lambda_.Tracing.ACTIVE,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if settings.snap_start else None,
            environment={"POWERTOOLS_SERVICE_NAME": package, **environment},
        )
        self.alias = lambda_.Alias(
            self, "Live", alias_name="live", version=function.current_version
        )
        Validations.of(self).acknowledge(
            Acknowledgment(
                id="AwsSolutions-IAM5[Resource::*]",
                reason="X-Ray's PutTraceSegments and PutTelemetryRecords take no resource",
            ),
            *(
                Acknowledgment(id=id_, reason="A newer runtime is an upgrade to try first")
                for id_ in ("AwsSolutions-L1", "Serverless-LambdaLatestVersion")
            ),
            Acknowledgment(
                id="Serverless-LambdaDLQ",
                reason="Nothing invokes it asynchronously: callers see errors, streams repeat",
            ),
        )


def _bundle(target: tuple[str, ...]) -> lambda_.Code:
    files = [_REQUIREMENTS, *sorted(_SOURCE.rglob("*.py"))]
    digest = hashlib.sha256(repr(target).encode())
    for file in files:
        digest.update(f"{file.relative_to(_ROOT)}\n".encode() + file.read_bytes())
    return lambda_.Code.from_asset(
        str(_SOURCE),
        asset_hash=digest.hexdigest(),
        asset_hash_type=AssetHashType.CUSTOM,
        bundling=BundlingOptions(image=_RUNTIME.bundling_image, local=_UvBundling(target)),  # type: ignore[arg-type]
    )


@jsii.implements(ILocalBundling)
class _UvBundling:
    """Our sources beside the locked packages for `target`; boto3 comes from the runtime."""

    def __init__(self, target: tuple[str, ...]) -> None:
        self._target = target

    def try_bundle(self, output_dir: str, _: BundlingOptions) -> bool:
        subprocess.run(  # noqa: S603
            [
                *(find_uv_bin(), "pip", "install", "--quiet", "--no-config"),
                *("--require-hashes", "--no-deps", "--only-binary", ":all:"),
                *("--target", output_dir, *self._target, "--requirement", str(_REQUIREMENTS)),
            ],
            check=True,
        )
        shutil.copytree(
            _SOURCE, output_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
        return True
