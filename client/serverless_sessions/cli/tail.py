"""Follows the trail of a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from serverless_sessions import Event, Sessions
from serverless_sessions._core import clock
from serverless_sessions.errors import Unavailable

_POLL_SECONDS = 2
# An event may come to the trail after one that is younger: the index lags, and Lambda repeats a
# batch that failed. So every poll reads the last minutes of the trail again. One poll in a minute
# reads a day, which is how long the stream keeps a record.
_LATE_SECONDS = 120
_DAY_SECONDS = 86_400
_POLLS_PER_LONG_READ = 30


class Tail:
    """The events that come to a user's trail from now on.

    It survives outages of the service: `on_outage` is called with the error when one begins, and
    with None when it is over.
    """

    def __init__(
        self, sessions: Sessions, user_id: str, on_outage: Callable[[Unavailable | None], None]
    ) -> None:
        self._sessions = sessions
        self._user_id = user_id
        self._on_outage = on_outage
        # The time of record of the newest event, and of each event of the last day by its id.
        self._newest = 0
        self._known: dict[str, int] = {}

    def __iter__(self) -> Iterator[Event]:
        """Yield events until the caller stops. Raises all errors but `Unavailable`.

        An outage at the beginning is raised too: there may be no service at this URL.
        """
        self._skip_past()
        polls, is_out = 0, False
        while True:
            clock.sleep(_POLL_SECONDS)
            polls += 1
            is_long = is_out or polls >= _POLLS_PER_LONG_READ
            try:
                yield from self._new_events(_DAY_SECONDS if is_long else _LATE_SECONDS)
            except Unavailable as error:
                if not is_out:
                    self._on_outage(error)
                is_out = True
                continue
            if is_out:
                self._on_outage(None)
            is_out = False
            if is_long:
                polls = 0

    def _skip_past(self) -> None:
        for event in self._sessions.events(user_id=self._user_id):
            self._note(event)
            if event.recorded_at < self._newest - _DAY_SECONDS:
                break

    def _new_events(self, seconds: int) -> Iterator[Event]:
        """Read the last `seconds` of the trail."""
        # The end of the trail is a time of the service, because the clock of this machine may be
        # fast. But an event may be from the future, if somebody has forged its record.
        end = min(self._newest, clock.now())
        self._known = {
            id: recorded_at
            for id, recorded_at in self._known.items()
            if recorded_at >= end - _DAY_SECONDS
        }
        events = self._sessions.events(
            user_id=self._user_id, since=max(end - seconds, 0), newest_first=False
        )
        for event in events:
            if event.event_id not in self._known:
                self._note(event)
                yield event

    def _note(self, event: Event) -> None:
        self._newest = max(self._newest, event.recorded_at)
        self._known[event.event_id] = event.recorded_at
