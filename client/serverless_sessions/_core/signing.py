"""The signature of a request, its scope and its time. botocore computes the signature."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.session import Session as BotocoreSession

from serverless_sessions._core import clock
from serverless_sessions._core.background import Pending, PerProcess
from serverless_sessions._core.calls import Answer, Deadline, NoAnswer, Outcome, Request
from serverless_sessions._core.checks import check_keys
from serverless_sessions._core.credentials import TIME_REFUSED, Keys
from serverless_sessions._core.secret import Secret
from serverless_sessions.errors import NoCredentials

# The host of an API, or of a function URL. The domain that follows depends on the partition of AWS.
_HOST = re.compile(r"[^.]+\.(execute-api|lambda-url)\.([a-z]+(?:-[a-z]+)+-[0-9]+)\..+")
# The path at which the local stack serves a function URL.
_LOCAL_FUNCTION_URL = "/_aws/lambda-url/"
# AWS accepts a signature for five minutes. Below this difference the clock is not the reason.
_SKEW_SECONDS = 60


def find_region(url: str, profile: str | None) -> str:
    """Return the region in the host name of `url`, or else the configured region.

    Raises `ValueError` if there is neither.
    """
    region = region_of(url) or configured_region(BotocoreSession(profile=profile))
    if not region:
        raise ValueError("the URL does not contain the region: pass it with region=…")
    return region


def region_of(url: str) -> str | None:
    """Return the region in the host name of `url`, or None if there is none in it."""
    host = _HOST.fullmatch(urlsplit(url).hostname or "")
    return host[2] if host else None


def service_of(url: str) -> str:
    """Return the AWS service that requests to `url` are signed for.

    It is `lambda` for a function URL. Everything else is taken for an API of API Gateway.
    """
    parts = urlsplit(url)
    host = _HOST.fullmatch(parts.hostname or "")
    is_function_url = (
        host[1] == "lambda-url" if host else parts.path.startswith(_LOCAL_FUNCTION_URL)
    )
    return "lambda" if is_function_url else "execute-api"


def configured_region(session: BotocoreSession) -> str | None:
    """Return the region of the environment or of the AWS configuration, or None."""
    # Lambda sets AWS_REGION, and newer AWS SDKs read it. botocore reads AWS_DEFAULT_REGION.
    return os.environ.get("AWS_REGION") or session.get_config_variable("region") or None


class Signer:
    """Signs requests with `credentials`, or with those that botocore finds and renews.

    Raises `ValueError` if no request can contain the credentials.
    """

    def __init__(self, profile: str | None, credentials: Credentials | None) -> None:
        if type(credentials) is Credentials:
            Secret(credentials.get_frozen_credentials()).map(check_keys)
        self._profile = profile
        self._credentials = credentials
        self._process = os.getpid()
        self._keys = PerProcess(self._make_keys)
        # What has to be added to this host's clock, in seconds.
        self._correction = 0.0

    def exchange(self, request: Request) -> Generator[Request | Pending, Outcome, Outcome]:
        """Yield the signed request to be sent, and return its outcome.

        Yields a `Pending` first if the credentials have to be waited for. A request that is refused
        because of its time is signed and sent once more, with the time that the service has.

        Raises `NoCredentials`.
        """
        deadline = Deadline(request.seconds)
        keys = self._keys.get().current()
        if isinstance(keys, Future):
            yield Pending(keys, deadline.left)
            if not keys.done():
                return NoAnswer("the AWS credentials are still being looked up", sent=False)
            error = keys.exception()
            if isinstance(error, NoCredentials):
                # All waiting calls share `error`, so each one raises an exception of its own.
                raise NoCredentials(error.detail) from error.__cause__
            if error:
                return NoAnswer(str(error), sent=False, cause=error.__cause__)
            keys = keys.result()
        signed_at = self._now()
        outcome = yield _sign(request, keys, signed_at, deadline)
        if self._corrects_clock(outcome, signed_at):
            outcome = yield _sign(request, keys, self._now(), deadline)
        if _is_time_refused(outcome):
            host = urlsplit(request.url).netloc
            return NoAnswer(f"{host} refuses the time of the request's signature", sent=False)
        return outcome

    def _now(self) -> float:
        return clock.time() + self._correction

    def _corrects_clock(self, outcome: Outcome, signed_at: float) -> bool:
        """Correct the clock if a refused request was signed with another time than the service's.

        The text of a refusal is not documented, so the difference of the times decides.
        """
        if not isinstance(outcome, Answer) or not (
            outcome.status == 403 or _is_time_refused(outcome)
        ):
            return False
        try:
            answered_at = outcome.time
        except (KeyError, ValueError):
            return False
        if abs(answered_at - signed_at) < _SKEW_SECONDS:
            return False
        self._correction = answered_at - clock.time()
        return True

    def _make_keys(self) -> Keys:
        if isinstance(self._credentials, RefreshableCredentials) and os.getpid() != self._process:
            # A thread of the parent process may have held the lock when this process was forked.
            vars(self._credentials)["_refresh_lock"] = threading.Lock()
        return Keys(self._profile, self._credentials)


def _is_time_refused(outcome: Outcome) -> bool:
    return (
        isinstance(outcome, Answer)
        and outcome.status in (400, 401, 403)
        and bool(TIME_REFUSED.search(outcome.body.decode("latin-1")))
    )


def _sign(
    request: Request, keys: Secret[ReadOnlyCredentials], at: float, deadline: Deadline
) -> Request:
    """Return the request with its signature of the time `at`."""
    timestamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = request.body.map(lambda body: _headers(request, body, keys.value, timestamp))
    return replace(
        request,
        headers=headers.value,
        seconds=max(deadline.left, 0.0),
        patience_seconds=max(min(request.patience_seconds, deadline.left), 0.0),
    )


def _headers(
    request: Request, body: bytes, keys: ReadOnlyCredentials, timestamp: str
) -> dict[str, str]:
    headers = dict(request.headers) | {"X-Amz-Date": timestamp}
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    aws = AWSRequest(request.method, request.url, headers, body)
    aws.context["timestamp"] = timestamp
    # `add_auth` would take the time from the clock, and log the query and the session token.
    auth = SigV4Auth(keys, request.aws_service, request.region)
    signature = auth.signature(auth.string_to_sign(aws, auth.canonical_request(aws)), aws)
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(aws)}, "
        f"SignedHeaders={auth.signed_headers(auth.headers_to_sign(aws))}, Signature={signature}"
    )
    return headers
