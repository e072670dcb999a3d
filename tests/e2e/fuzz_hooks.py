"""Hooks for schemathesis: they sign the calls, provide live sessions, and add checks.

They also ignore failures that are caused by rules which the contract states only in words.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

from local.stack import REGION
from tests.support.caller import Caller
from tests.support.contract import breaks_only_prose_rules

credentials = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
caller = Caller(os.environ["API_URL"], credentials)
_calls = count()


class Signature(AuthBase):
    """Signs requests (SigV4) with the environment's credentials."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        # The signature needs all of these characters encoded. requests leaves some as they are.
        url = urlsplit(str(request.url))
        query = quote(url.query.replace("+", "%20"), safe="%&=")
        request.url = urlunsplit(url._replace(query=query))
        signed = AWSRequest(request.method, request.url, data=request.body)
        SigV4Auth(credentials, "execute-api", REGION).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        return request


schemathesis.auth.set_from_requests(Signature())  # type: ignore[attr-defined]


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """Use a live session in every second call that the contract allows.

    A generated id or token never belongs to a live session.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive or next(_calls) % 2:
        return
    operation = case.operation.label
    if operation == "POST /sessions/verify" and isinstance(case.body, dict):
        case.body["token"] = _new_session()["token"]
    elif operation == "GET /events":
        case.query.pop("user_id", None)
        case.query.pop("cursor", None)
        case.query["session_id"] = _new_session()["session_id"]
    elif "session_id" in case.path_parameters:
        body = case.body if isinstance(case.body, dict) else {}
        # Only an anonymous session can get a final window.
        session = _new_session(None if body.get("final") is True else "fuzz")
        case.path_parameters["session_id"] = session["session_id"]
        if "token" in body:
            body["token"] = session["token"]


def _new_session(user_id: str | None = "fuzz") -> Any:
    return caller("POST", "/sessions", {"user_id": user_id, "data": {"a": 1}}).json


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Failure,
    case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """Return False for a request that was rejected because of a rule in words only."""
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 422:
        return True
    return not breaks_only_prose_rules(response.json())


@schemathesis.check
def unavailable_says_when_to_return(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    assert response.status_code != 503 or "retry-after" in response.headers


@schemathesis.check
class EveryOperationSucceeds:
    """Check that every operation succeeds at least once. Errors alone would prove little."""

    def __init__(self) -> None:
        self._tried: set[str] = set()
        self._succeeded: set[str] = set()

    def after_response(
        self,
        ctx: schemathesis.CheckContext,
        response: schemathesis.Response,
        case: schemathesis.Case[Any],
    ) -> None:
        self._tried.add(case.operation.label)
        if response.status_code < 300:
            self._succeeded.add(case.operation.label)

    def after_run(self, ctx: schemathesis.CheckContext) -> None:
        assert self._tried == self._succeeded, sorted(self._tried - self._succeeded)
