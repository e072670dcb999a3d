"""What DynamoDB costs on demand in us-east-1, in November 2026."""

from __future__ import annotations

DOLLARS_PER_MILLION_READS = 0.125
DOLLARS_PER_MILLION_WRITES = 0.625
MONTH_SECONDS = 30 * 86_400
WEB_REQUESTS_PER_SECOND = 1000


def dollars_a_month(*, reads: float = 0, writes: float = 0) -> float:
    """For 1,000 web requests a second, each of so many read and write request units."""
    dollars = reads * DOLLARS_PER_MILLION_READS + writes * DOLLARS_PER_MILLION_WRITES
    return dollars * WEB_REQUESTS_PER_SECOND * MONTH_SECONDS / 1_000_000
