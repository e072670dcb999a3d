"""The connection to DynamoDB, and what its refusals mean."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from sessions.errors import DocumentTooLarge, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# An item or a value as the low-level client spells it: {"UserId": {"S": "ada"}}, {"S": "ada"}.
# They nest, and botocore's stubs spell them in two ways: so much for their types.
Attribute = Any
Item = dict[str, Attribute]

# Beside whatever has a status of 408, 429 or 5xx:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
_TRY_LATER = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeoutException",
    "Throttling",
    "ThrottlingException",
}
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_MAX_KEY_BYTES = 2048


class ConditionFailed(Exception):
    """A write's condition did not hold; `item` is what stands there, empty if nothing does."""

    def __init__(self, item: Item) -> None:
        super().__init__("the condition of the write did not hold")
        self.item = item


def fits_key(value: object) -> bool:
    """Whether `value` can be the string of a partition key, of an index too."""
    return isinstance(value, str) and 0 < len(value.encode()) <= _MAX_KEY_BYTES


def connect() -> DynamoDBClient:
    """A client that gives up early enough for its caller to still answer.

    Two attempts of at most 1 s + 2 s, and at most 1 s between them unless DynamoDB itself asks for
    a longer pause: 7 s.
    """
    config = Config(
        connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2}
    )
    # What has been imported and the service's model stay for good. Looking for garbage among them
    # would take close to a tenth of a cold start, and stop some later request.
    gc.disable()
    client = boto3.client("dynamodb", config=config)
    gc.freeze()
    gc.enable()
    return client


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what DynamoDB refused as `ConditionFailed`, `DocumentTooLarge` or `Unavailable`.

    Anything else rises untouched: nobody foresaw it.
    """
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ConditionalCheckFailedException":
            raise ConditionFailed(cast("Item", error.response.get("Item", {}))) from error
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in _TRY_LATER or status in (408, 429) or status >= 500:
            raise Unavailable from error
        if code == "ValidationException" and "Item size" in error.response["Error"]["Message"]:
            raise DocumentTooLarge from error
        raise
    except (NoConnection, HTTPClientError) as error:
        raise Unavailable from error
