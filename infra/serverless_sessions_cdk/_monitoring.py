"""The alarms, their topic and the dashboard. docs/operations.md says what to do about an alarm."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Acknowledgment, Duration, Stack, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk.aws_apigatewayv2 import HttpStage
from aws_cdk.aws_cloudwatch import Alarm, ComparisonOperator, IMetric, Stats, TreatMissingData
from aws_cdk.aws_cloudwatch_actions import SnsAction
from aws_cdk.aws_sns_subscriptions import EmailSubscription
from constructs import Construct

from serverless_sessions_cdk import _metrics
from serverless_sessions_cdk._dashboard import Dashboard
from serverless_sessions_cdk._expiry import Expiry
from serverless_sessions_cdk._metrics import Consumer
from serverless_sessions_cdk._python_function import PythonFunction
from serverless_sessions_cdk._settings import Settings
from serverless_sessions_cdk._storage import USER_INDEX


class Monitoring(Construct):
    """`topic` gets a message when an alarm goes off, and another one when it is over.

    Alarms use plain metrics without math, so that they also work on the local stack.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        api: HttpStage,
        function_url: PythonFunction | None = None,
        functions: Sequence[PythonFunction],
        audit: Consumer,
        other_consumers: Sequence[Consumer] = (),
        expiry: Expiry | None = None,
        tables: Sequence[dynamodb.ITable],
        settings: Settings,
    ) -> None:
        """`name` is unique in the region, and the names of alarms begin with it.

        `functions` are those that do not consume a stream. `tables` have the index by user.
        `function_url` is the function that has a URL of its own, if there is one.
        """
        super().__init__(scope, id)
        consumers = [audit, *other_consumers]
        if expiry:
            functions = [*functions, expiry.sweeper]
            consumers.append(expiry)
        self.topic = self._topic(settings.alarm_email)
        self._name = name
        self._alarms: list[Alarm] = []
        self._watch_api(api)
        if function_url:
            self._watch_function_url(function_url)
        for function in (*functions, *(consumer.function for consumer in consumers)):
            self._watch_function(function)
        for consumer in consumers:
            self._watch_consumer(consumer)
        for table in tables:
            self._watch_table(table, USER_INDEX)
        self._watch_trail(audit.function)
        if expiry:
            self._watch_table(expiry.timers)
            self._watch_sweeper(expiry.sweeper)
        Dashboard(
            self,
            "Dashboard",
            name=name,
            alarms=self._alarms,
            api=api,
            function_url=function_url,
            functions=functions,
            consumers=consumers,
            audit=audit.function,
            expiry=expiry,
            tables=tables,
        )

    def _topic(self, email: str | None) -> sns.Topic:
        # The topic is not encrypted by KMS, because alarms could not publish with the key that AWS
        # manages. Alarms contain only names and numbers.
        topic = sns.Topic(self, "Alarms", enforce_ssl=True)
        # The policy replaces the default policy of SNS, which would have let alarms publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            )
        )
        if email:
            topic.add_subscription(EmailSubscription(email))
            Validations.of(topic).acknowledge(
                Acknowledgment(
                    id="Serverless-SNSRedrivePolicy",
                    reason="If an e-mail is lost, the alarm and its history still exist",
                )
            )
        return topic

    def _watch_api(self, api: HttpStage) -> None:
        # A single 503 is normal, because callers send the request again. In an outage, or after a
        # broken deployment, far more than one call in a hundred fails, for more than three minutes.
        self._alarm(
            "api-fails",
            "At least 1 of 100 calls of the API gets a 5xx answer.",
            api.metric_server_error(statistic=Stats.AVERAGE, period=Duration.minutes(1)),
            at_least=0.01,
            periods=5,
            breaching=3,
        )
        # Callers that wait for an answer may give up after 2 s. Fifteen minutes are long enough to
        # ignore the cold starts after a deployment. With few calls, p99 is the slowest one.
        self._alarm(
            "api-slow",
            "At least 1 of 100 calls of the API takes 2 s or more.",
            api.metric_latency(statistic=Stats.percentile(99), period=Duration.minutes(5)),
            at_least=2000,
            periods=3,
        )

    def _watch_function_url(self, function: PythonFunction) -> None:
        # The metrics of the API do not include these calls. AWS documents the number of errors but
        # no rate. In an outage, a few callers that retry get this many errors in a minute.
        self._alarm(
            "url-fails",
            "At least 5 calls of the function URL a minute get a 5xx answer.",
            _metrics.function_metric(function, "Url5xxCount").with_(period=Duration.minutes(1)),
            at_least=5,
            periods=5,
            breaching=3,
        )
        # AWS documents the average and the maximum. A single cold start exceeds a useful maximum.
        self._alarm(
            "url-slow",
            "Calls of the function URL take 1 s or more on average.",
            _metrics.function_metric(function, "UrlRequestLatency", Stats.AVERAGE),
            at_least=1000,
            periods=3,
        )

    def _watch_function(self, function: PythonFunction) -> None:
        # The functions handle all errors that they expect, including outages. The rest are crashes,
        # timeouts and lack of memory, and every one of them is worth a look.
        self._alarm(
            f"{function.package}-errors",
            f"{function.package} crashed or ran out of time.",
            _metrics.function_metric(function, "Errors"),
        )
        # The caller of a throttled function gets no answer. Even one throttle means that a limit
        # must be raised.
        self._alarm(
            f"{function.package}-throttled",
            f"{function.package} was throttled: no concurrency was left for it.",
            _metrics.function_metric(function, "Throttles"),
        )

    def _watch_consumer(self, consumer: Consumer) -> None:
        name = consumer.function.package
        # The usual age is a second or two. Fifteen minutes are too long for a burst, and leave most
        # of the 24 hours for which a stream keeps its records.
        self._alarm(
            f"{name}-behind",
            f"{name} is 15 minutes or more behind the stream.",
            _metrics.iterator_age(consumer),
            at_least=15 * 60 * 1000,
        )
        # These three alarms are about records that were not processed. Even one is too many.
        self._alarm(
            f"{name}-gave-up",
            f"Records that {name} could not handle were put into the bucket for failed events.",
            _metrics.mapping_metric(consumer, "OnFailureDestinationDeliveredEventCount"),
        )
        self._alarm(
            f"{name}-dropped",
            f"Records that {name} could not handle are lost.",
            _metrics.mapping_metric(consumer, "DroppedEventCount"),
        )
        # This metric is not in the group `EventCount`. Its dimension is the function.
        self._alarm(
            f"{name}-undelivered",
            f"Lambda could not write failed events of {name} into their bucket.",
            _metrics.function_metric(consumer.function, "DestinationDeliveryFailures"),
        )

    def _watch_table(self, table: dynamodb.ITable, *indexes: str) -> None:
        for index in (None, *indexes):
            name = f"{table.node.id}-{index}" if index else table.node.id
            for what in ("Read", "Write"):
                # A request is sent twice before it counts as failed, so callers do not notice a
                # few throttles, for example when the traffic suddenly doubles.
                self._alarm(
                    f"{name}-{what.lower()}s-throttled",
                    f"DynamoDB refuses {what.lower()}s of {name}.",
                    _metrics.table_metric(table, f"{what}ThrottleEvents", index=index),
                    at_least=10,
                )

    def _watch_trail(self, audit: PythonFunction) -> None:
        # None of these four events happens in normal operation.
        for name, event, description in (
            ("token-reused", "token_reuse", "A rotated token was used again: perhaps a theft."),
            ("session-tampered", "tampered", "A session was changed, but not by the API."),
            ("session-deleted", "deleted", "A session was deleted, but not by the API."),
            ("record-unreadable", "unreadable", "A change of a session could not be read."),
        ):
            self._alarm(name, description, _metrics.logged_metric(audit, event))
        # DynamoDB promises a deletion "within a few days". Sessions end in time even without TTL,
        # but the table grows, and `expired` events are late.
        self._alarm(
            "ttl-late",
            "TTL deleted a session 3 days or more after its end.",
            _metrics.logged_metric(audit, "ttl_lag_seconds", Stats.MAXIMUM),
            at_least=3 * 86_400,
        )

    def _watch_sweeper(self, sweeper: PythonFunction) -> None:
        # A run logs a value each minute. If there is none, the sweeper does not run at all: the
        # rule is disabled, say. Ten minutes are long enough to ignore a run that failed, and the
        # first runs after a deployment.
        self._alarm(
            "sweeper-late",
            "session_sweeper does not run, or is 10 minutes or more behind.",
            _metrics.logged_metric(sweeper, "cursor_age_seconds", Stats.MAXIMUM).with_(
                period=Duration.minutes(10)
            ),
            at_least=10 * 60,
            missing=TreatMissingData.BREACHING,
        )
        # These sessions stay until TTL deletes them. Even one is a bug, or an item that the API did
        # not write.
        self._alarm(
            "timers-failed",
            "DynamoDB refuses requests for sessions that are due to be deleted.",
            _metrics.logged_metric(sweeper, "timers_failed"),
        )

    def _alarm(
        self,
        name: str,
        description: str,
        metric: IMetric,
        *,
        at_least: float = 1,
        periods: int = 1,
        breaching: int | None = None,
        missing: TreatMissingData = TreatMissingData.NOT_BREACHING,
    ) -> None:
        """Add an alarm that goes off when values of `metric` reach `at_least`.

        `breaching` of the last `periods` values have to reach it, or all of them if it is None.
        Missing data counts as normal, because most metrics have no data while nothing happens.
        """
        alarm = Alarm(
            self,
            name,
            alarm_name=f"{self._name}-{name}",
            alarm_description=f"{description} What to do: docs/operations.md, {name}.",
            metric=metric,
            threshold=at_least,
            comparison_operator=ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            evaluation_periods=periods,
            datapoints_to_alarm=breaching,
            treat_missing_data=missing,
        )
        action = SnsAction(self.topic)
        alarm.add_alarm_action(action)
        alarm.add_ok_action(action)
        self._alarms.append(alarm)
