"""The local web server of the console."""

from __future__ import annotations

import socket
import webbrowser
from contextlib import suppress

import uvicorn

from serverless_sessions import AsyncSessions
from serverless_sessions.console.app import Console
from serverless_sessions.console.guard import HOST, Guard


def serve(
    sessions: AsyncSessions, *, service: str, operator: str, port: int = 0, browse: bool = True
) -> None:
    """Serve the console on 127.0.0.1 until Ctrl-C. Port 0 selects a free port.

    With `browse`, the console is opened in a browser, if there is one. Every page shows `service`,
    the name of the service, and `operator`, the owner of the credentials. Raises `OSError` if the
    port is in use.
    """
    with socket.socket() as listener, suppress(KeyboardInterrupt):
        # Without this option, closed connections of a former console would block its port for a
        # minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        # The socket listens before the server runs, so that an early request of the browser waits
        # instead of failing.
        listener.listen()
        guard = Guard(
            Console(sessions, service=service, operator=operator).app,
            port=listener.getsockname()[1],
            on_entry=lambda url: print(f"For use in another browser: {url}", flush=True),
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
        print(f"Console: {guard.url}\nIt serves until Ctrl-C.", flush=True)
        if browse:
            webbrowser.open(guard.url)
        uvicorn.Server(config).run(sockets=[listener])
