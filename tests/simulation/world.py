"""The real handlers, on hosts with their own clocks, and the network to their tables."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from aws_lambda_powertools.event_handler.api_gateway import BaseRouter
from msgspec.structs import replace

import clock
from dynamodb import client as lean
from dynamodb.connection import ANSWER_SECONDS, Answer
from dynamodb.errors import TransientError
from serverless_sessions.serve.expressions import Item
from serverless_sessions.serve.tables import Tables
from sessions import session, token, user_sessions
from sessions.errors import Unavailable
from tests.simulation.story import UNDER_WAY_SECONDS, Fate
from tests.simulation.turnstile import Turnstile
from tests.support.functions import function, lambda_context
from tests.support.gateway import api_event
from tests.support.seam import seam

START = 1_795_435_200.0
# If a rotation has no grace period, the former token is refused for this time. Afterwards its use
# counts as a theft. The time is short, because stories are short.
RETIRED_SECONDS = 5
MAX_IMPERSONATION_SECONDS = 40
_PROMPT = Fate()


class Request:
    """An operation that a call sends to DynamoDB. A second attempt belongs to the same request."""

    def __init__(self, call: Call, operation: str, body: bytes, sent: float, clock: float) -> None:
        self.call = call
        self.operation = operation
        self.body = body
        self.sent = sent
        # The host's clock when the request is sent. The request's `:now` is not later than this.
        self.clock = int(clock)
        self.executed_at = sent
        self.answer: Any = None

    @property
    def items(self) -> list[Item]:
        """The items in the answer. They decide the result of the call."""
        answer = self.answer or {}
        if "Responses" in answer:
            return list(answer["Responses"]["sessions"])
        return [answer[name] for name in ("Item", "Attributes") if name in answer]


class Call:
    """A call from a caller's point of view.

    `began` and `ended` are true times. `clock_began` and `clock_ended` are the same moments by the
    clock of the call's host.
    """

    def __init__(
        self, number: int, kind: str, caller: str, fates: tuple[Fate, ...], **facts: Any
    ) -> None:
        self.number = number
        self.kind = kind
        self.caller = caller
        self.fates = list(fates)
        self.session_id: str = facts.pop("session_id", "")
        # The secret of the presented token, or of the new one.
        self.secret: str = facts.pop("secret", "")
        # `first` is the time at which the first of several repeated calls began.
        self.facts = facts
        self.request_id, self.reuses = f"request-{number}", False
        self.requests: list[Request] = []
        self.began = self.ended = 0.0
        self.clock_began = self.clock_ended = 0
        self.status = 0
        self.body: Any = None
        self.faults = 0
        self.writes = 0

    def reuse(self, request_id: str) -> None:
        """Use the request id of another call, as if API Gateway did not generate unique ids."""
        self.request_id, self.reuses = request_id, True

    @property
    def last_answered(self) -> Request | None:
        """The last request whose answer arrived."""
        answered = [request for request in self.requests if request.answer is not None]
        return answered[-1] if answered else None


class World:
    """One deployment with tables, a network and hosts. It is the `Transport` of the lean client.

    For every change of the sessions' table, `on_write` is called with the old item, the new item
    and the request that made the change. The request is None if TTL has removed the item.
    """

    host = "dynamodb.us-east-1.amazonaws.com"

    def __init__(
        self,
        index_lag: float,
        ttl_late: float,
        on_write: Callable[[Item, Item, Request | None], None],
    ) -> None:
        self.api, self.authorizer, self.audit = _functions()
        self.time = Turnstile(START, self._save)
        self.tables = Tables(lambda: self.time.now, lambda: index_lag, self._wrote)
        self.log: list[str] = []
        # Operation, body and answer of every request that was executed. A removal by TTL has the id
        # of the session as its body.
        self.executed: list[tuple[str, bytes, bytes]] = []
        self.requests = self.faults = 0
        self._on_write = on_write
        self._ttl_late = ttl_late
        self._executing: Request | None = None
        self.call: Call | None = None
        self._random = Random(1)

    @contextmanager
    def installed(self) -> Iterator[World]:
        """Run the handlers in this world until the end of the block."""
        secrets = SimpleNamespace(
            token_bytes=self._random.randbytes,
            token_urlsafe=lambda size: base64url(self._random.randbytes(size)),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "testing")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
            patch.setattr(clock, "time", lambda: self.time.clock)
            patch.setattr(clock, "monotonic", lambda: self.time.now)
            patch.setattr(clock, "sleep", self.time.wait)
            patch.setattr(user_sessions, "ThreadPoolExecutor", _NoPool)
            patch.setattr(lean, "_random", SimpleNamespace(uniform=lambda least, most: most))
            for module in (session, token):
                patch.setattr(module, "secrets", secrets)
            patch.setattr(self.audit, "unrecorded", [])
            patch.setattr(self.api, "default_grace_seconds", RETIRED_SECONDS)
            limits = replace(self.api.limits, max_impersonation_seconds=MAX_IMPERSONATION_SECONDS)
            patch.setattr(self.api, "limits", limits)
            for module in (self.api, self.audit):
                patch.setattr(module, "record_anonymous", True)
            logging.disable()
            seam.reset(lean.Client(self, region="us-east-1"))
            try:
                yield self
            finally:
                logging.disable(logging.NOTSET)
                seam.reset(None)

    def call_api(
        self,
        call: Call,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        event = api_event(method, path)
        context = event["requestContext"]
        context["requestId"] = call.request_id
        context["authorizer"]["iam"]["userArn"] = f"arn:aws:iam::111122223333:user/{call.caller}"
        event["rawQueryString"] = urlencode(query or {})
        event["headers"] = {"content-type": "application/json"} | (headers or {})
        if body is not None:
            event["body"] = json.dumps(body)

        def handle() -> None:
            response = self.api.lambda_handler(event, lambda_context())
            call.status = response["statusCode"]
            call.body = json.loads(response["body"] or "null")

        self._run(call, handle)

    def authorize(self, call: Call, bearer: str) -> None:
        event = {"version": "2.0", "identitySource": [f"Bearer {bearer}"]}
        context = SimpleNamespace(aws_request_id=call.request_id)

        def handle() -> None:
            try:
                response = self.authorizer.lambda_handler(event, context)
            except Unavailable:  # API Gateway answers 500
                call.status = 503
                return
            call.status = 200 if response["isAuthorized"] else 401
            call.body = response["context"]

        self._run(call, handle)

    def deliver(self, records: list[dict[str, Any]]) -> Any:
        """Send the stream's records to the audit function, as Lambda does."""
        call = Call(0, "audit", "Lambda", ())

        def handle() -> None:
            call.body = self.audit.lambda_handler({"Records": records}, lambda_context())

        self._run(call, handle)
        return call.body

    def _run(self, call: Call, handle: Callable[[], None]) -> None:
        call.began, call.clock_began = self.time.now, int(self.time.clock)
        call.facts.setdefault("first", call.began)
        self.call = call
        BaseRouter.current_event = None  # type: ignore[assignment]
        handle()
        self.call = None
        call.ended, call.clock_ended = self.time.now, int(self.time.clock)

    def _save(self) -> Callable[[], None]:
        """Save Powertools' state, which all threads share. Return a function that restores it."""
        app, call = self.api.app, self.call
        event, context, facts = (
            getattr(BaseRouter, "current_event", None),
            getattr(BaseRouter, "lambda_context", None),
            app.context,
        )
        app.context = {}

        def restore() -> None:
            BaseRouter.current_event = event  # type: ignore[assignment]
            BaseRouter.lambda_context = context  # type: ignore[assignment]
            app.context, self.call = facts, call

        return restore

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        """Send a request to the tables. The call's next fate decides what happens to it."""
        call = self.call
        assert call
        operation = headers["x-amz-target"].partition(".")[2]
        last = call.requests[-1] if call.requests else None
        if last and last.body == body and last.answer is None:
            request = last  # the client sends it again
        else:
            request = Request(call, operation, body, self.time.now, self.time.clock)
            call.requests.append(request)
        fate = call.fates.pop(0) if call.fates else _PROMPT
        self.requests += 1
        self.faults += fate.is_fault
        call.faults += fate.is_fault
        answers: list[tuple[int, bytes, float]] = []

        def execute() -> None:
            self._executing = request
            status, result = self.tables.answer(operation, body)
            self._executing = None
            answers.append((status, result, self.time.now))
            self.executed.append((operation, body, result))
            self.note(f"  {operation} of {call.number} is executed: {status}")

        latest = request.sent + UNDER_WAY_SECONDS
        times = [min(self.time.now + seconds, latest) for seconds in fate.executed_after]
        for time in times:
            self.time.at(time, execute)
        seconds = times[0] + fate.answer_takes - self.time.now if times else ANSWER_SECONDS
        if fate.answer == "503":
            self.time.wait(min(seconds, 0.1))
            return Answer(503, None, b"{}")
        if fate.answer == "lost" or seconds >= ANSWER_SECONDS:
            self.time.wait(ANSWER_SECONDS)
            raise TransientError("TimeoutError")
        self.time.wait(seconds)
        status, result, request.executed_at = answers[0]
        request.answer = json.loads(result)
        return Answer(status, None, result)

    def close(self) -> None:
        """Do nothing, because there are no connections."""

    def note(self, line: str) -> None:
        self.log.append(f"{self.time.now - START:8.2f}  {line}")

    def _wrote(self, old: Item, new: Item) -> None:
        self._on_write(old, new, self._executing)
        if new and old.get("ExpirationTime") != new["ExpirationTime"]:
            time = int(new["ExpirationTime"]["N"]) + self._ttl_late
            session_id = new["SessionId"]["S"]
            self.time.at(time, lambda: self._remove(session_id))

    def _remove(self, session_id: str) -> None:
        expiry = self.tables.session(session_id).get("ExpirationTime", {}).get("N")
        if expiry and int(expiry) + self._ttl_late <= self.time.now:
            self.note(f"TTL removes {session_id}")
            self.tables.remove_expired(session_id)
            self.executed.append(("TTL", session_id.encode(), b""))


class _NoPool:
    """Replaces a pool of threads, and runs everything in the caller's thread."""

    def __init__(self, _: int) -> None:
        self.map = map

    def __enter__(self) -> _NoPool:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing, because there are no threads."""


@cache
def _functions() -> list[ModuleType]:
    return [function(f"session_{name}") for name in ("api", "authorizer", "audit")]


def authorizer_module() -> ModuleType:
    return _functions()[1]


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
