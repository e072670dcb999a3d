"""Serves the console on this machine until Ctrl-C."""

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
    """Serve on 127.0.0.1 at `port`, or at a free one; open the browser if there is one.

    `service` names the service on every page, `operator` whoever the credentials belong to. Raises
    `OSError` if the port is taken.
    """
    with socket.socket() as listener, suppress(KeyboardInterrupt):
        # Where connections of a former console linger, its port would be taken for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        # A browser that is quicker than the server waits.
        listener.listen()
        guard = Guard(
            Console(sessions, service=service, operator=operator).app,
            port=listener.getsockname()[1],
            on_entry=lambda url: print(f"For another browser: {url}", flush=True),
        )
        config = uvicorn.Config(
            guard,
            # An access log would name users. What a proxy claims would change the Host.
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
