"""The AWS credentials of a process. botocore finds and renews them, in a thread of their own."""

from __future__ import annotations

import re
from concurrent.futures import Future
from typing import Any

from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
)
from botocore.session import Session as BotocoreSession

from serverless_sessions._core import clock
from serverless_sessions._core.background import Lookup
from serverless_sessions._core.checks import check_keys
from serverless_sessions._core.secret import Secret
from serverless_sessions.errors import NoCredentials, Unavailable

# botocore considers credentials due 15 minutes before they expire. Credentials that never live that
# long are always due. They are renewed no more often than this.
_RENEWAL_SECONDS = 30.0
# After a failure the provider is not called again for this long. botocore has retried by then.
_PAUSE_SECONDS = 1.0
# What botocore's text says if the endpoint of a container, or of EKS, fails for now.
_METADATA_OUTAGE = re.compile(r"non 200 response (5\d\d|429)\b")
_OUTAGE_CODES = {"IDPCommunicationError", "RequestExpired", "RequestLimitExceeded", "SlowDown"}
TIME_REFUSED = re.compile(r"Signature expired|Signature not yet current|RequestTimeTooSkewed")


class Keys:
    """The credentials that the app passed, or those that botocore finds for `profile`."""

    def __init__(self, profile: str | None, credentials: Credentials | None) -> None:
        self._profile = profile
        self._credentials = credentials
        self._lookup = Lookup(self._load, pause=_PAUSE_SECONDS)
        self._next_renewal = 0.0

    def current(self) -> Secret[ReadOnlyCredentials] | Future[Secret[ReadOnlyCredentials]]:
        """Return the keys. If there are none that are valid, return those that are looked up.

        This never blocks. Keys that are due are renewed while they are still used.
        """
        credentials = self._credentials
        if type(credentials) is Credentials:
            return Secret(credentials.get_frozen_credentials())
        if not isinstance(credentials, RefreshableCredentials):
            return self._lookup.start()
        # The public method renews the keys, and blocks for as long as that takes.
        keys: Secret[Any] = Secret(getattr(credentials, "_frozen_credentials", None))
        if not credentials.refresh_needed() and keys.value:
            return keys
        if keys.value is None or credentials.refresh_needed(0):
            return self._lookup.start()
        if clock.monotonic() >= self._next_renewal:
            self._next_renewal = clock.monotonic() + _RENEWAL_SECONDS
            self._lookup.start()
        return keys

    def _load(self) -> Secret[ReadOnlyCredentials]:
        """Raise `Unavailable` if the provider may answer later, otherwise `NoCredentials`."""
        try:
            return self._find()
        except Exception as error:
            kind = Unavailable if _is_outage(error) else NoCredentials
            raise kind(_describe(error)) from alone(error)

    def _find(self) -> Secret[ReadOnlyCredentials]:
        credentials = self._credentials
        if credentials is None:
            credentials = BotocoreSession(profile=self._profile).get_credentials()
        if credentials is None:
            raise NoCredentialsError
        keys = Secret(credentials.get_frozen_credentials())
        keys.map(check_keys)
        self._credentials = credentials
        return keys


def _is_outage(error: BaseException) -> bool:
    """Return whether the provider did not answer. Otherwise it refused, or there is none."""
    while True:
        if isinstance(error, (HTTPClientError, ConnectionError)) or (
            isinstance(error, BotoCoreError) and _METADATA_OUTAGE.search(str(error))
        ):
            return True
        if isinstance(error, ClientError):
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return (
                status >= 500
                or status == 429
                or code in _OUTAGE_CODES
                or "Throttl" in code
                or bool(TIME_REFUSED.search(str(error)))
            )
        # botocore replaces the errors of some providers by others, without naming the cause.
        following = error.__cause__ or error.__context__
        if following is None:
            return False
        error = following


def _describe(error: Exception) -> str:
    if isinstance(error, NoCredentialsError):
        return "botocore finds no AWS credentials"
    if isinstance(error, (BotoCoreError, ClientError)):
        return str(error)
    return f"the AWS credentials cannot be found or renewed ({type(error).__name__}: {error})"


def alone(error: BaseException) -> BaseException:
    """Return the error without its causes, and without frames, whose variables contain secrets."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
