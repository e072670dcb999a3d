"""DynamoDB's operations. An operation is one request, which is retried once if that can help."""

from __future__ import annotations

import json
import os
import zlib
from binascii import a2b_base64, b2a_base64
from contextlib import suppress
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import Any, Protocol

import clock
from dynamodb.connection import ANSWER_SECONDS, CONNECT_SECONDS, Answer, Connections
from dynamodb.credentials import CredentialSource
from dynamodb.errors import RequestRefused, TransientError
from dynamodb.signature import signed_headers

ATTEMPTS = 2
_ATTEMPT_SECONDS = CONNECT_SECONDS + ANSWER_SECONDS
_PAUSE_SECONDS = 0.05, 0.5
# Errors that a second attempt can help, in addition to the statuses 408, 429 and 5xx:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
THROTTLED = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeoutException",
    "Throttling",
    "ThrottlingException",
}
EXPIRED = {"ExpiredToken", "ExpiredTokenException"}
# All clones of a SnapStart snapshot start with the same state of any other generator.
_random = SystemRandom()


class Transport(Protocol):
    """Carries requests. A test may put something else in place of the network."""

    @property
    def host(self) -> str:
        """The host as in the Host header."""

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        """Send a request and wait for its answer. Raises `TransientError`."""

    def close(self) -> None:
        """Close the connections that are kept between exchanges."""


class Client:
    """Six operations, which are called like those of boto3's low-level client.

    Requests and results have the same form as with boto3, with `bytes` for values of type B. Sets
    are an exception: they have the form of DynamoDB's JSON protocol. All operations raise
    `RequestRefused`, `TransientError` and `NoCredentials`.

    An operation succeeds or fails within 7 s. It makes at most two attempts of 3 s, with a pause of
    at most half a second between them.

    If DynamoDB refuses a signature because of its time, the clock of this host is wrong, or the
    host was frozen before the request was sent. From then on, signatures use DynamoDB's clock.
    """

    def __init__(self, transport: Transport, *, region: str) -> None:
        self._transport = transport
        self._region = region
        self._credentials = CredentialSource()
        # How many seconds DynamoDB's clock is ahead of this host's, as far as that matters.
        self._clock_ahead = 0.0

    def get_item(self, **request: Any) -> dict[str, Any]:
        return self._call("GetItem", request)

    def put_item(self, **request: Any) -> dict[str, Any]:
        return self._call("PutItem", request)

    def update_item(self, **request: Any) -> dict[str, Any]:
        return self._call("UpdateItem", request)

    def query(self, **request: Any) -> dict[str, Any]:
        return self._call("Query", request)

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        return self._call("BatchGetItem", request)

    def batch_execute_statement(self, **request: Any) -> dict[str, Any]:
        return self._call("BatchExecuteStatement", request)

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(request, default=_to_base64, separators=(",", ":")).encode()
        for _ in range(ATTEMPTS - 1):
            try:
                return self._attempt(operation, body)
            except TransientError:
                clock.sleep(_random.uniform(*_PAUSE_SECONDS))
        return self._attempt(operation, body)

    def _attempt(self, operation: str, body: bytes) -> dict[str, Any]:
        deadline = clock.monotonic() + _ATTEMPT_SECONDS
        headers = signed_headers(
            operation,
            body,
            host=self._transport.host,
            region=self._region,
            credentials=self._credentials.get(deadline),
            now=clock.time() + self._clock_ahead,
        )
        status, checksum, answer, date = self._transport.exchange(headers, body, deadline)
        if status in (408, 429) or not 200 <= status < 500:
            raise TransientError(f"HTTP {status}")
        # A damaged result must not be mistaken for an empty one.
        if checksum not in (None, zlib.crc32(answer)):
            raise TransientError("ChecksumMismatch")
        result = _decode(answer)
        if status == 200 and result is not None:
            return result
        if status == 200:
            raise TransientError("NoJSON")
        raise self._refusal(status, result or {}, date)

    def _refusal(self, status: int, error: dict[str, Any], date: str | None) -> Exception:
        # "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"
        code = str(error.get("__type", f"HTTP {status}")).rpartition("#")[2]
        message = str(error.get("message") or error.get("Message") or "")
        if code in EXPIRED:
            self._credentials.reload()
        elif is_wrong_time(code, message):
            with suppress(ValueError, OverflowError):
                now = parsedate_to_datetime(date or "").timestamp()
                self._clock_ahead = now - clock.time()
        elif code not in THROTTLED:
            return RequestRefused(code, message, error.get("Item", {}))
        return TransientError(code)


def is_wrong_time(code: str, message: str) -> bool:
    """Whether DynamoDB refused a request because of the time at which it was signed.

    The code of a signature that is too old or too new is the same as that of a wrong one:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
    """
    return code == "RequestExpired" or (
        code == "InvalidSignatureException"
        and message.startswith(("Signature expired", "Signature not yet current"))
    )


def connect() -> Client:
    """Return a client for the region and the endpoint in the environment.

    The stack sets DYNAMODB_ENDPOINT to the endpoint of its region. The variables of AWS's SDKs,
    AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL, take precedence. Plain HTTP is used only if the
    endpoint says so.
    """
    region = os.environ.get("AWS_REGION") or os.environ["AWS_DEFAULT_REGION"]
    endpoint = (
        os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")
        or os.environ.get("AWS_ENDPOINT_URL")
        or os.environ["DYNAMODB_ENDPOINT"]
    )
    return Client(Connections(endpoint), region=region)


def _to_base64(value: object) -> str:
    """Encode a value of type B for JSON."""
    if isinstance(value, bytes):
        return b2a_base64(value, newline=False).decode()
    raise TypeError(f"{type(value).__name__} is not an attribute value")


def _decode(answer: bytes) -> dict[str, Any] | None:
    try:
        result = json.loads(answer, object_hook=_with_bytes)
    except (ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) else None


def _with_bytes(members: dict[str, Any]) -> dict[str, Any]:
    # An attribute can have the name "B" as well, but its value is a dict and not a text.
    if isinstance(members.get("B"), str):
        members["B"] = a2b_base64(members["B"], strict_mode=True)
    return members
