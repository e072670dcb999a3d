"""The local web server of the console."""

from __future__ import annotations

import socket
import webbrowser
from contextlib import suppress
from threading import Thread
from typing import Any

import uvicorn

from serverless_sessions import AsyncSessions
from serverless_sessions.console.app import Console
from serverless_sessions.console.guard import HOST, Guard
from serverless_sessions.operate.report import say


def listen(port: int = 0) -> socket.socket:
    """Listen on 127.0.0.1. Port 0 selects a free port. Raises `OSError`, as `bind` does."""
    listener = socket.socket()
    try:
        # Without this option, closed connections of a former console would block its port for a
        # minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        # The socket listens before the server runs, so that an early request of the browser waits
        # instead of failing.
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def serve(
    listener: socket.socket,
    sessions: AsyncSessions,
    *,
    service: str,
    operator: str,
    browse: bool = True,
) -> None:
    """Serve the console on `listener` until Ctrl-C, and close it.

    With `browse`, the console is opened in a browser, if there is one. Every page shows `service`,
    the name of the service, and `operator`, the owner of the credentials.
    """
    guard = Guard(
        Console(sessions, service=service, operator=operator).app,
        port=listener.getsockname()[1],
        on_entry=lambda url: _say(f"For use in another browser: {url}", url=url),
    )
    config = uvicorn.Config(
        guard,
        # An access log would contain user ids. Proxy headers could change the Host.
        access_log=False,
        proxy_headers=False,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=2,
    )
    with listener, suppress(KeyboardInterrupt):
        say(f"Console: {guard.url}", url=guard.url)
        _say("It serves until Ctrl-C.")
        _Server(config, guard.url if browse else None).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that opens `url` in a browser once it serves."""

    def __init__(self, config: uvicorn.Config, url: str | None) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._url and self.started:
            # A browser in the terminal runs until its user leaves it, so it gets a thread, for
            # which the server does not wait when it ends.
            Thread(target=_open_browser, args=(self._url,), daemon=True).start()


def _open_browser(url: str) -> None:
    with suppress(webbrowser.Error, OSError):
        webbrowser.open(url)


def _say(sentence: str, **facts: Any) -> None:
    # The terminal may be gone, or the program that read the URL. The console serves all the same.
    with suppress(OSError):
        say(sentence, **facts)
