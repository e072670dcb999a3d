"""The dashboard that an operator opens first. `tests/infra/picture.py` draws it for the docs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk.aws_apigatewayv2 import HttpStage
from aws_cdk.aws_cloudwatch import AlarmStatusWidget, GraphWidget, IWidget, Metric
from constructs import Construct

from serverless_sessions_cdk._expiry import Expiry
from serverless_sessions_cdk._metrics import (
    Consumer,
    function_metric,
    iterator_age,
    logged_metric,
    mapping_metric,
    table_metric,
)
from serverless_sessions_cdk._python_function import PythonFunction
from serverless_sessions_cdk._storage import USER_INDEX

_WIDTH = 24
_CAUSES = {
    "expired_idle": "idle timeout",
    "expired_absolute": "absolute timeout",
    "expired_not_before": "not_before",
    "revoked": "revoked",
    "token_reuse": "token reuse",
    "deleted": "deleted",
}


class _Graph(NamedTuple):
    title: str
    metrics: Sequence[Metric]
    stacked: bool = False


class Dashboard(cloudwatch.Dashboard):
    """One row each for the alarms, sessions, API and tables, then one row for each function."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        alarms: Sequence[cloudwatch.Alarm],
        api: HttpStage,
        function_url: PythonFunction | None,
        functions: Sequence[PythonFunction],
        consumers: Sequence[Consumer],
        audit: PythonFunction,
        expiry: Expiry | None,
        tables: Sequence[dynamodb.ITable],
    ) -> None:
        super().__init__(
            scope,
            id,
            # All regions of an account share the names of dashboards. With the region in the name,
            # the same service can have a dashboard in each region.
            dashboard_name=f"{name}-{Stack.of(scope).region}",
            default_interval=Duration.days(1),
            widgets=[
                [AlarmStatusWidget(title="Alarms", alarms=alarms, width=_WIDTH, height=4)],
                _sessions(audit),
                _api(api),
                *([_function_url(function_url)] if function_url else []),
                _tables(tables),
                *([_expiry(expiry)] if expiry else []),
                *(_function(function) for function in functions),
                *(_consumer(consumer) for consumer in consumers),
            ],
        )


def _sessions(audit: PythonFunction) -> list[IWidget]:
    suspicions = ("token_reuse", "tampered", "deleted", "unreadable")
    lag = logged_metric(audit, "ttl_lag_seconds", "Maximum")
    return _row(
        _Graph("Sessions created", [_label(logged_metric(audit, "created"), "created")]),
        _Graph(
            "Sessions ended, by cause",
            [_label(logged_metric(audit, name), label) for name, label in _CAUSES.items()],
            stacked=True,
        ),
        _Graph(
            "Suspicious events", [_label(logged_metric(audit, name), name) for name in suspicions]
        ),
        _Graph("TTL: longest delay in s", [_label(lag, "delay")]),
    )


def _api(api: HttpStage) -> list[IWidget]:
    return _row(
        _Graph("API: calls", [api.metric_count(label="calls")]),
        _Graph(
            "API: errors",
            [api.metric_client_error(label="4xx"), api.metric_server_error(label="5xx")],
        ),
        _Graph(
            "API: latency in ms",
            [
                api.metric_latency(statistic=percentile, label=percentile)
                for percentile in ("p50", "p99")
            ],
        ),
    )


def _function_url(function: PythonFunction) -> list[IWidget]:
    calls = function_metric(function, "UrlRequestCount")
    errors = {"Url4xxCount": "4xx", "Url5xxCount": "5xx"}
    latency = {"Average": "average", "Maximum": "maximum"}
    return _row(
        _Graph("Function URL: calls", [_label(calls, "calls")]),
        _Graph(
            "Function URL: errors",
            [_label(function_metric(function, name), label) for name, label in errors.items()],
        ),
        _Graph(
            "Function URL: latency in ms",
            [
                _label(function_metric(function, "UrlRequestLatency", statistic), label)
                for statistic, label in latency.items()
            ],
        ),
    )


def _tables(tables: Sequence[dynamodb.ITable]) -> list[IWidget]:
    throttled = [metric for table in tables for metric in _throttled(table, USER_INDEX)]
    deleted = [
        _label(table_metric(table, "TimeToLiveDeletedItemCount"), table.node.id) for table in tables
    ]
    return _row(
        *map(_units, tables),
        _Graph("Refused by DynamoDB", throttled),
        _Graph("Deleted by TTL", deleted),
    )


def _units(table: dynamodb.ITable) -> _Graph:
    return _Graph(
        f"{table.node.id}: units",
        [
            _label(table_metric(table, "ConsumedReadCapacityUnits"), "read"),
            _label(table_metric(table, "ConsumedWriteCapacityUnits"), "written"),
        ],
    )


def _throttled(table: dynamodb.ITable, *indexes: str) -> list[Metric]:
    return [
        _label(
            table_metric(table, f"{what}ThrottleEvents", index=index),
            f"{what.lower()}s of {table.node.id}{' by user' if index else ''}",
        )
        for index in (None, *indexes)
        for what in ("Read", "Write")
    ]


def _expiry(expiry: Expiry) -> list[IWidget]:
    age = logged_metric(expiry.sweeper, "cursor_age_seconds", "Maximum")
    counts = {"deleted": "sessions deleted", "timers_failed": "timers failed"}
    return _row(
        _Graph("Prompt expiry: delay in s", [_label(age, "delay")]),
        _Graph(
            "Prompt expiry: results",
            [_label(logged_metric(expiry.sweeper, name), label) for name, label in counts.items()],
        ),
        _units(expiry.timers),
        _Graph("Timers: refused by DynamoDB", _throttled(expiry.timers)),
    )


def _function(function: PythonFunction) -> list[IWidget]:
    name = function.package
    return _row(
        _Graph(f"{name}: calls", [_label(function_metric(function, "Invocations"), "calls")]),
        _errors(function),
        _Graph(
            f"{name}: duration in ms",
            [
                _label(function_metric(function, "Duration", percentile), percentile)
                for percentile in ("p50", "p99")
            ],
        ),
    )


def _consumer(consumer: Consumer) -> list[IWidget]:
    name = consumer.function.package
    records = {
        "PolledEventCount": "read",
        "FailedInvokeEventCount": "to be retried",
        "OnFailureDestinationDeliveredEventCount": "given up",
        "DroppedEventCount": "lost",
    }
    return _row(
        _Graph(f"{name}: age of records in ms", [_label(iterator_age(consumer), "oldest")]),
        _Graph(
            f"{name}: records",
            [
                *(
                    _label(mapping_metric(consumer, metric), label)
                    for metric, label in records.items()
                ),
                _label(
                    function_metric(consumer.function, "DestinationDeliveryFailures"), "undelivered"
                ),
            ],
        ),
        _errors(consumer.function),
    )


def _errors(function: PythonFunction) -> _Graph:
    return _Graph(
        f"{function.package}: errors",
        [
            _label(function_metric(function, "Errors"), "errors"),
            _label(function_metric(function, "Throttles"), "throttled"),
        ],
    )


def _label(metric: Metric, label: str) -> Metric:
    return metric.with_(label=label)


def _row(*graphs: _Graph) -> list[IWidget]:
    """Return graphs of equal width, side by side."""
    return [
        GraphWidget(
            title=graph.title,
            left=graph.metrics,
            left_y_axis=cloudwatch.YAxisProps(min=0, show_units=False),
            stacked=graph.stacked,
            width=_WIDTH // len(graphs),
        )
        for graph in graphs
    ]
