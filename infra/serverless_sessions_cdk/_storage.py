"""The tables, for sessions, for their audit trail, and for the timers of prompt expiry."""

from __future__ import annotations

from aws_cdk import Acknowledgment, RemovalPolicy, Validations
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from serverless_sessions_cdk._promises import TTL_ATTRIBUTE
from serverless_sessions_cdk._settings import Settings

USER_INDEX = "UserIndex"


class Storage(Construct):
    """`sessions`, whose stream has a record of every change, and `audit`, which keeps the events.

    `audit` has a stream only if events are sent to a bus. `timers` is None unless expired sessions
    are deleted promptly.
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
        self.timers = self._timers() if settings.prompt_expiry else None

    def _timers(self) -> dynamodb.TableV2:
        """Create the table of the timers, which say when to look at a session again.

        Nothing in it needs protection: without a timer, TTL deletes the session. The table goes
        when the setting is switched off.
        """
        table = dynamodb.TableV2(
            self,
            "Timers",
            partition_key=dynamodb.Attribute(name="Slot", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="Due", type=dynamodb.AttributeType.STRING),
            billing=dynamodb.Billing.on_demand(),
            time_to_live_attribute=TTL_ATTRIBUTE,
            removal_policy=RemovalPolicy.DESTROY,
        )
        Validations.of(table).acknowledge(
            Acknowledgment(
                id="AwsSolutions-DDB3",
                reason="A restored timer would be of no use: it is due within days or in the past",
            )
        )
        return table
