"""Protects the console from other pages in the browser and from other programs on this machine.

The console uses an operator's AWS credentials, and every page in the browser can send requests to
127.0.0.1. Every check below prevents an attack that the other checks do not prevent.
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
    # Another site must not embed a response, nor keep a reference to the console's window.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With 'no-referrer', the console's own forms would send the Origin 'null'.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Forwards only the requests of the operator's browser to `app`, which listens on `port`.

    `url` works only once, because others may read it in the browser's history or in the list
    of processes. After that, `url` is a new URL, and `on_entry` is called with it.
    """

    def __init__(self, app: ASGIApp, *, port: int, on_entry: Callable[[str], None]) -> None:
        self._app = app
        self._host = f"{HOST}:{port}"
        self._origin = f"http://{self._host}"
        # A browser sends a cookie to every port of a host, so the name of the cookie contains the
        # port. Two consoles then do not share a cookie.
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
        """Return the response to a request that must not reach the app, or None for any other."""
        # DNS rebinding: an attacker's host name can resolve to this address. The attacker's page
        # would then have the same origin as the console.
        if request.headers.getlist("host") != [self._host]:
            return _refusal(421, f"The console only answers at {self._origin}.")
        # A form on another port of this host is same-site, so the browser sends the cookie with it.
        is_read = request.method in ("GET", "HEAD")
        if not is_read and request.headers.getlist("origin") != [self._origin]:
            return _refusal(403, "Only the console's own pages may change anything.")
        key = request.query_params.get("key") if request.url.path == "/" else None
        if key is not None and _same(key, self._key):
            return self._enter()
        if not _same(request.cookies.get(self._cookie, ""), self._secret):
            return _refusal(
                401, "Open the console with the URL that its terminal shows. A URL works once."
            )
        return RedirectResponse("/", 303) if key is not None else None

    def _enter(self) -> Response:
        self._key = token_urlsafe(32)
        self._on_entry(self.url)
        # The redirect removes the key from the address bar.
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, self._secret, httponly=True, samesite="strict")
        return answer


def _same(value: str, expected: str) -> bool:
    return compare_digest(value.encode(errors="replace"), expected.encode())


def _refusal(status: int, message: str) -> Response:
    return PlainTextResponse(message + "\n", status)
