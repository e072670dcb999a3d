"""The session object of Flask and Starlette apps: a dict that is loaded on demand."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from serverless_sessions._core.calls import Plan
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.secret import Secret
from serverless_sessions._web.packing import Dumps
from serverless_sessions._web.session import WebSession
from serverless_sessions.errors import SessionNotFound
from serverless_sessions.models import Client, Impersonator

# Flask's key for a session whose cookie is kept when the browser is closed.
PERMANENT = "_permanent"
# What an impersonated session takes over: the kind of the cookie, and Flask-Login's identifier of
# the browser, without which it would sign the user out.
_OF_THE_BROWSER = (PERMANENT, "_id")

if TYPE_CHECKING:
    _Values = dict[str, Any]
else:
    # JSON encoders require a real dict. All other methods come from MutableMapping, which builds
    # them on the few that SessionValues defines.
    class _Values(MutableMapping, dict):
        pass


class SessionValues(_Values):
    """The values of a request's session: a dict that is loaded when it is first accessed.

    `user_key` is the key of the user's id. If its value changes, another user has logged in: the
    values move to a new session with a new token, and the former session ends. If the key is
    removed, the user has logged out: the session ends in the same way.

    `step_up_url` is the page to which `require_recent` sends users who have to prove who they are.
    `web` is the `WebSession` that loads and saves the values.
    """

    accessed = False
    modified = False
    is_read_only = False
    is_response_started = False
    _has_warned = False

    def __init__(
        self,
        operations: Operations,
        tokens: list[str],
        visitor_tokens: list[str],
        impersonator_tokens: list[str],
        *,
        client: Client,
        user_key: str,
        step_up_url: str | None,
        authentication: Callable[[], Mapping[str, Any] | None] | None,
        dumps: Dumps,
        loads: Callable[[Any], Any],
        max_sessions: int | None = None,
        is_passive: bool = False,
    ) -> None:
        super().__init__()

        def user_of(values: Mapping[str, Any]) -> str | None:
            user = values.get(user_key)
            return None if user is None else str(user)

        self.web = WebSession(
            operations,
            tokens,
            visitor_tokens,
            impersonator_tokens=impersonator_tokens,
            client=client,
            user_of=user_of,
            dumps=dumps,
            loads=loads,
            trivial={PERMANENT},
            max_sessions=max_sessions,
            authentication=authentication,
            is_passive=is_passive,
        )
        self.step_up_url = step_up_url
        self._user_key = user_key
        self._user_of = user_of
        self.is_loaded = False
        self._was_permanent = False
        self._has_ended = False

    @property
    def session_id(self) -> str | None:
        """The id of the stored session, for `revoke`, lists and the trail. It is no credential."""
        self.touch()
        return self.web.session.session_id if self.web.session else None

    def passive(self) -> None:
        """Do not count this request as use: the session is read without renewing it.

        Use it for requests that a page makes on its own, such as polling. Changes of the session
        are stored, but they do not renew it either. Raises `RuntimeError` if the request has
        already read the session.
        """
        self.web.make_passive()

    def regenerate(self) -> None:
        """Give the session a new token with this response. Call it when its privileges change.

        The former token stays valid until the browser has used the new one, and for the grace
        period after that, so that requests in progress still succeed.
        """
        self.before_change()
        self.touch()
        if self.web.session:
            self.web.prepare_rotation()

    def authenticate(self, methods: Collection[str]) -> None:
        """Record that the user has just proved who they are, by `methods` such as "otp".

        The session gets a new token with this response, as with `regenerate`. At a log-in, call it
        after you have set the user's id. Raises `AnonymousSession` if nobody is logged in, and
        `ImpersonatedSession` if somebody else acts as the user.
        """
        self.before_change()
        self.touch()
        self.web.authenticate(self._user_of(self), methods)

    def authenticated_within(self, seconds: float, *, methods: Collection[str] = ()) -> bool:
        """Whether the user proved who they are within the last `seconds`, with all of `methods`.

        This is never true in an impersonated session. A log-in or a step-up counts from the next
        request on.
        """
        self.touch()
        session = self.web.session
        return (
            session is not None
            and session.user_id == self._user_of(self)
            and session.authenticated_within(seconds, methods=methods)
        )

    @property
    def is_signed_in(self) -> bool:
        """Whether the values belong to a user."""
        return self._user_of(self) is not None

    @property
    def impersonator(self) -> Impersonator | None:
        """Who acts as the user, and why. None if the user does."""
        self.touch()
        return self.web.impersonator

    def impersonate(self, user_id: object, *, by: object = None, reason: str) -> None:
        """Act as another user, in a new session that this response starts.

        It is short, and has none of the current session's values. The current session waits in a
        cookie of its own until `stop_impersonating` returns to it. Its values keep no changes of
        this request.

        `by` is the id of the current user, who is recorded as the impersonator. `reason` is 1 to 64
        of a-z 0-9 _ . - and is recorded as well. Raises `ImpersonatedSession` in an impersonated
        session, and `AnonymousSession` if nobody is logged in.
        """
        self.before_change()
        if user_id is None:
            raise ValueError("There is no user to impersonate.")
        self.touch()
        self.web.impersonate(str(user_id), by=None if by is None else str(by), reason=reason)
        kept = {name: value for name, value in dict.items(self) if name in _OF_THE_BROWSER}
        self._replace(Secret(kept | {self._user_key: user_id}))

    def stop_plan(self) -> Plan[bool]:
        """End the impersonated session and return to the impersonator's.

        Return whether the impersonator is signed in again.
        """
        values = yield from self.web.stop_impersonating()
        if values:
            self._replace(values)
        return values is not None

    def _replace(self, values: Secret[dict[str, Any]]) -> None:
        dict.clear(self)
        dict.update(self, values.value)
        self.modified = True
        self._was_permanent = bool(values.value.get(PERMANENT))

    def touch(self) -> None:
        """Load the session if it is not loaded yet."""
        self.accessed = True
        if not self.is_loaded:
            self.load_now()

    def load_now(self) -> None:
        raise NotImplementedError

    def before_change(self) -> None:
        """Raise `TypeError` if the session is read-only. Warn once if the change will be lost."""
        if self.is_read_only:
            raise TypeError("the session of a WebSocket can't be changed")
        if self.is_response_started and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "the response has already started, so this change is lost: change the session "
                "before a background task, a stream or the code after the yield of a dependency",
                RuntimeWarning,
                stacklevel=3,
            )

    def load_plan(self) -> Plan[None]:
        """Load the values, unless another thread or task has loaded them in the meantime."""
        values = yield from self.web.load()
        if not self.is_loaded:
            dict.update(self, values.value)
            self._was_permanent = bool(values.value.get(PERMANENT))
            self.is_loaded = True

    def save_plan(
        self, *, ttl_seconds: int | None, absolute_ttl_seconds: int | None = None
    ) -> Plan[None]:
        """Write the values that have changed since they were loaded.

        `ttl_seconds` and `absolute_ttl_seconds` apply to new sessions. `ttl_seconds` also applies
        to a session that the app has just made permanent. A session that becomes permanent, or
        stops being permanent, gets a new token, because its cookie has to be set again.
        """
        if not self.is_loaded or self._has_ended:
            return
        values = Secret(dict(dict.items(self)))
        is_permanent = bool(values.value.get(PERMANENT))
        is_other_kind = is_permanent != self._was_permanent
        if is_other_kind and self.web.session:
            self.web.prepare_rotation()
        self._was_permanent = is_permanent
        try:
            yield from self.web.save(
                values,
                ttl_seconds=ttl_seconds,
                absolute_ttl_seconds=absolute_ttl_seconds,
                is_new_window=is_other_kind and ttl_seconds is not None,
            )
        except SessionNotFound:
            self._has_ended = True

    def __getitem__(self, key: str) -> Any:
        self.touch()
        return dict.__getitem__(self, key)

    # These methods remove a value from their own variables before they load the session. Loading
    # can raise, and reports of errors show the variables.

    def __setitem__(self, key: str, value: Any) -> None:
        secret = Secret(value)
        del value
        self.before_change()
        self.touch()
        if key == self._user_key:
            self.web.begin_log_in()
        self.modified = True
        dict.__setitem__(self, key, secret.value)

    def setdefault(self, key: str, default: Any = None) -> Any:
        secret = Secret(default)
        del default
        if key not in self:
            self[key] = secret.value
        return self[key]

    def update(self, other: Any = (), /, **values: Any) -> None:
        secret = Secret(dict(other, **values))
        del other, values
        for key in secret.value:
            self[key] = secret.value[key]

    def __or__(self, other: Any) -> Any:
        secret = Secret(other)
        del other
        return dict(self) | secret.value

    def __ror__(self, other: Any) -> Any:
        secret = Secret(other)
        del other
        return secret.value | dict(self)

    def __ior__(self, other: Any) -> Any:
        secret = Secret(other)
        del other
        self.update(secret.value)
        return self

    def __delitem__(self, key: str) -> None:
        self.before_change()
        self.touch()
        dict.__delitem__(self, key)
        self.modified = True
        if key == self._user_key:
            self.web.begin_log_out()

    def pop(self, key: str, *default: Any) -> Any:
        if key == self._user_key:
            self._log_out()
        return super().pop(key, *default)

    def clear(self) -> None:
        self._log_out()
        super().clear()

    def _log_out(self) -> None:
        """Log out, also if the values have no user because an impersonated session has ended."""
        self.before_change()
        self.touch()
        self.web.begin_log_out()

    def __iter__(self) -> Iterator[str]:
        self.touch()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self.touch()
        return dict.__len__(self)

    def __repr__(self) -> str:
        """Show the names and not the values, which no report of an error may contain."""
        return f"<{type(self).__name__} {list(self) if self.is_loaded else 'not loaded'}>"

    # Sentry would otherwise load the session to show all of its values.
    __sentry_repr__ = __repr__

    def copy(self) -> dict[str, Any]:
        return dict(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return deepcopy(dict(self), memo)
