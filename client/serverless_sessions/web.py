"""What the sessions of Flask and of Starlette have in common: when a call is made, and which one.

A session is loaded when it is first touched. At the end of the request the values are compared with
the loaded ones, and only the top-level keys that differ are written: requests that run side by side
keep each other's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Generator, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from serverless_sessions.async_sessions import AsyncSessions
from serverless_sessions.document import Dumps, changes, pack, parts, unpack
from serverless_sessions.errors import RotationInGrace, SessionNotFound, Unavailable
from serverless_sessions.session import Client, IssuedSession, Session
from serverless_sessions.sessions import Sessions

T = TypeVar("T")
# Yields what a call of `Sessions` answers, or the awaitable that a call of `AsyncSessions` is, and
# is sent the answer: so what to do is told once.
Steps = Generator[Any, Any, T]

# The longest that the service lets a session live, and browsers a cookie.
LONGEST_SECONDS = 400 * 24 * 3600
# With an outage's 503.
RETRY_AFTER_SECONDS = 1

# Flask's name for whether the cookie outlives the browser. Alone it is nothing to keep.
_PERMANENT = "_permanent"

logger = logging.getLogger(__name__)


if TYPE_CHECKING:
    _Values = dict[str, Any]
else:
    # A dict for JSON encoders, which look inside. All else goes through the few methods on which
    # MutableMapping builds the others.
    class _Values(MutableMapping, dict):
        pass


class WebSession(_Values):
    """The values of one request's session, a dict that is loaded when it is first touched.

    Another value under `user_key` is another user: the values move to a new session, with a new
    token, and the former session ends. The same happens when the key goes, which is a log-out.
    """

    accessed = False
    modified = False

    def __init__(
        self,
        api: Sessions | AsyncSessions,
        token: str | None,
        *,
        client: Client,
        user_key: str,
        dumps: Dumps,
        loads: Callable[[Any], Any],
    ) -> None:
        super().__init__()
        # What the browser's cookie holds, and what it is to hold.
        self.held, self.token = token, token
        self.stored: Session | None = None
        self.is_loaded = False
        self._api = api
        self._client = client
        self._user_key = user_key
        self._dumps = dumps
        self._loads = loads
        self._regenerates = False
        self._ended_meanwhile = False

    @property
    def session_id(self) -> str | None:
        """The handle of the stored session: for lists, the trail and `revoke`; no credential."""
        self.touch()
        return self.stored.session_id if self.stored else None

    def regenerate(self) -> None:
        """Give the session a new token with this response, as when its privileges change.

        The former token is good for the grace period that the service is set to, for the requests
        that are under way.
        """
        self.touch()
        self._regenerates = True

    def touch(self) -> None:
        """Load the session unless it is loaded."""
        self.accessed = True
        if not self.is_loaded:
            self.load_now()

    def load_now(self) -> None:
        raise NotImplementedError

    def loading(self) -> Steps[None]:
        """Verify the token, if there is one."""
        if self.token:
            self.stored = yield self._api.verify(self.token, client=self._client)
        if self.stored:
            dict.update(self, unpack(self.stored.data or {}, self._loads))
        else:
            self.token = None
        self.is_loaded = True
        self._saved, self._user_id = self._packed(), self._user()

    def saving(
        self, *, ttl_seconds: int | None, absolute_ttl_seconds: int | None = None
    ) -> Steps[None]:
        """Write what is no longer as it was loaded; afterwards `token` is the one to hold.

        `absolute_ttl_seconds` counts for new sessions.
        """
        if not self.is_loaded or self._ended_meanwhile:
            return
        data, user_id, former = self._packed(), self._user(), self.stored
        changed = changes(self._saved, data)
        is_empty = not data.keys() - {_PERMANENT}
        if former and user_id == self._user_id and not (is_empty and changed):
            yield from self._go_on(former, changed, ttl_seconds)
        elif not is_empty:
            # The former session ends last: a request that fails in between costs nobody anything.
            first, *rest = parts(data)
            issued: IssuedSession = yield self._api.create(
                user_id,
                data=first,
                ttl_seconds=ttl_seconds,
                absolute_ttl_seconds=absolute_ttl_seconds,
                client=self._client,
            )
            for part in rest:
                yield self._api.change(issued.session.session_id, part)
            if former:
                yield from self._leave(former, "signed_in" if user_id else "logout")
            self.token, self.stored = issued.token, issued.session
        elif former:
            yield self._api.revoke(former.session_id, reason="logout")
            self.token = self.stored = None
        self._saved, self._user_id, self._regenerates = data, user_id, False

    def _go_on(
        self, stored: Session, changed: dict[str, Any], ttl_seconds: int | None
    ) -> Steps[None]:
        try:
            for part in parts(changed):
                yield self._api.change(stored.session_id, part)
            if ttl_seconds and ttl_seconds != stored.ttl_seconds:
                self.stored = yield self._api.renew(stored.session_id, ttl_seconds=ttl_seconds)
            if self._regenerates:
                # Last, for if anything failed afterwards the new token would be lost.
                issued: IssuedSession = yield self._api.rotate(stored.session_id)
                self.token = issued.token
        except SessionNotFound:
            # It ended while this request ran, and takes along what the request wrote. The cookie
            # stays: it may be a newer session's by now.
            self.stored, self._ended_meanwhile = None, True
        except RotationInGrace:
            logger.info("session %s got its new token by another request", stored.session_id)

    def _leave(self, former: Session, reason: str) -> Steps[None]:
        try:
            yield self._api.revoke(former.session_id, reason=reason)
        except Unavailable as error:
            if former.user_id is not None:
                raise
            # Nobody is signed in by it, and who has just logged in is to stay so.
            logger.warning("session %s is left to its expiry: %s", former.session_id, error)

    def _packed(self) -> dict[str, Any]:
        return pack({_as_text(name): value for name, value in dict.items(self)}, self._dumps)

    def _user(self) -> str | None:
        user = dict.get(self, self._user_key)
        return None if user is None else str(user)

    def __getitem__(self, key: str) -> Any:
        self.touch()
        return dict.__getitem__(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.touch()
        self.modified = True
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: str) -> None:
        self.touch()
        dict.__delitem__(self, key)
        self.modified = True

    def __iter__(self) -> Iterator[str]:
        self.touch()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self.touch()
        return dict.__len__(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {dict(self) if self.is_loaded else 'not loaded'}>"

    def copy(self) -> dict[str, Any]:
        return dict(self)

    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self


def _as_text(name: object) -> str:
    """What becomes of a name in the frameworks' own sessions, through JSON."""
    [text] = json.loads(json.dumps({name: None}))
    return str(text)


def run(steps: Steps[T]) -> T:
    """Take the steps with `Sessions`, whose calls have been made by the time they are yielded."""
    answer = None
    while True:
        try:
            answer = steps.send(answer)
        except StopIteration as done:
            return cast(T, done.value)


async def arun(steps: Steps[T]) -> T:
    """Take the steps with `AsyncSessions`."""
    try:
        call: Awaitable[Any] = next(steps)
        while True:
            try:
                answer = await call
            except Exception as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as done:
        return cast(T, done.value)


def cookie_name(name: str, *, secure: bool, domain: str | None, path: str) -> str:
    """`name` with the prefix `__Host-`, by which a browser takes the cookie from this host alone.

    A browser refuses the prefix on a cookie that is for other hosts or paths too, or for HTTP.
    """
    is_for_this_host = secure and not domain and path == "/"
    return f"__Host-{name}" if is_for_this_host and not name.startswith("__") else name
