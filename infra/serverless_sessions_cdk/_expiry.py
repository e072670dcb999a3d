"""Prompt expiry: a function that sets timers for sessions, and one that deletes expired sessions.

docs/audit-events.md says what this promises. TTL remains enabled and deletes what is left over.
"""

from __future__ import annotations

from aws_cdk import Acknowledgment, Duration, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from constructs import Construct

from serverless_sessions_cdk._python_function import PythonFunction
from serverless_sessions_cdk._settings import Settings
from serverless_sessions_cdk._stream_consumer import FailedEvents, consume_stream

_INTERVAL = Duration.minutes(1)


class Expiry(Construct):
    """`function` sets a timer in `timers` for each session, and `sweeper` looks at those due.

    `function` is the second consumer of the stream of `Sessions`, and the last one: at most two
    functions can read a shard. `failed_events` keeps the records that it could not process.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.Lambda.html
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        sessions: dynamodb.ITable,
        timers: dynamodb.ITable,
        settings: Settings,
    ) -> None:
        super().__init__(scope, id)
        self.timers = timers
        self.failed_events = FailedEvents(self, "FailedEvents", settings=settings)
        self.function = PythonFunction(
            self,
            "SessionTimers",
            package="session_timers",
            environment={
                "TIMERS_TABLE": timers.table_name,
                "RECORD_ANONYMOUS": str(settings.record_anonymous).lower(),
                "FAILED_EVENTS_BUCKET": self.failed_events.bucket_name,
            },
            timeout=Duration.seconds(60),
            settings=settings,
        )
        self.mapping = consume_stream(self.function, sessions, failed_events=self.failed_events)
        self.sweeper = PythonFunction(
            self,
            "SessionSweeper",
            package="session_sweeper",
            environment={
                "SESSIONS_TABLE": sessions.table_name,
                "TIMERS_TABLE": timers.table_name,
            },
            timeout=Duration.seconds(60),
            settings=settings,
        )
        self._run_every_minute(self.sweeper)

    def _run_every_minute(self, function: PythonFunction) -> None:
        """Invoke the function by a rule. It is not retried: the next run continues its work."""
        function.alias.configure_async_invoke(retry_attempts=0, max_event_age=_INTERVAL)
        rule = events.Rule(
            self,
            "EveryMinute",
            description="Deletes the sessions that have expired",
            schedule=events.Schedule.rate(_INTERVAL),
            targets=[
                targets.LambdaFunction(function.alias, retry_attempts=0, max_event_age=_INTERVAL)
            ],
        )
        for construct, rule_of_nag in (
            (rule, "Serverless-EventBusDLQ"),
            (function, "Serverless-LambdaAsyncFailureDestination"),
        ):
            Validations.of(construct).acknowledge(
                Acknowledgment(
                    id=rule_of_nag,
                    reason="The event says nothing, and the next run does the work of a failed one",
                )
            )
