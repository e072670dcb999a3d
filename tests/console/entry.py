"""The console without a socket, and the text of its pages."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from serverless_sessions import AsyncSessions
from serverless_sessions.console.app import Console
from serverless_sessions.console.guard import Guard
from tests.support.console import OPERATOR
from tests.support.service import Service

PORT = 4600
ORIGIN = f"http://127.0.0.1:{PORT}"


class Entry:
    """The console's guard. `urls` are the new URLs that the guard has reported.

    It reports one each time somebody has opened the console with the previous URL.
    """

    def __init__(self, service: Service) -> None:
        self.urls: list[str] = []
        sessions = AsyncSessions(
            service.url,
            region=service.region,
            credentials=service.credentials,
            deadline_seconds=3,
        )
        console = Console(sessions, service="test", operator=OPERATOR)
        self.guard = Guard(console.app, port=PORT, on_entry=self.urls.append)


def text_of(page: str) -> str:
    """Return the text of a page, without its tags."""
    main = page[page.index("<main") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", main)).strip()


def location(answer: Any) -> str:
    """Return the target of a redirect, which must be a path of the console."""
    assert answer.status_code == 303, answer.text
    target = urlsplit(answer.headers["location"])
    assert target.netloc in ("", f"127.0.0.1:{PORT}")
    return f"{target.path}?{target.query}"
