"""Takes the screenshots in docs/ again: `make test-browser SCREENSHOTS=1`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from local.stack import ROOT
from serverless_sessions import Client, Sessions
from tests.browser.visits import let_in
from tests.support.console import OPERATOR, running_console, serving
from tests.support.service import Service
from tests.support.trail import WriteEvent, writing_events

pytestmark = pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="SCREENSHOTS=1 makes them")

HOUR, DAY = 3600, 86_400
LAPTOP = Client("203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0")
PHONE = Client("198.51.100.20", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0) Safari/604.1")
TABLET = Client("2001:db8::17", "Mozilla/5.0 (Linux; Android 16) Chrome/141.0 Safari/537.36")
APP = "arn:aws:iam::111122223333:role/webshop"


class Scene:
    """The sessions of the user ada over some days, written into both tables."""

    def __init__(self, service: Service, sessions: Sessions, write_event: WriteEvent) -> None:
        self._service = service
        self._sessions = sessions
        self._write_event = write_event
        self.now = int(time.time())

    def write_event(self, ago: float, type: str, session_id: str, **facts: Any) -> None:
        actor = None if type in ("expired", "purged") else APP
        recorded_at = int(self.now - ago)
        self._write_event(type, session_id, **{"actor": actor, "recorded_at": recorded_at} | facts)

    def signed_in(self, ago: int, client: Client, *, idle_for: int = 300, **made: Any) -> str:
        """Create a session that is `ago` seconds old and was renewed `idle_for` seconds ago."""
        issued = self._sessions.create("ada", client=client, data={"cart": []}, **made)
        id = issued.session.session_id
        ends = self.now - idle_for + issued.session.ttl_seconds
        times = {
            "CreatedAt": self.now - ago,
            "RenewedAt": self.now - idle_for,
            "ExpirationTime": ends,
        }
        self._service.sdk.update_item(
            TableName=self._service.table,
            Key={"SessionId": {"S": id}},
            UpdateExpression="SET LastClient = Client, "
            + ", ".join(f"{name} = :{name}" for name in times),
            ExpressionAttributeValues={f":{name}": {"N": str(at)} for name, at in times.items()},
        )
        self.write_event(ago, "created", id, expires_at=self.now - ago + issued.session.ttl_seconds)
        return id

    def play(self) -> str:
        """Write all sessions and events. Return the id of the laptop's session."""
        lost, kiosk, old = (
            "Jx0rVQm2T8y4dLw9KcPzAg",
            "t7QbN1xWf0aHs5GkUe3RMw",
            "c4MyZ8vDp6LhBq2XnJ0sTA",
        )
        self.write_event(4.6 * DAY, "created", old, expires_at=self.now)
        self.write_event(4.2 * DAY, "updated", old, changed=["cart"])
        ended = {"at": int(self.now - 3.7 * DAY), "cause": "idle", "removed_by": "ttl"}
        self.write_event(3.1 * DAY, "expired", old, **ended, ttl_lag_seconds=int(0.6 * DAY))
        self.write_event(3.4 * DAY, "created", lost, expires_at=self.now)
        self.write_event(3.0 * DAY, "updated", lost, changed=["cart", "theme"])
        self.write_event(2.6 * DAY, "rotated", lost)
        self.write_event(2.3 * DAY, "revoked", lost, reason="stolen_device", actor=OPERATOR)
        self.write_event(
            1.5 * DAY, "purged", lost, removed_by="ttl", ttl_lag_seconds=int(0.8 * DAY)
        )
        self.write_event(1.9 * DAY, "created", kiosk, expires_at=self.now)
        self.write_event(1.7 * DAY, "rotated", kiosk)
        self.write_event(1.4 * DAY, "revoked", kiosk, reason="token_reuse")
        laptop = self.signed_in(int(2.2 * DAY), LAPTOP, absolute_ttl_seconds=3 * DAY)
        self.write_event(1.8 * DAY, "updated", laptop, changed=["theme"])
        self.write_event(1.0 * DAY, "rotated", laptop)
        self.write_event(0.3 * DAY, "updated", laptop, changed=["cart"])
        self.signed_in(int(1.2 * DAY), TABLET, idle_for=int(0.6 * DAY))
        phone = self.signed_in(9 * HOUR, PHONE, idle_for=1000, absolute_ttl_seconds=DAY)
        self.write_event(4 * HOUR, "updated", phone, changed=["cart"])
        return laptop


@pytest.fixture
def write_event(service: Service) -> Iterator[WriteEvent]:
    with writing_events(service.audit_table) as write_event:
        yield write_event


def take(page: Page, name: str, height: int) -> None:
    page.set_viewport_size({"width": 1080, "height": height})
    page.screenshot(path=ROOT / f"docs/console-{name}.png")


def test_screenshots(chromium: Browser, service: Service, write_event: WriteEvent) -> None:
    options: dict[str, Any] = {"region": service.region, "credentials": service.credentials}
    with Sessions(service.url, **options) as sessions:
        laptop = Scene(service, sessions, write_event).play()
    code = serving(service.url, service="prod · eu-central-1", operator=OPERATOR)
    with running_console(code, {}) as console:
        for scheme in ("light", "dark"):
            page = chromium.new_page(
                base_url=console.origin,
                color_scheme=scheme,
                timezone_id="Europe/Berlin",
                locale="en-GB",
            )
            let_in(console, page)
            page.goto("/user?id=ada")
            take(page, f"user-{scheme}", 830)
            page.close()
        page = chromium.new_page(
            base_url=console.origin, timezone_id="Europe/Berlin", locale="en-GB"
        )
        let_in(console, page)
        page.goto(f"/end?user=ada&keep={laptop}")
        page.fill("#reason", "password_changed")
        take(page, "end", 480)
        page.goto("/trail?user=ada")
        take(page, "trail", 640)
        page.close()
