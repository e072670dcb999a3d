"""An operator's AWS account, seen with the operator's credentials."""

from __future__ import annotations

from typing import Any

import botocore.session
from botocore.config import Config

from serverless_sessions._core.signing import configured_region
from serverless_sessions.errors import SessionsError

# A function of the stack ends after a minute; the local stack may be slow to begin one.
_CONFIG = Config(read_timeout=120, retries={"mode": "standard", "total_max_attempts": 5})


class NoRegion(SessionsError):
    """Nothing says which AWS region is meant."""


class Account:
    """An operator's account by `profile`, as the AWS CLI takes it.

    `chosen_region` is the one that the operator named, if any.
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
            raise NoRegion("No AWS region is configured: say --region, or set AWS_REGION.")
        return region

    def arn(self) -> str:
        """Who the credentials belong to, as the trail will name them."""
        arn: str = self.client("sts").get_caller_identity()["Arn"]
        return arn

    def client(self, service: str) -> Any:
        """A client of an AWS service in this region."""
        return self._session.create_client(service, region_name=self.region, config=_CONFIG)
