"""What can come of a request instead of its result.

DynamoDBError
├── RequestRefused   DynamoDB's answer is no; sent again, it would be refused again
├── TransientError   throttled, failed or unanswered: send it again later
└── NoCredentials    there is nothing to sign with

No message of these holds a part of a request or an answer, so that all of them may be logged.
"""

from __future__ import annotations

from typing import Any


class DynamoDBError(Exception):
    """Base of what a client raises."""


class RequestRefused(DynamoDBError):
    """DynamoDB refused the request.

    `code` is the error's name ("ValidationException"), `message` DynamoDB's sentence, which may
    quote data, and `item` what stands where a condition failed: empty if nothing does, or if the
    request did not ask for it.
    """

    def __init__(self, code: str, message: str, item: dict[str, Any]) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.item = item


class TransientError(DynamoDBError):
    """Nothing is wrong with the request; whether it was carried out is unknown.

    The message is the last failure's name: an error code, an HTTP status or a kind of exception.
    """


class NoCredentials(DynamoDBError):
    """Neither the environment nor a container's endpoint holds credentials."""
