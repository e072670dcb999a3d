"""The wiring of the stack: its constructs, their permissions, and the outputs."""

from __future__ import annotations

from aws_cdk import CfnOutput, Stack, Tags
from aws_cdk import aws_iam as iam
from constructs import Construct

from serverless_sessions_cdk._api import Api
from serverless_sessions_cdk._audit import Audit
from serverless_sessions_cdk._authorizer import Authorizer
from serverless_sessions_cdk._events import Events
from serverless_sessions_cdk._expiry import Expiry
from serverless_sessions_cdk._monitoring import Monitoring
from serverless_sessions_cdk._promises import append_only
from serverless_sessions_cdk._settings import Settings
from serverless_sessions_cdk._storage import USER_INDEX, Storage


class SessionsStack(Stack):
    """A session service: tables, HTTP API, audit trail, and an authorizer for other APIs."""

    def __init__(self, scope: Construct, id: str, *, settings: Settings) -> None:
        super().__init__(scope, id, description="Server-side sessions with an audit trail")
        storage = Storage(self, "Storage", settings=settings)
        api = Api(
            self,
            "Api",
            sessions_table=storage.sessions.table_name,
            audit_table=storage.audit.table_name,
            settings=settings,
        )
        audit = Audit(
            self,
            "Audit",
            sessions=storage.sessions,
            audit_table=storage.audit.table_name,
            settings=settings,
        )
        authorizer = Authorizer(
            self, "Authorizer", sessions_table=storage.sessions.table_name, settings=settings
        )
        events = (
            Events(
                self,
                "Events",
                audit=storage.audit,
                event_bus=settings.event_bus,
                settings=settings,
            )
            if settings.event_bus
            else None
        )
        expiry = (
            Expiry(
                self,
                "Expiry",
                sessions=storage.sessions,
                timers=storage.timers,
                settings=settings,
            )
            if storage.timers
            else None
        )
        monitoring = Monitoring(
            self,
            "Monitoring",
            api=api.stage,
            function_url=api.function if api.function_url else None,
            functions=[api.function, authorizer.function],
            audit=audit,
            other_consumers=[events] if events else [],
            expiry=expiry,
            tables=[storage.sessions, storage.audit],
            settings=settings,
        )

        sessions_arn, audit_arn = storage.sessions.table_arn, storage.audit.table_arn
        _allow(api.function.role, sessions_arn, "PutItem", "GetItem", "UpdateItem", "BatchGetItem")
        _allow(api.function.role, f"{sessions_arn}/index/{USER_INDEX}", "Query")
        _allow(api.function.role, audit_arn, "Query")
        _allow(api.function.role, f"{audit_arn}/index/{USER_INDEX}", "Query")
        # The authorizer records the first use of a token, and ends the session of a reused one.
        _allow(authorizer.function.role, sessions_arn, "GetItem", "UpdateItem")
        # INSERT is the only write that the audit function may make, so no role of this stack can
        # change or delete an event. The policy of the table denies that to everybody else. The
        # function also reads the events whose keys are taken.
        _allow(audit.function.role, audit_arn, "PartiQLInsert", "BatchGetItem")
        for statement in append_only(writer=audit.function.role.role_arn):
            storage.audit.add_to_resource_policy(iam.PolicyStatement.from_json(statement))
        if events:
            events.bus.grant_put_events_to(events.function.role)
        if expiry:
            timers_arn = expiry.timers.table_arn
            _allow(expiry.function.role, timers_arn, "PartiQLInsert")
            _allow(expiry.sweeper.role, timers_arn, "Query", "PartiQLInsert", "UpdateItem")
            # The sweeper can only delete sessions, which the trail records like any deletion. It
            # cannot change a session or prevent this record.
            _allow(expiry.sweeper.role, sessions_arn, "BatchGetItem", "PartiQLDelete")
        # The audit function judges changes by `not_before` as soon as it starts. So the functions
        # that write sessions must get a new value of the setting first.
        audit.function.resource.current_version.node.add_dependency(
            api.function.alias, authorizer.function.alias
        )

        Tags.of(self).add("service", "serverless-sessions")
        Tags.of(self).add("stage", settings.stage)

        CfnOutput(self, "ApiUrl", value=api.url)
        CfnOutput(self, "SessionsTableName", value=storage.sessions.table_name)
        CfnOutput(self, "AuditTableName", value=storage.audit.table_name)
        CfnOutput(self, "AuditFunctionArn", value=audit.function.alias.function_arn)
        CfnOutput(self, "AuthorizerArn", value=authorizer.function.alias.function_arn)
        CfnOutput(self, "FailedEventsBucket", value=audit.failed_events.bucket_name)
        CfnOutput(self, "AlarmTopicArn", value=monitoring.topic.topic_arn)
        if api.function_url:
            CfnOutput(self, "FunctionUrl", value=api.function_url.url)
            CfnOutput(self, "ApiFunctionArn", value=api.function.alias.function_arn)
        if events:
            CfnOutput(self, "EventsFunctionArn", value=events.function.alias.function_arn)
            CfnOutput(self, "UndeliveredEventsBucket", value=events.undelivered.bucket_name)
        if expiry:
            CfnOutput(self, "TimersTableName", value=expiry.timers.table_name)
            CfnOutput(self, "TimersFunctionArn", value=expiry.function.alias.function_arn)
            CfnOutput(self, "SweeperFunctionArn", value=expiry.sweeper.alias.function_arn)
            CfnOutput(self, "FailedTimersBucket", value=expiry.failed_events.bucket_name)


def _allow(role: iam.Role, resource: str, *actions: str) -> None:
    """Allow actions on one table or on one index. `Table.grant` would include all indexes."""
    role.add_to_policy(
        iam.PolicyStatement(
            actions=[f"dynamodb:{action}" for action in actions], resources=[resource]
        )
    )
