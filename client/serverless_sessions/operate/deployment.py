"""Access to a deployed stack, on AWS or on the local stack, with the operator's credentials."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from serverless_sessions import Sessions
from serverless_sessions._core import clock
from serverless_sessions.errors import SessionsError
from serverless_sessions.operate.account import Account

_TRIES = 3
_PAUSE_SECONDS = 1
# A new deployment can respond slowly at first.
_DEADLINE_SECONDS = 60


def local_stack_hint() -> str:
    """Return sentences to append to an error if this shell uses a local stack, else nothing."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if urlsplit(endpoint).hostname not in ("127.0.0.1", "localhost", "::1"):
        return ""
    return (
        f" AWS_ENDPOINT_URL is {endpoint}, so this shell uses the local stack instead of AWS. Leave"
        " out --stage to use SESSIONS_URL. For AWS, use another terminal."
    )


class OperationError(SessionsError):
    """An operation on a deployment failed. The message is a sentence for the operator."""


class Deployment:
    """The stack of `stage` in the account and region of `account`.

    Raises `OperationError` if there is no such stack. botocore's errors are not translated.
    """

    def __init__(self, account: Account, stage: str) -> None:
        self._account = account
        self._clients: dict[str, Any] = {}
        self.stage = stage
        self.stack = f"Sessions-{stage}"
        self.region = account.region
        try:
            answer = self.client("cloudformation").describe_stacks(StackName=self.stack)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            raise OperationError(
                f"There is no stack {self.stack} in {self.region} of this account."
                + local_stack_hint()
            ) from error
        [stack] = answer["Stacks"]
        self._outputs = {
            output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())
        }

    def client(self, service: str) -> Any:
        """Return a client of an AWS service in the stack's region. It is created only once."""
        if service not in self._clients:
            self._clients[service] = self._account.client(service)
        return self._clients[service]

    def has_output(self, name: str) -> bool:
        return name in self._outputs

    def output(self, name: str) -> str:
        """Return the stack's output `name`. Raises `OperationError` if there is no such output."""
        if not self.has_output(name):
            raise OperationError(f"{self.stack} has no output {name}; deploy it again.")
        return str(self._outputs[name])

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return self._reachable(self.output("ApiUrl"))

    def sessions(self, output: str = "ApiUrl") -> Sessions:
        """Create a client with the operator's credentials. `output` has the service's URL."""
        return Sessions(
            self._reachable(self.output(output)),
            profile=self._account.profile,
            region=self.region,
            deadline_seconds=_DEADLINE_SECONDS,
            verify_deadline_seconds=_DEADLINE_SECONDS,
        )

    def _reachable(self, url: str) -> str:
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        return local_url(endpoint, url) if endpoint else url

    def invoke(self, function: str, event: Any) -> Any:
        """Invoke the function whose ARN is `function`, and return its result.

        If the function fails, it is invoked again. Raises `OperationError` if it keeps failing.
        """
        for attempt in range(_TRIES):
            if attempt:
                clock.sleep(_PAUSE_SECONDS * 2**attempt)
            answer = self.client("lambda").invoke(
                FunctionName=function, Payload=json.dumps(event).encode()
            )
            result = json.load(answer["Payload"])
            if "FunctionError" not in answer:
                return result
        # The function's own error message is left out, because it may quote the event.
        kind = result.get("errorType", answer["FunctionError"])
        raise OperationError(f"{function} failed {_TRIES} times ({kind}). Its log has the details.")


def local_url(endpoint: str, aws_url: str) -> str:
    """Convert the URL of an API or of a function on AWS to the URL at which MiniStack serves it."""
    _, host, path, *_ = urlsplit(aws_url)
    id_, kind, _ = host.split(".", 2)
    stage = f"/{path.strip('/') or 'default'}" if kind == "execute-api" else ""
    return f"{endpoint}/_aws/{kind}/{id_}{stage}"
