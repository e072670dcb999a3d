"""Servers on 127.0.0.1 with answers that a test chooses, or without any answer."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from local.stack import HOST
from serverless_sessions.serve.gateway import Reply

TOKEN = "A" * 12 + "." + "B" * 27
SESSION: dict[str, Any] = {
    "session_id": "A" * 12,
    "user_id": "ada",
    "created_at": 1_795_000_000,
    "renewed_at": 1_795_000_000,
    "expires_at": 4_000_000_000,
    "absolute_expires_at": 4_000_000_000,
    "ttl_seconds": 1800,
    "version": 1,
    "data": {},
    "client": {},
    "last_client": {},
}


class Received(NamedTuple):
    """A request; names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[Received], Reply]


def verified(_: Received) -> Reply:
    """The service's answer to `verify` with a valid token."""
    return reply(200, SESSION)


def reply(status: int, document: object, **headers: str) -> Reply:
    return Reply(
        status, {"Content-Type": "application/json"} | headers, json.dumps(document).encode()
    )


class StandIn:
    """An HTTP server. `requests` are those that it has received."""

    def __init__(self, answer: Answering, tls: ssl.SSLContext | None, tunnel_to: int) -> None:
        self.requests: list[Received] = []
        requests = self.requests
        self._connections: list[socket.socket] = []
        connections = self._connections

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                connections.append(self.connection)

            def handle(self) -> None:
                with suppress(OSError):
                    super().handle()

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                requests.append(Received(self.command, self.path, headers, body))
                status, fields, content = answer(requests[-1])
                self.send_response_only(status)
                for name, value in (fields | {"Content-Length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def do_CONNECT(self) -> None:
                """As a proxy does: join the client with `tunnel_to`, whatever host it wants."""
                headers = {name.lower(): value for name, value in self.headers.items()}
                requests.append(Received("CONNECT", self.path, headers, b""))
                status = answer(requests[-1]).status
                self.send_response_only(status)
                self.end_headers()
                self.close_connection = True
                if status == 200:
                    with socket.create_connection((HOST, tunnel_to)) as upstream:
                        threading.Thread(
                            target=_pump, args=(upstream, self.connection), daemon=True
                        ).start()
                        _pump(self.connection, upstream)

            def log_message(self, format: str, *args: object) -> None:
                """Tests read `requests`."""

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"{'https' if tls else 'http'}://{HOST}:{self.port}"

    def drop_connections(self) -> None:
        """End the connections that clients keep."""
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()


@contextmanager
def stand_in(
    answer: Answering = verified, tls: ssl.SSLContext | None = None, tunnel_to: int = 0
) -> Iterator[StandIn]:
    """A server that gives these answers until the end of the block."""
    server = StandIn(answer, tls, tunnel_to)
    threading.Thread(target=server.server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()


@contextmanager
def silence() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.create_server((HOST, 0), backlog=100) as listener:
        yield f"http://{HOST}:{listener.getsockname()[1]}"


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
