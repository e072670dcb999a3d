"""The metrics that alarms and the dashboard look at.

CloudWatch accepts a wrong name or dimension, but such a metric never has data. So this module is
the only one that names metrics, with the pages that document them.
"""

from __future__ import annotations

from typing import Protocol

from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk.aws_cloudwatch import Metric
from aws_cdk.aws_lambda_event_sources import DynamoEventSource

from serverless_sessions_cdk._python_function import PythonFunction


class Consumer(Protocol):
    """A function, and the mapping that sends it the records of a table's stream."""

    function: PythonFunction
    mapping: DynamoEventSource


_PERIOD = Duration.minutes(5)


def function_metric(function: PythonFunction, name: str, statistic: str = "Sum") -> Metric:
    """A metric of a function, for all its versions and aliases together.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    https://docs.aws.amazon.com/lambda/latest/dg/urls-monitoring.html
    """
    return Metric(
        namespace="AWS/Lambda",
        metric_name=name,
        dimensions_map={"FunctionName": function.function_name},
        statistic=statistic,
        period=_PERIOD,
    )


def iterator_age(consumer: Consumer) -> Metric:
    """The age of records when the function receives them, in milliseconds.

    The mapping calls the alias, so the alias is one of the dimensions.
    """
    return consumer.function.alias.metric("IteratorAge", statistic="Maximum", period=_PERIOD)


def mapping_metric(consumer: Consumer, name: str) -> Metric:
    """A metric of the group `EventCount`, which has to be enabled for the mapping.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html#event-source-mapping-metrics
    """
    return Metric(
        namespace="AWS/Lambda",
        metric_name=name,
        dimensions_map={"EventSourceMappingUUID": consumer.mapping.event_source_mapping_id},
        statistic="Sum",
        period=_PERIOD,
    )


def table_metric(table: dynamodb.ITable, name: str, *, index: str | None = None) -> Metric:
    """A metric of a table or an index. The throttles of a table do not include its indexes.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
    """
    dimensions = {"TableName": table.table_name}
    if index:
        dimensions["GlobalSecondaryIndexName"] = index
    return Metric(
        namespace="AWS/DynamoDB",
        metric_name=name,
        dimensions_map=dimensions,
        statistic="Sum",
        period=_PERIOD,
    )


def logged_metric(function: PythonFunction, name: str, statistic: str = "Sum") -> Metric:
    """A metric that a function logs, in the format of `functions/embedded_metrics.py`."""
    return Metric(
        namespace="ServerlessSessions",
        metric_name=name,
        dimensions_map={"FunctionName": function.function_name},
        statistic=statistic,
        period=_PERIOD,
    )
