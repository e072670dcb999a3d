"""Keeps out whatever else runs in this browser or on this machine.

The console acts with an operator's AWS credentials, and every page in the browser can send requests
to 127.0.0.1. Each check below stops one way in that the others leave open.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import compare_digest, token_urlsafe

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # Another site in this browser may neither embed an answer nor hold on to the window.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # 'no-referrer' would make the Origin of the console's own forms 'null'.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Lets the requests of one browser through to `app`, which listens on `port`.

    `url` opens the console once. Then another URL takes its place, and `on_entry` is told it: the
    URL stays in the browser's history and in the list of processes, where others may read it.
    """

    def __init__(self, app: ASGIApp, *, port: int, on_entry: Callable[[str], None]) -> None:
        self._app = app
        self._host = f"{HOST}:{port}"
        self._origin = f"http://{self._host}"
        # A browser sends a cookie to every port of a host. The name keeps two consoles apart.
        self._cookie = f"sessions-console-{port}"
        self._secret = token_urlsafe(32)
        self._key = token_urlsafe(32)
        self._on_entry = on_entry

    @property
    def url(self) -> str:
        return f"{self._origin}/?key={self._key}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._answer(Request(scope)) or self._app
        await answer(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """None for a request that may pass."""
        # A name that an attacker's DNS points here makes the attacker's page same-origin.
        if request.headers.getlist("host") != [self._host]:
            return _refused(421, f"The console answers at {self._origin} alone.")
        # A form on another port of this host is same-site: the browser sends the cookie with it.
        reading = request.method in ("GET", "HEAD")
        if not reading and request.headers.getlist("origin") != [self._origin]:
            return _refused(403, "Only the console's own pages may change anything.")
        key = request.query_params.get("key") if request.url.path == "/" else None
        if key is not None and _same(key, self._key):
            return self._entered()
        if not _same(request.cookies.get(self._cookie, ""), self._secret):
            return _refused(
                401, "Open the console with the URL that its terminal shows. A URL works once."
            )
        return RedirectResponse("/", 303) if key is not None else None

    def _entered(self) -> Response:
        self._key = token_urlsafe(32)
        self._on_entry(self.url)
        # A redirect, so that the key leaves the address bar.
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, self._secret, httponly=True, samesite="strict")
        return answer


def _same(given: str, expected: str) -> bool:
    return compare_digest(given.encode(errors="replace"), expected.encode())


def _refused(status: int, sentence: str) -> Response:
    return PlainTextResponse(sentence + "\n", status)
