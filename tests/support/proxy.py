"""A proxy on a real socket between a client and DynamoDB, which simulates network faults."""

from __future__ import annotations

import io
import json
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.client import HTTPConnection
from typing import NamedTuple
from urllib.parse import urlsplit

from local.stack import HOST


class Hangup(Exception):
    """Raised to close the connection."""


class Exchange(NamedTuple):
    """One request, and the connection on which the answer is sent."""

    connection: socket.socket
    operation: str
    headers: dict[str, str]
    body: bytes
    upstream: str

    def forward(self) -> tuple[int, bytes]:
        """Send the request to DynamoDB and return the status and the body of its answer."""
        http = HTTPConnection(urlsplit(self.upstream).netloc)
        try:
            http.request("POST", "/", self.body, self.headers)
            response = http.getresponse()
            return response.status, response.read()
        finally:
            http.close()

    def send(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except OSError:
            raise Hangup from None


Fault = Callable[[Exchange], None]


class Proxy:
    """Passes requests on to `upstream`, or handles them with the faults of `plan`.

    `operations` are the operations of the received requests, `statuses` are the statuses of
    DynamoDB's answers, and `connections` is the number of opened connections.
    """

    def __init__(self, upstream: str, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.endpoint = f"{'https' if tls else 'http'}://{HOST}:{listener.getsockname()[1]}"
        self.operations: list[str] = []
        self.statuses: list[int] = []
        self.connections = 0
        self._upstream = upstream
        self._listener = listener
        self._tls = tls
        self._faults: list[Fault] = []
        self._always: Fault | None = None

    def plan(self, *faults: Fault, always: Fault | None = None) -> None:
        """Set a fault for each of the next requests, and one for all requests after them."""
        self._faults[:] = faults
        self._always = always
        self.operations.clear()
        self.statuses.clear()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _serve_one(self, connection: socket.socket) -> None:
        with suppress(Hangup, OSError), connection:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as received:
                while received.readline().strip():
                    self._answer_one(connection, received)

    def _answer_one(self, connection: socket.socket, received: io.BufferedIOBase) -> None:
        headers = {}
        while line := received.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = received.read(int(headers["content-length"]))
        operation = headers["x-amz-target"].partition(".")[2]
        self.operations.append(operation)
        exchange = Exchange(connection, operation, headers, body, self._upstream)
        fault = self._faults.pop(0) if self._faults else self._always
        if fault:
            fault(exchange)
        else:
            self.pass_on(exchange)

    def pass_on(self, exchange: Exchange) -> None:
        """Send the request to DynamoDB and return its answer."""
        status, answer = exchange.forward()
        self.statuses.append(status)
        exchange.send(http_answer(status, answer))

    def lose_answer(self, then: Callable[[], None] = lambda: None) -> Fault:
        """Return a fault: DynamoDB executes the request, `then` is called, and a 500 is
        answered.
        """

        def lose(exchange: Exchange) -> None:
            self.statuses.append(exchange.forward()[0])
            then()
            answering(500)(exchange)

        return lose


@contextmanager
def proxy_to(upstream: str = "", tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy on 127.0.0.1 until the end of the block.

    Without `upstream` it can only use faults.
    """
    with socket.create_server((HOST, 0)) as listener:
        proxy = Proxy(upstream, listener, tls)
        threading.Thread(target=proxy.serve, daemon=True).start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)


def http_answer(
    status: int, body: bytes, checksum: int | None = None, date: float | None = None
) -> bytes:
    """Return an HTTP answer in DynamoDB's format, by default with the right checksum and time."""
    crc32 = zlib.crc32(body) if checksum is None else checksum
    head = (
        f"HTTP/1.1 {status} Status\r\nContent-Type: application/x-amz-json-1.0\r\n"
        f"Content-Length: {len(body)}\r\nx-amz-crc32: {crc32}\r\n"
        f"Date: {formatdate(date, usegmt=True)}\r\n\r\n"
    )
    return head.encode() + body


def answering(status: int, body: bytes = b"{}", checksum: int | None = None) -> Fault:
    """Return a fault that sends this answer instead of DynamoDB's."""
    return lambda exchange: exchange.send(http_answer(status, body, checksum))


def refusing(code: str, status: int = 400, message: str = "no") -> Fault:
    """Return a fault that sends an error in DynamoDB's format."""
    error = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
    return answering(status, json.dumps(error).encode())


def silent(exchange: Exchange) -> None:
    """Send no answer until the client has given up."""
    with suppress(OSError):
        while exchange.connection.recv(1):
            pass
    raise Hangup


def dripping(exchange: Exchange) -> None:
    """Send single bytes of an answer with pauses."""
    for byte in http_answer(200, b"{}" + b" " * 10_000):
        exchange.send(bytes([byte]))
        time.sleep(0.05)


def cut(exchange: Exchange) -> None:
    """Send an answer that ends in the middle."""
    exchange.send(http_answer(200, b'{"Item": {}}')[:-5])
    raise Hangup


def resetting(exchange: Exchange) -> None:
    """Reset the connection."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Hangup


def closing(exchange: Exchange) -> None:
    """Close the connection without an answer."""
    raise Hangup
