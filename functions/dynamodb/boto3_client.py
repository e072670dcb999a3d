"""boto3's client in place of the lean one, with the same calls and the same errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
)
from botocore.exceptions import ConnectionError as NoConnection

from dynamodb.client import ATTEMPTS, EXPIRED, THROTTLED, is_wrong_time
from dynamodb.connection import ANSWER_SECONDS, CONNECT_SECONDS
from dynamodb.errors import NoCredentials, RequestRefused, TransientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Boto3Client:
    """The six operations of `dynamodb.client.Client`, carried out by `sdk`."""

    def __init__(self, sdk: DynamoDBClient) -> None:
        self.get_item = _translated(sdk.get_item)
        self.put_item = _translated(sdk.put_item)
        self.update_item = _translated(sdk.update_item)
        self.query = _translated(sdk.query)
        self.batch_get_item = _translated(sdk.batch_get_item)
        self.batch_execute_statement = _translated(sdk.batch_execute_statement)
        self.close = sdk.close
        self.sdk = sdk


def connect() -> Boto3Client:
    """Return a client that gives up early enough for its caller to answer in time.

    It makes two attempts of at most 1 s + 2 s. The pause between them is at most 1 s, unless
    DynamoDB itself asks for a longer one. An answer that arrives in small pieces can take longer.
    """
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    return Boto3Client(boto3.client("dynamodb", config=config))


def _translated(operation: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    def call(**request: Any) -> dict[str, Any]:
        try:
            return operation(**request)  # type: ignore[no-any-return]
        except ClientError as error:
            raise _refusal(error) from None
        except (NoConnection, HTTPClientError, CredentialRetrievalError) as error:
            raise TransientError(type(error).__name__) from None
        except NoCredentialsError as error:
            raise NoCredentials(str(error)) from None

    return call


def _refusal(error: ClientError) -> RequestRefused | TransientError:
    answer: Any = error.response
    code, message = answer["Error"]["Code"], answer["Error"]["Message"]
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    if (
        code in THROTTLED | EXPIRED
        or status in (408, 429)
        or status >= 500
        or is_wrong_time(code, message)
    ):
        return TransientError(code)
    return RequestRefused(code, message, answer.get("Item", {}))
