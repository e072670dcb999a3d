"""The log line from which CloudWatch creates the trail's metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit.event import AuditEvent
from session_audit.metrics import emit, metrics

NOW = 1_795_435_200.75


def event(kind: str, **facts: Any) -> AuditEvent:
    common: dict[str, Any] = {
        "event_id": "",
        "session_id": "",
        "user_id": None,
        "at": 0,
        "recorded_at": 0,
    }
    return AuditEvent(type=kind, **common, **facts)


def counted(*events: AuditEvent) -> dict[str, Any]:
    """Return the values by name."""
    line = metrics(events, function_name="audit", now=NOW)
    assert line.pop("FunctionName") == "audit"
    [described] = line.pop("_aws")["CloudWatchMetrics"]
    assert [metric["Name"] for metric in described["Metrics"]] == list(line)
    return line


def test_events_are_counted_by_type() -> None:
    assert counted(event("created"), event("updated"), event("created")) == {
        "created": 2,
        "updated": 1,
    }


def test_ends_are_counted_by_the_causes_of_the_service() -> None:
    """Callers choose reasons freely, and each reason would be a metric with a cost."""
    ends = [event("expired", cause=cause) for cause in ("idle", "absolute", "not_before")]
    ends += [event("revoked", reason=reason) for reason in ("logout", "x-1", "token_reuse")]

    assert counted(*ends) == {
        "expired_idle": 1,
        "expired_absolute": 1,
        "expired_not_before": 1,
        "revoked": 2,
        "token_reuse": 1,
    }


def test_lag_is_that_of_the_latest() -> None:
    """The alarm must go off if any deletion was late. Removals that are not by TTL have no lag."""
    events = [event("purged", ttl_lag_seconds=lag) for lag in (540, 300_000, 2)]

    assert counted(*events, event("deleted"))["ttl_lag_seconds"] == 300_000


def test_line_is_in_the_embedded_metric_format(capsys: pytest.CaptureFixture[str]) -> None:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html"""
    emit([event("purged", ttl_lag_seconds=7)], function_name="audit", now=NOW)

    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "_aws": {
            "Timestamp": 1_795_435_200_750,
            "CloudWatchMetrics": [
                {
                    "Namespace": "ServerlessSessions",
                    "Dimensions": [["FunctionName"]],
                    "Metrics": [
                        {"Name": "purged", "Unit": "Count"},
                        {"Name": "ttl_lag_seconds", "Unit": "Seconds"},
                    ],
                }
            ],
        },
        "FunctionName": "audit",
        "purged": 1,
        "ttl_lag_seconds": 7,
    }


def test_nothing_recorded_logs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    emit([], function_name="audit", now=NOW)

    assert capsys.readouterr().out == ""
