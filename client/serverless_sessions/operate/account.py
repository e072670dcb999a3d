"""A deployed stage: where its API is, and who is asking."""

from __future__ import annotations

import os
from typing import Any

import botocore.session
from botocore.exceptions import ClientError

from serverless_sessions.errors import SessionsError


class NoSuchStage(SessionsError):
    """No stack of this stage is deployed in the account and region that were asked."""


class Account:
    """An operator's AWS account and region, by profile as the AWS CLI takes it."""

    def __init__(self, *, profile: str | None = None, region: str | None = None) -> None:
        self._session = botocore.session.Session(profile=profile)
        self.profile = profile
        self.asked_region = region
        configured = os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
        self.region = region or configured

    def url(self, stage: str) -> str:
        """The base URL of the API of the stack `Sessions-<stage>`. Raises `NoSuchStage`."""
        name = f"Sessions-{stage}"
        try:
            [stack] = self._client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            raise NoSuchStage(f"There is no stack '{name}' in {self.region}.") from error
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
        url: str = outputs["ApiUrl"]
        return url

    def arn(self) -> str:
        """Who the credentials belong to, as the trail will name them."""
        arn: str = self._client("sts").get_caller_identity()["Arn"]
        return arn

    def _client(self, service: str) -> Any:
        return self._session.create_client(service, region_name=self.region)
