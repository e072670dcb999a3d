"""The operator's AWS account and credentials."""

from __future__ import annotations

from typing import Any

import botocore.session
from botocore.config import Config

from serverless_sessions._core.signing import configured_region
from serverless_sessions.errors import SessionsError

# The stack's functions time out after a minute. The local stack can be slow to start one.
_CONFIG = Config(read_timeout=120, retries={"mode": "standard", "total_max_attempts": 5})


class NoRegion(SessionsError):
    """No AWS region is configured."""


class Account:
    """The account of an AWS profile, which is selected as in the AWS CLI.

    `chosen_region` is the region that the operator passed, or None.
    """

    def __init__(self, *, profile: str | None = None, region: str | None = None) -> None:
        self._session = botocore.session.Session(profile=profile)
        self.profile = profile
        self.chosen_region = region

    @property
    def region(self) -> str:
        """The chosen region, else the configured one. Raises `NoRegion`."""
        region = self.chosen_region or configured_region(self._session)
        if not region:
            raise NoRegion("No AWS region is configured: use --region, or set AWS_REGION.")
        return region

    def arn(self) -> str:
        """Return the ARN of the credentials, which the trail records as the actor."""
        arn: str = self.client("sts").get_caller_identity()["Arn"]
        return arn

    def client(self, service: str) -> Any:
        """Create a client of an AWS service in this region."""
        return self._session.create_client(service, region_name=self.region, config=_CONFIG)
