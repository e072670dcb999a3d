"""A deployed stack, seen with its operator's credentials, on AWS and on the local stack alike."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.stack import execute_api_url
from serverless_sessions import NotAllowed, Sessions, SessionsError

_TRIES = 3
_PAUSE_SECONDS = 1
# What was deployed a moment ago may be slow to answer.
_DEADLINE_SECONDS = 60
# A function of this stack ends after a minute; the local stack may be slow to begin one.
_CONFIG = Config(read_timeout=120, retries={"mode": "standard", "total_max_attempts": 5})


class OperationError(Exception):
    """Why an operation on a deployment did not succeed, in a sentence."""


class Deployment:
    """The stack of `stage` in the account and the region that the environment names.

    Raises `OperationError` if there is none, and lets errors of botocore rise: they are sentences.
    """

    def __init__(self, stage: str) -> None:
        # The CDK goes by AWS_REGION; boto3 on its own does not.
        self._session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
        self.stage = stage
        self.stack = f"Sessions-{stage}"
        self.region = self._session.region_name
        try:
            [found] = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"]
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            raise OperationError(
                f"There is no stack {self.stack} in {self.region} of this account."
            ) from error
        self._outputs = {
            each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())
        }
        self._lambda = self.client("lambda")

    def client(self, service: str) -> Any:
        return self._session.client(service, config=_CONFIG)  # type: ignore[call-overload]

    def has_output(self, name: str) -> bool:
        return name in self._outputs

    def output(self, name: str) -> str:
        """What the stack calls `name`."""
        if not self.has_output(name):
            raise OperationError(f"{self.stack} has no output {name}; deploy it anew.")
        return str(self._outputs[name])

    def sessions(self) -> Sessions:
        """A client of the API with the operator's credentials."""
        url, endpoint = self.output("ApiUrl"), os.environ.get("AWS_ENDPOINT_URL")
        return Sessions(
            execute_api_url(endpoint, url) if endpoint else url,
            region=self.region,
            deadline_seconds=_DEADLINE_SECONDS,
            verify_deadline_seconds=_DEADLINE_SECONDS,
        )

    def invoke(self, function: str, event: Any) -> Any:
        """What the function of this ARN answers to `event`.

        A function that fails is asked again, and then an `OperationError`.
        """
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_SECONDS * 2**attempt)
            answer = self._lambda.invoke(FunctionName=function, Payload=json.dumps(event).encode())
            found = json.load(answer["Payload"])
            if "FunctionError" not in answer:
                return found
        # No message: it may quote what it was about.
        kind = found.get("errorType", answer["FunctionError"])
        raise OperationError(f"{function} failed {_TRIES} times ({kind}); its log tells more.")


def run(operation: Callable[[], int]) -> NoReturn:
    """End this process as `operation` says; what went wrong becomes a sentence and 1."""
    try:
        sys.exit(operation())
    except NotAllowed:
        sys.exit("The API refuses the call: may this caller do execute-api:Invoke?")
    except (OperationError, SessionsError, BotoCoreError, ClientError) as error:
        sys.exit(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)
