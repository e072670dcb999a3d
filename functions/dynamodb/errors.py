"""The errors of requests to DynamoDB.

DynamoDBError
├── RequestRefused   DynamoDB refused the request, and would refuse it again
├── TransientError   the request was throttled, failed or was not answered; it can be sent again
└── NoCredentials    there are no credentials to sign the request with

The text of an error never contains a part of a request or an answer, so it may be logged.
"""

from __future__ import annotations

from typing import Any


class DynamoDBError(Exception):
    """Base class of the errors that a client raises."""


class RequestRefused(DynamoDBError):
    """DynamoDB refused the request.

    `code` is the name of the error, such as "ValidationException". `message` is DynamoDB's own
    text, which may quote data. `item` is the stored item if a condition failed. It is empty if
    there is no such item, or if the request did not ask for it.
    """

    def __init__(self, code: str, message: str, item: dict[str, Any]) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.item = item


class TransientError(DynamoDBError):
    """Nothing is wrong with the request, but it may or may not have been carried out.

    The message names the last failure: an error code, an HTTP status or a type of exception.
    """


class NoCredentials(DynamoDBError):
    """Neither the environment nor the endpoint of a container has credentials."""
