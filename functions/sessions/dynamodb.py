"""The connection to DynamoDB, and what its refusals mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from dynamodb.errors import RequestRefused, TransientError
from sessions.errors import DocumentTooLarge, Unavailable

# An item or a value as the low-level client spells it: {"UserId": {"S": "ada"}}, {"S": "ada"}.
Attribute = Any
Item = dict[str, Attribute]

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_MAX_KEY_BYTES = 2048


class DynamoDB(Protocol):
    """The operations that this package needs, as boto3's low-level client calls them."""

    def get_item(self, **request: Any) -> dict[str, Any]: ...
    def put_item(self, **request: Any) -> dict[str, Any]: ...
    def update_item(self, **request: Any) -> dict[str, Any]: ...
    def query(self, **request: Any) -> dict[str, Any]: ...
    def batch_get_item(self, **request: Any) -> dict[str, Any]: ...
    def batch_execute_statement(self, **request: Any) -> dict[str, Any]: ...


class ConditionFailed(Exception):
    """A write's condition did not hold; `item` is what stands there, empty if nothing does."""

    def __init__(self, item: Item) -> None:
        super().__init__("the condition of the write did not hold")
        self.item = item


def fits_key(value: object) -> bool:
    """Whether `value` can be the string of a partition key, of an index too."""
    if not isinstance(value, str) or not value:
        return False
    return (len(value) if value.isascii() else len(value.encode())) <= _MAX_KEY_BYTES


def connect() -> DynamoDB:
    """The client that DYNAMODB_CLIENT names, `lean` or `boto3`; both give up within 7 s."""
    if os.environ.get("DYNAMODB_CLIENT") == "boto3":
        from dynamodb import boto3_client

        return boto3_client.connect()
    from dynamodb import client

    return client.connect()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise what DynamoDB refused as `ConditionFailed`, `DocumentTooLarge` or `Unavailable`.

    Anything else rises untouched: nobody foresaw it.
    """
    try:
        yield
    except RequestRefused as refused:
        if refused.code == "ConditionalCheckFailedException":
            raise ConditionFailed(refused.item) from refused
        if refused.code == "ValidationException" and "Item size" in refused.message:
            raise DocumentTooLarge from refused
        raise
    except TransientError as error:
        raise Unavailable(str(error)) from error
