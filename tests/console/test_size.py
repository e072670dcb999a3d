"""A full page is small, and takes less time than its calls to the API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

from starlette.testclient import TestClient

from serverless_sessions import Client, Event, Session
from serverless_sessions.console.app import Console
from serverless_sessions.console.guard import Guard
from tests.console.entry import ORIGIN, PORT
from tests.support.console import OPERATOR

MAX_BYTES = 50_000
MAX_SECONDS = 0.1
AGENT = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/141.0.0.0"
LIVE = 100
ENDED = 300


class FullService:
    """A service whose user has more sessions and events than a page shows. It answers at once."""

    def __init__(self) -> None:
        self.now = int(time.time())

    async def __aenter__(self) -> FullService:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing."""

    async def list(self, user_id: str) -> AsyncIterator[Session]:
        for number in range(LIVE):
            yield self.session(f"live{number:018}")

    async def get(self, session_id: str) -> Session:
        return self.session(session_id)

    async def pending(self, session_id: str) -> None:
        return None

    async def events(self, **_: Any) -> AsyncIterator[Event]:
        types = ("purged", "revoked", "rotated", "updated", "created")
        for number in range(ENDED * len(types)):
            at = self.now - 60 * number
            yield Event(
                event_id=f"{at}#{'9' * 40}",
                type=types[number % len(types)],
                session_id=f"{number // len(types):022}",
                user_id="ada",
                at=at,
                recorded_at=at,
                actor="arn:aws:sts::111122223333:assumed-role/webshop-production/i-0123456789abcdef",
                request_id="52fdfc07-2182-454f-963f-5f0f9a621d72",
                reason="password_changed",
                changed=("cart", "theme", "last_visited_pages"),
                ttl_lag_seconds=100,
            )

    def session(self, session_id: str) -> Session:
        client = Client("2001:db8:1234:5678:90ab:cdef:1234:5678", AGENT)
        return Session(
            session_id=session_id,
            user_id="ada",
            created_at=self.now - 5000,
            renewed_at=self.now - 50,
            expires_at=self.now + 1750,
            absolute_expires_at=self.now + 81_400,
            ttl_seconds=1800,
            version=7,
            data={"cart": ["tea"] * 10_000},
            client=client,
            last_client=client,
        )


def test_full_pages_are_small_and_quick() -> None:
    """Processor time is measured, because elapsed time depends on the load of the machine."""
    console = Console(FullService(), service="prod", operator=OPERATOR)  # type: ignore[arg-type]
    guard = Guard(console.app, port=PORT, on_entry=lambda _: None)
    with TestClient(guard, base_url=ORIGIN) as browser:
        browser.get(guard.url)
        for path in (
            *("/user?id=ada", "/trail?user=ada", "/end?user=ada", "/session?id=" + "A" * 12),
            *("/session?data=show&id=" + "A" * 12, "/static/console.css"),
        ):
            durations = []
            for _ in range(3):
                begin = time.process_time()
                page = browser.get(path)
                durations.append(time.process_time() - begin)
            print(f"{path[:20]:<20} {len(page.content):>6} bytes {min(durations) * 1000:>4.0f} ms")
            assert page.status_code == 200
            assert len(page.content) < MAX_BYTES, path
            assert min(durations) < MAX_SECONDS, path
