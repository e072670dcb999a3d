"""AWS's prices in us-east-1 in November 2026, for 1,000 web requests a second."""

from __future__ import annotations

WEB_REQUESTS_A_MONTH = 1000 * 30 * 86_400
# For a million: DynamoDB's units on demand, and Lambda's requests.
READ_UNITS, WRITE_UNITS, LAMBDA_REQUESTS = 0.125, 0.625, 0.20
# For a million calls of an HTTP API: the first 300 million of a month, and the others.
FIRST_CALLS, FURTHER_CALLS = 1.00, 0.90


def dollars_a_month(*, reads: float = 0, writes: float = 0) -> float:
    """Return the cost of DynamoDB if a web request takes so many read and write request units."""
    return (reads * READ_UNITS + writes * WRITE_UNITS) * WEB_REQUESTS_A_MONTH / 1e6


def call_dollars_a_month() -> float:
    """Return the cost of API Gateway and Lambda if a web request takes one call of the service.

    Lambda's charge for duration is not included.
    """
    millions = WEB_REQUESTS_A_MONTH / 1e6
    gateway = 300 * FIRST_CALLS + (millions - 300) * FURTHER_CALLS
    return gateway + millions * LAMBDA_REQUESTS
