"""The connection to DynamoDB, and the translation of its errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from dynamodb.errors import RequestRefused, TransientError
from sessions.errors import DocumentTooLarge, Unavailable

# A value and an item in the format of the low-level client: {"S": "ada"}, {"UserId": {"S": "ada"}}.
Attribute = Any
Item = dict[str, Attribute]

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_MAX_KEY_BYTES = 2048


class DynamoDB(Protocol):
    """The operations that this package needs, with the signatures of boto3's low-level client."""

    def get_item(self, **request: Any) -> dict[str, Any]: ...
    def put_item(self, **request: Any) -> dict[str, Any]: ...
    def update_item(self, **request: Any) -> dict[str, Any]: ...
    def query(self, **request: Any) -> dict[str, Any]: ...
    def batch_get_item(self, **request: Any) -> dict[str, Any]: ...
    def batch_execute_statement(self, **request: Any) -> dict[str, Any]: ...


class ConditionFailed(Exception):
    """The condition of a write did not hold. `item` is the stored item, empty if there is none."""

    def __init__(self, item: Item) -> None:
        super().__init__("the condition of the write did not hold")
        self.item = item


def fits_key(value: object) -> bool:
    """Whether `value` can be a string partition key, of a table or of an index."""
    if not isinstance(value, str) or not value:
        return False
    return (len(value) if value.isascii() else len(value.encode())) <= _MAX_KEY_BYTES


def connect() -> DynamoDB:
    """Return the client that DYNAMODB_CLIENT names, `lean` or `boto3`. Both give up within 7 s."""
    if os.environ.get("DYNAMODB_CLIENT") == "boto3":
        from dynamodb import boto3_client

        return boto3_client.connect()
    from dynamodb import client

    return client.connect()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of DynamoDB to `ConditionFailed`, `DocumentTooLarge` and `Unavailable`.

    Any other error is unexpected, and is not translated.
    """
    try:
        yield
    except RequestRefused as refusal:
        if refusal.code == "ConditionalCheckFailedException":
            raise ConditionFailed(refusal.item) from refusal
        if refusal.code == "ValidationException" and "Item size" in refusal.message:
            raise DocumentTooLarge from refusal
        raise
    except TransientError as error:
        raise Unavailable(str(error)) from error
