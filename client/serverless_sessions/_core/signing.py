"""AWS's side of a request: credentials, region, signature. All of it is botocore's."""

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
from serverless_sessions.errors import NoCredentials

_API_HOST = re.compile(r"[^.]+\.execute-api\.([^.]+)\.amazonaws\.com(\.cn)?")


def find_region(url: str, profile: str | None) -> str:
    """The region in an API's own host name, else the configured one. Raises `ValueError`."""
    region = region_of(url) or configured_region(BotocoreSession(profile=profile))
    if not region:
        raise ValueError("the URL does not tell the region: name it with region=…")
    return region


def region_of(url: str) -> str | None:
    """The region in an API's own host name, None if it has another one."""
    host = _API_HOST.fullmatch(urlsplit(url).hostname or "")
    return host[1] if host else None


def configured_region(session: BotocoreSession) -> str | None:
    """The region that the environment or AWS's configuration names, None if neither does."""
    # AWS_REGION is set by Lambda and read by the newer SDKs; botocore reads AWS_DEFAULT_REGION.
    return os.environ.get("AWS_REGION") or session.get_config_variable("region") or None


class Signer:
    """Signs with `credentials`, or with those that botocore finds and renews."""

    def __init__(self, profile: str | None, credentials: Credentials | None) -> None:
        self._profile = profile
        self._credentials = credentials
        self._lock = threading.Lock()

    @property
    def may_block(self) -> bool:
        """Whether the next signature may read files or ask AWS for credentials first."""
        if self._credentials is None:
            return True
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return bool(refresh_needed and refresh_needed())

    def sign(self, request: Request) -> dict[str, str]:
        """All headers to send. Raises `NoCredentials`."""
        aws = AWSRequest(request.method, request.url, dict(request.headers), request.body)
        try:
            found = self._find().get_frozen_credentials()
            SigV4Auth(found, request.signed_for, request.region).add_auth(aws)
        except BotoCoreError as error:
            raise NoCredentials(str(error)) from error
        return dict(aws.headers.items())

    def _find(self) -> Credentials:
        with self._lock:
            if self._credentials is None:
                found = BotocoreSession(profile=self._profile).get_credentials()
                if found is None:
                    raise NoCredentials("botocore finds no AWS credentials")
                self._credentials = found
            return self._credentials
