"""The API's function and the audit function on tables in memory, in time that can be moved."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import redirect_stdout
from heapq import heappop, heappush
from threading import Lock
from types import SimpleNamespace
from typing import Any

try:
    import aws_lambda_powertools  # noqa: F401
    import msgspec  # noqa: F401
except ImportError:
    sys.exit("The embedded service needs the extra 'serve' or 'testing' of serverless-sessions.")

import clock as functions_clock
from dynamodb import client as lean
from dynamodb.connection import Answer
from serverless_sessions._core import clock
from serverless_sessions.serve.expressions import Item
from serverless_sessions.serve.gateway import ACCOUNT
from serverless_sessions.serve.settings import Settings
from serverless_sessions.serve.tables import Tables

REGION = "us-east-1"
# The same as in the stack's event source mapping.
_BATCH_SIZE = 100
_CONTEXT: Any = SimpleNamespace(
    function_name="serve",
    memory_limit_in_mb=512,
    invoked_function_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:serve:live",
    aws_request_id="serve",
)


class InMemory:
    """A transport of the functions' client that sends requests to tables in this process."""

    host = f"dynamodb.{REGION}.amazonaws.com"

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        operation = headers["x-amz-target"].partition(".")[2]
        status, answer = self._tables.answer(operation, body)
        return Answer(status, None, answer)

    def close(self) -> None:
        """Do nothing, because there are no connections."""


class Service:
    """A process can have only one, because its functions are modules.

    All methods can be called by several threads. The functions can't: each of them handles one
    event at a time, as in Lambda.
    """

    def __init__(self, settings: Settings) -> None:
        self._advanced = 0.0
        self.tables = Tables(self.time, lambda: 0.0, self._note_expiry)
        # When sessions expire at the earliest. A session that lives longer is entered again then.
        self._expiries: list[tuple[int, str]] = []
        self._handling = Lock()
        self._delivering = Lock()
        functions_clock.time = self.time
        self._api, self._audit = _load_functions(
            settings, lean.Client(InMemory(self.tables), region=REGION)
        )

    def time(self) -> float:
        """Return the service's time, in epoch seconds."""
        return clock.time() + self._advanced

    def call(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the result of the API's function for an event of API Gateway."""
        with self._handling:
            result: dict[str, Any] = self._api(event, _CONTEXT)
        return result

    def refuse(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return what `call` would return if DynamoDB were not available."""
        from session_api import problems
        from sessions.errors import Unavailable

        answer = problems.answer(Unavailable("simulated"), event["requestContext"]["requestId"])
        return {
            "statusCode": answer.status_code,
            "headers": answer.headers,
            "body": answer.body,
        }

    def settle(self) -> None:
        """Delete the sessions that have expired, and record all changes in the trail."""
        with self._delivering:
            self._delete_expired()
            while records := self.tables.take_records(_BATCH_SIZE):
                try:
                    self._audit({"Records": records}, _CONTEXT)
                except Exception:
                    # Later records are recorded all the same.
                    traceback.print_exc()
            self.tables.forget()

    def advance(self, seconds: float) -> float:
        """Move the service's time, and return by how many seconds it has been moved in all."""
        with self._delivering:
            self._advanced += seconds
        self.settle()
        return self._advanced

    def reset(self) -> None:
        """Delete everything, and return to the time of this host."""
        with self._delivering, self._handling:
            self._advanced = 0.0
            self.tables.clear()
            self._expiries.clear()

    def _note_expiry(self, old: Item, new: Item) -> None:
        """Enter a session when it is created, and when its expiry becomes earlier."""
        if new and (not old or _expiry(new) < _expiry(old)):
            heappush(self._expiries, (_expiry(new), new["SessionId"]["S"]))

    def _delete_expired(self) -> None:
        now = self.time()
        with self.tables.lock:
            while self._expiries and self._expiries[0][0] <= now:
                session_id = heappop(self._expiries)[1]
                if item := self.tables.session(session_id):
                    if _expiry(item) <= now:
                        self.tables.remove_expired(session_id)
                    else:
                        heappush(self._expiries, (_expiry(item), session_id))


def _expiry(item: Item) -> int:
    return int(item["ExpirationTime"]["N"])


def _load_functions(settings: Settings, client: Any) -> tuple[Any, Any]:
    """Return the handlers of the API and of the trail, with `client` in place of DynamoDB."""
    os.environ.pop("AWS_CONTAINER_CREDENTIALS_FULL_URI", None)
    os.environ |= settings.environment | {
        # The functions' client signs its requests, which nobody checks.
        "AWS_ACCESS_KEY_ID": "serve",
        "AWS_SECRET_ACCESS_KEY": "serve",
        "POWERTOOLS_LOG_LEVEL": "ERROR",
        "POWERTOOLS_SERVICE_NAME": "serve",
    }
    from audit import failed_events
    from session_audit import metrics
    from sessions import dynamodb

    dynamodb.connect = lambda: client
    failed_events.keep = _report
    metrics.emit = lambda *_, **__: None
    # Powertools logs to what is the standard output at this moment.
    with redirect_stdout(sys.stderr):
        from session_api import handler as api
        from session_audit import handler as audit
    return api.lambda_handler, audit.lambda_handler


def _report(records: list[Any], *, bucket: str) -> bool:
    """Replace the bucket for records that the trail can't process."""
    print("not recorded:", *records, sep="\n", file=sys.stderr)
    return True
