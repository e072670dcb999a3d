"""The session object of Flask and Starlette apps: a dict that is loaded on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from serverless_sessions._core.calls import Plan
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.secret import Secret
from serverless_sessions._web.packing import Dumps
from serverless_sessions._web.session import WebSession
from serverless_sessions.errors import SessionNotFound
from serverless_sessions.models import Client

# Flask's key for a session whose cookie is kept when the browser is closed.
PERMANENT = "_permanent"

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

    `web` is the `WebSession` that loads and saves the values.
    """

    accessed = False
    modified = False

    def __init__(
        self,
        operations: Operations,
        tokens: list[str],
        visitor_tokens: list[str],
        *,
        client: Client,
        user_key: str,
        dumps: Dumps,
        loads: Callable[[Any], Any],
        max_sessions: int | None = None,
    ) -> None:
        super().__init__()

        def user_of(values: Mapping[str, Any]) -> str | None:
            user = values.get(user_key)
            return None if user is None else str(user)

        self.web = WebSession(
            operations,
            tokens,
            visitor_tokens,
            client=client,
            user_of=user_of,
            dumps=dumps,
            loads=loads,
            trivial={PERMANENT},
            max_sessions=max_sessions,
        )
        self.is_loaded = False
        self._was_permanent = False
        self._has_ended = False

    @property
    def session_id(self) -> str | None:
        """The id of the stored session, for `revoke`, lists and the trail. It is no credential."""
        self.touch()
        return self.web.session.session_id if self.web.session else None

    def regenerate(self) -> None:
        """Give the session a new token with this response. Call it when its privileges change.

        The former token stays valid until the browser has used the new one, and for the grace
        period after that, so that requests in progress still succeed.
        """
        self.touch()
        if self.web.session:
            self.web.prepare_rotation()

    def touch(self) -> None:
        """Load the session if it is not loaded yet."""
        self.accessed = True
        if not self.is_loaded:
            self.load_now()

    def load_now(self) -> None:
        raise NotImplementedError

    def require_writable(self) -> None:
        """Raise `TypeError` if the session cannot be changed."""

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
        self.require_writable()
        self.touch()
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
        self.require_writable()
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
        """Show the names and not the values, which no report of an error may contain."""
        return f"<{type(self).__name__} {list(self) if self.is_loaded else 'not loaded'}>"

    # Sentry would otherwise load the session to show all of its values.
    __sentry_repr__ = __repr__

    def copy(self) -> dict[str, Any]:
        return dict(self)
