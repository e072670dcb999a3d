"""The source of the credentials that requests are signed with."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from threading import Lock
from typing import NamedTuple
from urllib.parse import urlsplit

import clock
from dynamodb.connection import Connections
from dynamodb.errors import NoCredentials, TransientError

# These variables are set instead of the keys under Lambda's SnapStart:
# https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
_URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
_AUTHORIZATION = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
# One short try is enough, because the request that waits for it is sent again anyway.
_ENDPOINT_SECONDS = 1.0
_RENEWAL_SECONDS = 15 * 60
_PAUSE_SECONDS = 60
_EPOCH = datetime.fromtimestamp(0, UTC)


class Credentials(NamedTuple):
    """Keys. `token` is empty for keys that do not expire. The `repr` does not show them."""

    access_key: str
    secret_key: str
    token: str

    def __repr__(self) -> str:
        return "Credentials(…)"


class CredentialSource:
    """Credentials from the environment, or from the endpoint that the environment names.

    Those of the endpoint are renewed from 15 minutes before they expire. Until that succeeds, the
    old ones are used, and there is a minute between two tries. DynamoDB alone decides whether they
    have expired, because the clock of this host may be wrong.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._loaded: Credentials | None = None
        self._renew_at = 0.0

    def get(self, deadline: float) -> Credentials:
        """Return the credentials by `deadline`, a time of `clock.monotonic()`.

        Raises `NoCredentials`, or `TransientError` if the endpoint does not provide any.
        """
        if _URI in os.environ:
            return self._from_endpoint(deadline)
        try:
            return Credentials(
                os.environ["AWS_ACCESS_KEY_ID"],
                os.environ["AWS_SECRET_ACCESS_KEY"],
                os.environ.get("AWS_SESSION_TOKEN", ""),
            )
        except KeyError:
            raise NoCredentials(
                "neither AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY"
                f" nor {_URI} is set in the environment"
            ) from None

    def reload(self) -> None:
        """Load the credentials again next time, because DynamoDB says that they have expired."""
        self._loaded = None

    def _from_endpoint(self, deadline: float) -> Credentials:
        if fresh := self._fresh():
            return fresh
        if not self._lock.acquire(timeout=max(0.0, deadline - clock.monotonic())):
            raise TransientError("credentials: TimeoutError")
        try:
            # Another thread may have loaded new ones in the meantime.
            return self._fresh() or self._load(deadline)
        finally:
            self._lock.release()

    def _fresh(self) -> Credentials | None:
        return self._loaded if clock.time() < self._renew_at else None

    def _load(self, deadline: float) -> Credentials:
        old = self._loaded
        self._renew_at = clock.time() + _PAUSE_SECONDS
        try:
            new, expiration = _fetch(min(deadline, clock.monotonic() + _ENDPOINT_SECONDS))
        except TransientError:
            if old:
                return old
            raise
        self._loaded = new
        self._renew_at = max(self._renew_at, expiration - _RENEWAL_SECONDS)
        return new


def _fetch(deadline: float) -> tuple[Credentials, float]:
    """Return the endpoint's credentials, and when they expire in seconds since the epoch."""
    uri = os.environ[_URI]
    try:
        endpoint = Connections(uri)
    except ValueError as error:
        raise NoCredentials(f"{_URI}: {error}") from None
    headers = {"host": endpoint.host, "authorization": os.environ.get(_AUTHORIZATION, "")}
    path = urlsplit(uri)._replace(scheme="", netloc="", fragment="").geturl() or "/"
    try:
        answer = endpoint.exchange(headers, b"", deadline, start=f"GET {path}")
    except TransientError as error:
        raise TransientError(f"credentials: {error}") from None
    finally:
        endpoint.close()
    if answer.status != 200:
        raise TransientError(f"credentials: HTTP {answer.status}")
    try:
        return _parse(answer.body)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise TransientError("credentials: malformed answer") from None


def _parse(body: bytes) -> tuple[Credentials, float]:
    answer = json.loads(body)
    keys = Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"])
    # Each becomes a part of a header, in which a line break would begin another header.
    for key in keys:
        if not (isinstance(key, str) and key and key.isascii() and key.isprintable()):
            raise ValueError
    expiration = datetime.fromisoformat(answer["Expiration"])
    # The difference from a time with a time zone is an error if the expiration has none.
    return keys, (expiration - _EPOCH).total_seconds()
