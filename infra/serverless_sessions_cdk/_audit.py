"""The consumer of the `Sessions` table's stream, which writes the audit trail."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from serverless_sessions_cdk._python_function import PythonFunction
from serverless_sessions_cdk._settings import Settings
from serverless_sessions_cdk._stream_consumer import FailedEvents, consume_stream


class Audit(Construct):
    """`function` writes the trail. `failed_events` keeps the records that it could not process."""

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
        self.failed_events = FailedEvents(self, "FailedEvents", settings=settings)
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
                "RECORD_ANONYMOUS": str(settings.record_anonymous).lower(),
                "NOT_BEFORE": str(settings.not_before),
                "FAILED_EVENTS_BUCKET": self.failed_events.bucket_name,
            },
            timeout=Duration.seconds(60),
            settings=settings,
        )
        self.mapping = consume_stream(self.function, sessions, failed_events=self.failed_events)
