"""The timelines of sessions, from the events of the trail and from the live sessions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from serverless_sessions import Client, Event, PendingExpiry, Session

Ending = Literal["live", "revoked", "stolen", "expired", "deleted", "unclear"]
MARKS = frozenset(
    {"updated", "renewed", "rotated", "authenticated", "confirmed", "tampered", "unreadable"}
)


@dataclass(frozen=True)
class Timeline:
    """The beginning, the changes and the end of one session. Times are in epoch seconds.

    `begin` is None if the session began before the first event that was read. `end` is the time at
    which the session ended, and `removed` the time at which its item was deleted. They are None if
    this has not happened yet.

    `ending` is "unclear" while the index or the trail is delayed. It is "stolen" if the service
    ended the session because a former token was used. `reason` is the reason or cause of the end.
    """

    session_id: str
    begin: int | None
    end: int | None = None
    removed: int | None = None
    ending: Ending = "unclear"
    reason: str = ""
    marks: tuple[Event, ...] = ()
    client: Client = Client()  # noqa: RUF009

    @property
    def sort_key(self) -> tuple[int, str]:
        return self.begin or 0, self.session_id

    def with_expiry(self, pending: PendingExpiry) -> Timeline:
        """Return a copy that ends with an expiry for which there is no event yet."""
        return replace(self, end=pending.at, ending="expired", reason=pending.cause)


def timelines(events: Iterable[Event], live: Collection[Session]) -> list[Timeline]:
    """Return the timelines of all sessions in `events` or `live`, the newest first."""
    histories: dict[str, list[Event]] = {session.session_id: [] for session in live}
    for event in sorted(events, key=lambda event: event.event_id):
        histories.setdefault(event.session_id, []).append(event)
    sessions = {session.session_id: session for session in live}
    result = [_timeline(id, history, sessions.get(id)) for id, history in histories.items()]
    return sorted(result, key=lambda timeline: timeline.sort_key, reverse=True)


def _timeline(session_id: str, history: list[Event], session: Session | None) -> Timeline:
    by_type: Mapping[str, Event] = {event.type: event for event in history}
    created = by_type.get("created")
    begin = session.created_at if session else created.at if created else None
    timeline = Timeline(
        session_id,
        begin,
        marks=tuple(event for event in history if event.type in MARKS),
        client=session.client if session else Client(),
    )
    revoked, purged = by_type.get("revoked"), by_type.get("purged")
    if revoked or purged:
        # A revocation sets the item's TTL to its own time. If the event `revoked` is missing, that
        # time is the time of removal minus TTL's delay.
        end = revoked.at if revoked else purged.at - (purged.ttl_lag_seconds or 0) if purged else 0
        reason = revoked.reason or "" if revoked else ""
        removed = purged.at if purged else None
        ending: Ending = "stolen" if reason == "token_reuse" else "revoked"
        return replace(timeline, end=end, removed=removed, ending=ending, reason=reason)
    if expired := by_type.get("expired"):
        reason = expired.cause or ""
        return replace(
            timeline, end=expired.at, removed=expired.recorded_at, ending="expired", reason=reason
        )
    if deleted := by_type.get("deleted"):
        return replace(timeline, end=deleted.at, removed=deleted.at, ending="deleted")
    return replace(timeline, ending="live") if session else timeline
