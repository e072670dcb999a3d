"""Access to a deployed service, on AWS or on the local stack, with the operator's credentials."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
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
# An output that every service has, and that is hardly the name of anything else.
_MARK = "FailedEventsBucket"
# The CDK adds this to the names of outputs, except to those at the top of a stack.
_HASH = "[0-9A-F]{8}"


def is_local() -> bool:
    """Return whether this shell uses a local stack instead of AWS."""
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    return endpoint.hostname in ("127.0.0.1", "localhost", "::1")


def local_stack_hint() -> str:
    """Return sentences to append to an error if this shell uses a local stack, else nothing."""
    if not is_local():
        return ""
    return (
        f" AWS_ENDPOINT_URL is {os.environ['AWS_ENDPOINT_URL']}, so this shell uses the local stack"
        " instead of AWS. Leave out --stage to use SESSIONS_URL. For AWS, use another terminal."
    )


class OperationError(SessionsError):
    """An operation on a deployment failed. The message is a sentence for the operator."""


class Deployment:
    """A service in the stack `stack`, in the account and region of `account`.

    `service` is the path of its construct in the stack, which may be omitted if there is only one.
    Raises `OperationError` if there is no such stack or service, or if there are several services.
    botocore's errors are not translated.
    """

    def __init__(self, account: Account, stack: str, service: str | None = None) -> None:
        self._account = account
        self._clients: dict[str, Any] = {}
        self.stack = stack
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
        [described] = answer["Stacks"]
        outputs = {
            output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())
        }
        prefix = self._select(service, outputs)
        self.name = f"{stack}, {prefix}" if prefix else stack
        name = re.compile(f"{prefix}(.+){_HASH}" if prefix else "(.+)")
        self._outputs = {
            match[1]: value for key, value in outputs.items() if (match := name.fullmatch(key))
        }

    def _select(self, service: str | None, outputs: Mapping[str, str]) -> str:
        """Return what the names of the service's outputs begin with."""
        pattern = re.compile(f"(.+){_MARK}{_HASH}")
        prefixes = [match[1] for output in outputs if (match := pattern.fullmatch(output))]
        names = {prefix: prefix for prefix in prefixes}
        if _MARK in outputs or not prefixes:
            names["Default"] = ""
        listed = ", ".join(sorted(names))
        if service is None:
            if len(names) > 1:
                raise OperationError(f"{self.stack} has several services: {listed}. Use --service.")
            [service] = names
        service = re.sub("[^A-Za-z0-9]", "", service)
        if service not in names:
            raise OperationError(f"{self.stack} has no service {service}; it has {listed}.")
        if prefixes.count(service) > 1:
            raise OperationError(f"{self.stack} has several services {service}; rename one.")
        return names[service]

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
            raise OperationError(f"{self.name} has no output {name}; deploy it again.")
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
