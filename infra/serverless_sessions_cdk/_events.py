"""The consumer of the trail's own stream, which puts its events on an EventBridge bus."""

from __future__ import annotations

from aws_cdk import Duration, Token
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from serverless_sessions_cdk._python_function import PythonFunction
from serverless_sessions_cdk._settings import Settings
from serverless_sessions_cdk._stream_consumer import FailedEvents, consume_stream


class Events(Construct):
    """`function` puts events on `bus`. `undelivered` keeps the records that it could not send.

    The bus must already exist. `event_bus` is its name or ARN, and only an ARN can be a token.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        audit: dynamodb.ITable,
        event_bus: str,
        settings: Settings,
    ) -> None:
        super().__init__(scope, id)
        self.bus = (
            events.EventBus.from_event_bus_arn(self, "Bus", event_bus)
            if event_bus.startswith("arn:") or Token.is_unresolved(event_bus)
            else events.EventBus.from_event_bus_name(self, "Bus", event_bus)
        )
        self.undelivered = FailedEvents(self, "Undelivered", settings=settings)
        self.function = PythonFunction(
            self,
            "SessionEvents",
            package="session_events",
            environment={
                "EVENT_BUS": event_bus,
                "FAILED_EVENTS_BUCKET": self.undelivered.bucket_name,
            },
            timeout=Duration.seconds(60),
            settings=settings,
        )
        self.mapping = consume_stream(
            self.function,
            audit,
            failed_events=self.undelivered,
            # Deletions are left out: TTL deletes events whose retention period is over.
            filters=[
                lambda_.FilterCriteria.filter({"eventName": lambda_.FilterRule.is_equal("INSERT")})
            ],
        )
