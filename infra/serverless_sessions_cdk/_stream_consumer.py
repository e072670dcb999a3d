"""The event source mapping of the stream consumers, and the bucket for records that fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jsii
from aws_cdk import Acknowledgment, Duration, Stack, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk.aws_lambda_event_sources import DynamoEventSource
from constructs import Construct

from serverless_sessions_cdk._python_function import PythonFunction
from serverless_sessions_cdk._settings import Settings

# Failed events contain session data and token hashes, so they are kept only as long as it may take
# to play them back.
_FAILED_EVENTS_RETENTION = Duration.days(30)


@jsii.implements(lambda_.IEventSourceDlq)
class FailedEvents(s3.Bucket):
    """An on-failure destination in S3. A queue would get only the positions of the records."""

    def __init__(self, scope: Construct, id: str, *, settings: Settings) -> None:
        super().__init__(
            scope,
            id,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            lifecycle_rules=[s3.LifecycleRule(expiration=_FAILED_EVENTS_RETENTION)],
            removal_policy=settings.removal_policy,
        )
        Validations.of(self).acknowledge(
            Acknowledgment(
                id="AwsSolutions-S1",
                reason="Only Lambda writes here, and rarely; an access log would add nothing",
            )
        )

    def bind(
        self, target: lambda_.IEventSourceMapping, target_handler: lambda_.IFunction
    ) -> lambda_.DlqDestinationConfig:
        target_handler.add_to_role_policy(
            iam.PolicyStatement(
                actions=["s3:PutObject"], resources=[self.arn_for_objects("aws/lambda/*")]
            )
        )
        target_handler.add_to_role_policy(
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[self.bucket_arn])
        )
        return lambda_.DlqDestinationConfig(destination=self.bucket_arn)


def consume_stream(
    function: PythonFunction,
    table: dynamodb.ITable,
    *,
    failed_events: FailedEvents,
    filters: Sequence[Mapping[str, Any]] = (),
) -> DynamoEventSource:
    """Send the records of the table's stream to `function`. Returns the mapping, with metrics.

    If there are `filters`, a record has to match one of them. The function itself handles records
    that would never succeed, so only an outage leads to retries. An outage of some hours loses
    nothing. During a longer outage, Lambda puts records into the bucket before the stream drops
    them after 24 h. They can be played back from there.
    """
    mapping = DynamoEventSource(
        table,
        starting_position=lambda_.StartingPosition.TRIM_HORIZON,
        batch_size=100,
        max_batching_window=Duration.seconds(1),
        parallelization_factor=4,
        report_batch_item_failures=True,
        bisect_batch_on_error=True,
        retry_attempts=-1,
        max_record_age=Duration.hours(22),
        on_failure=failed_events,
        filters=list(filters) or None,
        metrics_config=lambda_.MetricsConfig(metrics=[lambda_.MetricType.EVENT_COUNT]),
    )
    function.alias.add_event_source(mapping)
    bucket = failed_events.node.default_child
    assert isinstance(bucket, s3.CfnBucket)  # noqa: S101
    Validations.of(function).acknowledge(
        Acknowledgment(
            id="AwsSolutions-IAM5[Resource::"
            f"<{Stack.of(function).get_logical_id(bucket)}.Arn>/aws/lambda/*]",
            reason="Lambda and the function choose the names of the objects with this prefix",
        )
    )
    return mapping
