"""AWS's prices in us-east-1 in November 2026, and the monthly costs of 1,000 web requests a
second.
"""

from __future__ import annotations

WEB_REQUESTS_A_MONTH = 1000 * 30 * 86_400
# Dollars per million request units of a DynamoDB table in on-demand mode.
READ_UNIT_PRICE, WRITE_UNIT_PRICE = 0.125, 0.625
# Dollars per million requests to Lambda.
LAMBDA_REQUEST_PRICE = 0.20
# Dollars per million calls of an HTTP API: for the first 300 million calls of a month, and for all
# further calls.
FIRST_CALL_PRICE, FURTHER_CALL_PRICE = 1.00, 0.90


def dollars_a_month(*, read_units: float = 0, write_units: float = 0) -> float:
    """Return the cost of DynamoDB if every web request consumes these request units."""
    dollars_per_million = read_units * READ_UNIT_PRICE + write_units * WRITE_UNIT_PRICE
    return dollars_per_million * WEB_REQUESTS_A_MONTH / 1e6


def gateway_dollars_a_month() -> float:
    """Return the cost of API Gateway if every web request calls the service once."""
    millions = WEB_REQUESTS_A_MONTH / 1e6
    return 300 * FIRST_CALL_PRICE + (millions - 300) * FURTHER_CALL_PRICE


def call_dollars_a_month() -> float:
    """Return the cost of API Gateway and Lambda if every web request calls the service once.

    Lambda's charge for duration is not included.
    """
    return gateway_dollars_a_month() + WEB_REQUESTS_A_MONTH / 1e6 * LAMBDA_REQUEST_PRICE
