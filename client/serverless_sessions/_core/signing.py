"""AWS credentials, the region and the signature of a request. botocore does the work."""

from __future__ import annotations

import os
import re
import threading
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session as BotocoreSession

from serverless_sessions._core.calls import Request
from serverless_sessions._core.secret import Secret
from serverless_sessions.errors import NoCredentials

_API_HOST = re.compile(r"[^.]+\.execute-api\.([^.]+)\.amazonaws\.com(\.cn)?")


def find_region(url: str, profile: str | None) -> str:
    """Return the region in the API's host name, or else the configured region.

    Raises `ValueError` if there is neither.
    """
    region = region_of(url) or configured_region(BotocoreSession(profile=profile))
    if not region:
        raise ValueError("the URL does not contain the region: pass it with region=…")
    return region


def region_of(url: str) -> str | None:
    """Return the region in the API's host name, or None if there is none in it."""
    host = _API_HOST.fullmatch(urlsplit(url).hostname or "")
    return host[1] if host else None


def configured_region(session: BotocoreSession) -> str | None:
    """Return the region of the environment or of the AWS configuration, or None."""
    # Lambda sets AWS_REGION, and newer AWS SDKs read it. botocore reads AWS_DEFAULT_REGION.
    return os.environ.get("AWS_REGION") or session.get_config_variable("region") or None


class Signer:
    """Signs requests with `credentials`, or with those that botocore finds and refreshes."""

    def __init__(self, profile: str | None, credentials: Credentials | None) -> None:
        self._profile = profile
        self._credentials = credentials
        self._lock = threading.Lock()

    @property
    def may_block(self) -> bool:
        """Whether the next signature may have to read files or to request credentials from AWS."""
        if self._credentials is None:
            return True
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return bool(refresh_needed and refresh_needed())

    def sign(self, request: Request) -> Secret[dict[str, str]]:
        """Return the request's headers and its signature. Raises `NoCredentials`."""
        try:
            return request.body.map(lambda body: self._headers(request, body))
        except BotoCoreError as error:
            raise NoCredentials(str(error)) from error

    def _headers(self, request: Request, body: bytes) -> dict[str, str]:
        aws = AWSRequest(request.method, request.url, dict(request.headers), body)
        credentials = self._find_credentials().get_frozen_credentials()
        SigV4Auth(credentials, request.aws_service, request.region).add_auth(aws)
        return dict(aws.headers.items())

    def _find_credentials(self) -> Credentials:
        with self._lock:
            if self._credentials is None:
                credentials = BotocoreSession(profile=self._profile).get_credentials()
                if credentials is None:
                    raise NoCredentials("botocore finds no AWS credentials")
                self._credentials = credentials
            return self._credentials
