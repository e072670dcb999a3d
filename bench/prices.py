"""What AWS charges in us-east-1 in November 2026, for web requests at 1,000 a second."""

from __future__ import annotations

WEB_REQUESTS_A_MONTH = 1000 * 30 * 86_400
# DynamoDB on demand, and Lambda, for a million.
READ_UNITS, WRITE_UNITS, LAMBDA_REQUESTS = 0.125, 0.625, 0.20
# An HTTP API's first 300 million calls of a month, and the others.
FIRST_CALLS, FURTHER_CALLS = 1.00, 0.90


def dollars_a_month(*, reads: float = 0, writes: float = 0) -> float:
    """For DynamoDB, with so many read and write request units in each web request."""
    return (reads * READ_UNITS + writes * WRITE_UNITS) * WEB_REQUESTS_A_MONTH / 1e6


def call_dollars_a_month() -> float:
    """For API Gateway and Lambda, with one call of the service in each web request.

    Lambda's charge for duration comes on top.
    """
    millions = WEB_REQUESTS_A_MONTH / 1e6
    gateway = 300 * FIRST_CALLS + (millions - 300) * FURTHER_CALLS
    return gateway + millions * LAMBDA_REQUESTS
