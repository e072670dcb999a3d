"""How sessions lived and ended, from the trail and from what is live."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from serverless_sessions import Client, Event, PendingExpiry, Session

Ending = Literal["live", "revoked", "stolen", "expired", "deleted", "unclear"]
MARKS = frozenset({"updated", "renewed", "rotated", "confirmed", "tampered", "unreadable"})


@dataclass(frozen=True)
class Life:
    """One session, in epoch seconds.

    `begin` is None if the session began before the events that were read. `end` is when it ceased
    to be live, `removed` when its item was deleted; each is None if that has not happened yet.
    `ending` is "unclear" while the index or the trail lags behind, and "stolen" if the service
    ended the session because a token was used again. `why` is the reason or cause.
    """

    session_id: str
    begin: int | None
    end: int | None = None
    removed: int | None = None
    ending: Ending = "unclear"
    why: str = ""
    marks: tuple[Event, ...] = ()
    client: Client = Client()  # noqa: RUF009

    @property
    def sort_key(self) -> tuple[int, str]:
        return self.begin or 0, self.session_id

    def expired(self, pending: PendingExpiry) -> Life:
        """The same, with the expiry that TTL has yet to confirm."""
        return replace(self, end=pending.at, ending="expired", why=pending.cause)


def lives(events: Iterable[Event], live: Collection[Session]) -> list[Life]:
    """A life for each session in the events of a trail or among `live`; the newest first."""
    histories: dict[str, list[Event]] = {each.session_id: [] for each in live}
    for event in sorted(events, key=lambda event: event.event_id):
        histories.setdefault(event.session_id, []).append(event)
    sessions = {each.session_id: each for each in live}
    found = [_life(id, history, sessions.get(id)) for id, history in histories.items()]
    return sorted(found, key=lambda life: life.sort_key, reverse=True)


def _life(session_id: str, history: list[Event], session: Session | None) -> Life:
    by_type: Mapping[str, Event] = {event.type: event for event in history}
    created = by_type.get("created")
    begin = session.created_at if session else created.at if created else None
    life = Life(
        session_id,
        begin,
        marks=tuple(event for event in history if event.type in MARKS),
        client=session.client if session else Client(),
    )
    revoked, purged = by_type.get("revoked"), by_type.get("purged")
    if revoked or purged:
        # A log-out sets the TTL to its own time, so TTL's lag leads back to it.
        end = revoked.at if revoked else purged.at - (purged.ttl_lag_seconds or 0) if purged else 0
        why = revoked.reason or "" if revoked else ""
        removed = purged.at if purged else None
        ending: Ending = "stolen" if why == "token_reuse" else "revoked"
        return replace(life, end=end, removed=removed, ending=ending, why=why)
    if expired := by_type.get("expired"):
        why = expired.cause or ""
        return replace(life, end=expired.at, removed=expired.recorded_at, ending="expired", why=why)
    if deleted := by_type.get("deleted"):
        return replace(life, end=deleted.at, removed=deleted.at, ending="deleted")
    return replace(life, ending="live") if session else life
