"""The two tables, for sessions and for their audit trail."""

from __future__ import annotations

from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from infra.promises import TTL_ATTRIBUTE
from infra.settings import Settings

USER_INDEX = "UserIndex"


class Storage(Construct):
    """`sessions`, whose stream has a record of every change, and `audit`, which keeps the events.

    `audit` has a stream only if events are sent to a bus.
    """

    def __init__(self, scope: Construct, id: str, *, settings: Settings) -> None:
        super().__init__(scope, id)
        session_id = dynamodb.Attribute(name="SessionId", type=dynamodb.AttributeType.STRING)
        user_id = dynamodb.Attribute(name="UserId", type=dynamodb.AttributeType.STRING)
        event_id = dynamodb.Attribute(name="EventId", type=dynamodb.AttributeType.STRING)
        created_at = dynamodb.Attribute(name="CreatedAt", type=dynamodb.AttributeType.NUMBER)
        recovery = dynamodb.PointInTimeRecoverySpecification(point_in_time_recovery_enabled=True)

        self.sessions = dynamodb.TableV2(
            self,
            "Sessions",
            partition_key=session_id,
            billing=dynamodb.Billing.on_demand(),
            time_to_live_attribute=TTL_ATTRIBUTE,
            dynamo_stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES,
            global_secondary_indexes=[
                # The keys never change, so renewals and changes of data do not write to the index.
                dynamodb.GlobalSecondaryIndexPropsV2(
                    index_name=USER_INDEX,
                    partition_key=user_id,
                    sort_key=created_at,
                    projection_type=dynamodb.ProjectionType.KEYS_ONLY,
                )
            ],
            point_in_time_recovery_specification=recovery,
            removal_policy=settings.removal_policy,
            deletion_protection=settings.deletion_protection,
        )
        self.audit = dynamodb.TableV2(
            self,
            "SessionAudit",
            partition_key=session_id,
            sort_key=event_id,
            billing=dynamodb.Billing.on_demand(),
            time_to_live_attribute=TTL_ATTRIBUTE,
            dynamo_stream=dynamodb.StreamViewType.NEW_IMAGE if settings.event_bus else None,
            global_secondary_indexes=[
                dynamodb.GlobalSecondaryIndexPropsV2(
                    index_name=USER_INDEX, partition_key=user_id, sort_key=event_id
                )
            ],
            point_in_time_recovery_specification=recovery,
            removal_policy=settings.removal_policy,
            deletion_protection=settings.deletion_protection,
        )
