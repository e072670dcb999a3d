"""The embedded service as tests control it."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from http.client import HTTPConnection
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from serverless_sessions._core import clock
from serverless_sessions._core.sessions import Sessions
from serverless_sessions.models import Event
from serverless_sessions.testing.cookies import age_cookies

Failure = Literal["unavailable", "slow", "lost", "refused"]

# The service does not check signatures. A profile of the developer could have other credentials, or
# not exist on this machine.
_CREDENTIALS: dict[str, str | None] = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": None,
    "AWS_PROFILE": None,
}
_ANSWER_SECONDS = 60


class SessionsService:
    """The embedded service, in a process that ends with this one.

    While it runs, `SESSIONS_URL` and the variables of AWS for the region and for credentials are
    set in the environment. As a context manager, it runs during the block.

    `options` are those of the command `sessions serve`, for example `"--not-before=1790000000"`.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._url = ""
        self._replaced: dict[str, str | None] = {}
        self._now = clock.time

    def start(self) -> Self:
        """Start the service and set the environment variables. Do nothing if it is running.

        Raises `RuntimeError` if it does not start, for example because an extra is missing.
        """
        if self._process:
            return self
        self._owner, self._now = os.getpid(), clock.time
        command = [sys.executable, "-m", "serverless_sessions.serve", *self._options]
        # In a session of its own, it does not get the Ctrl-C that ends a run of tests: the tests
        # may still need it to finish.
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self.stop()
            raise RuntimeError("The embedded service did not start. Its error is printed above.")
        answer = json.loads(line)
        self._url = answer["url"]
        bypassed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        variables = _CREDENTIALS | {
            "SESSIONS_URL": self._url,
            "AWS_REGION": answer["region"],
            "no_proxy": ",".join(filter(None, (bypassed, urlsplit(self._url).hostname))),
        }
        self._replaced = {name: os.environ.get(name) for name in variables}
        _set_variables(variables)
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """End the service, and restore the environment variables and the time.

        In a fork of the process that has started it, this does nothing.
        """
        if self._owner != os.getpid():
            return
        clock.time = self._now
        if client := self.__dict__.pop("sessions", None):
            client.close()
        _set_variables(self._replaced)
        self._replaced = {}
        if self._process:
            self._process.communicate()  # it ends at the end of its standard input
            self._process = None
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of the service. Raises `RuntimeError` if it is not running."""
        if not self._process:
            raise RuntimeError("The embedded service is not running. Call start() first.")
        return self._url

    @cached_property
    def sessions(self) -> Sessions:
        """A client of the service, with which a test prepares sessions and looks at them."""
        return Sessions(self.url)

    def reset(self) -> None:
        """Delete all sessions and events, end failures, and return to the current time."""
        self._control("reset")
        clock.time = self._now

    def advance(self, seconds: int, *clients: Any) -> None:
        """Move the time of the service, and of its clients in this process, into the future.

        Sessions that are due by then expire, and their events are recorded. Cookies in the test
        clients `clients` (of Django, Flask or Starlette) that are due by then are deleted.
        """
        # A library such as time-machine may already have moved the time of this process.
        ahead = self._control("clock", advance=seconds)["time"] - self._now()
        clock.time = lambda: self._now() + ahead
        for client in clients:
            age_cookies(client, seconds)

    def fail(self, failure: Failure, *, calls: int | None = None, seconds: float = 1.0) -> None:
        """Let the next `calls` calls fail, or all calls until `recover`.

        | failure | what happens to a call |
        | --- | --- |
        | `unavailable` | it is answered 503, as during an outage of DynamoDB |
        | `slow` | it is answered after `seconds` |
        | `lost` | it takes effect, but its answer never arrives |
        | `refused` | its connection breaks before it takes effect |

        The client repeats a call until its deadline, and each repetition counts.
        """
        self._control("faults", kind=failure, calls=calls, seconds=seconds)

    def recover(self) -> None:
        """End the failures."""
        self._control("faults")

    def events(self, user_id: str) -> list[Event]:
        """Return all events of a user, oldest first."""
        self._control("clock", advance=0)  # records what has happened until now
        return list(self.sessions.events(user_id=user_id, newest_first=False))

    def _control(self, name: str, **body: Any) -> Any:
        address = urlsplit(self.url).netloc
        connection = HTTPConnection(address, timeout=_ANSWER_SECONDS)
        try:
            headers = {"Content-Type": "application/json", "X-Sessions-Control": "1"}
            connection.request("POST", f"/_control/{name}", json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"The embedded service rejected {name}: {content.decode()}")
        return json.loads(content)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
