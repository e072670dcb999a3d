"""The stream consumer, and what becomes of records that it can't get rid of."""

from __future__ import annotations

import jsii
from aws_cdk import Acknowledgment, Duration, Stack, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk.aws_lambda_event_sources import DynamoEventSource
from constructs import Construct

from infra.python_function import PythonFunction
from infra.settings import Settings

# They hold session data and token hashes, so no longer than it takes to play them back.
_FAILED_EVENTS_KEPT = Duration.days(30)


class Audit(Construct):
    """`function` writes the trail, `failed_events` keeps whole the records that it could not."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        sessions: dynamodb.ITable,
        audit_table: str,
        settings: Settings,
    ) -> None:
        super().__init__(scope, id)
        self.failed_events = s3.Bucket(
            self,
            "FailedEvents",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            lifecycle_rules=[s3.LifecycleRule(expiration=_FAILED_EVENTS_KEPT)],
            removal_policy=settings.removal_policy,
        )
        self.function = PythonFunction(
            self,
            "SessionAudit",
            package="session_audit",
            environment={
                "AUDIT_TABLE": audit_table,
                "AUDIT_RETENTION_SECONDS": str(
                    Duration.days(settings.audit_retention_days).to_seconds()
                ),
                "UNRECORDED_EVENTS": ",".join(settings.unrecorded_events),
                "NOT_BEFORE": str(settings.not_before),
                "FAILED_EVENTS_BUCKET": self.failed_events.bucket_name,
            },
            timeout=Duration.seconds(60),
            settings=settings,
        )
        # What DynamoDB will never take is on record as unreadable, so nothing but an outage is
        # repeated. A morning of it loses nothing, and what the stream would drop after 24 h is
        # kept whole where it can be played back from.
        self.function.alias.add_event_source(
            DynamoEventSource(
                sessions,
                starting_position=lambda_.StartingPosition.TRIM_HORIZON,
                batch_size=100,
                max_batching_window=Duration.seconds(1),
                parallelization_factor=4,
                report_batch_item_failures=True,
                bisect_batch_on_error=True,
                retry_attempts=-1,
                max_record_age=Duration.hours(22),
                on_failure=_WholeRecords(self.failed_events),
            )
        )
        bucket = self.failed_events.node.default_child
        assert isinstance(bucket, s3.CfnBucket)  # noqa: S101
        Validations.of(self.function).acknowledge(
            Acknowledgment(
                id="AwsSolutions-IAM5[Resource::"
                f"<{Stack.of(self).get_logical_id(bucket)}.Arn>/aws/lambda/*]",
                reason="Lambda and the function name what they keep themselves, below this prefix",
            )
        )
        Validations.of(self.failed_events).acknowledge(
            Acknowledgment(
                id="AwsSolutions-S1",
                reason="Lambda alone writes here, rarely; an access log would log nothing else",
            )
        )


@jsii.implements(lambda_.IEventSourceDlq)
class _WholeRecords:
    """S3 as on-failure destination: unlike a queue it keeps the records, not just positions."""

    def __init__(self, bucket: s3.IBucket) -> None:
        self._bucket = bucket

    def bind(
        self, target: lambda_.IEventSourceMapping, target_handler: lambda_.IFunction
    ) -> lambda_.DlqDestinationConfig:
        target_handler.add_to_role_policy(
            iam.PolicyStatement(
                actions=["s3:PutObject"], resources=[self._bucket.arn_for_objects("aws/lambda/*")]
            )
        )
        target_handler.add_to_role_policy(
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[self._bucket.bucket_arn])
        )
        return lambda_.DlqDestinationConfig(destination=self._bucket.bucket_arn)
