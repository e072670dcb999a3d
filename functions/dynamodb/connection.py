"""HTTP/1.1 to one host over kept connections, with a time limit for every exchange."""

from __future__ import annotations

import io
import os
import select
import socket
import ssl
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple
from urllib.parse import urlsplit

import clock
from dynamodb.errors import TransientError

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
# The errors of a connection whose other end is gone.
_LOST = (ConnectionError, ssl.SSLError)


class Answer(NamedTuple):
    """A complete HTTP answer. `checksum` is the server's CRC-32 of the body, if it sent one."""

    status: int
    checksum: int | None
    body: bytes


class Connections:
    """Connections to an endpoint, `http://…` or `https://…`.

    A thread that sends a request takes an idle connection or opens a new one, and then leaves it to
    other threads. So there are never more connections than threads that have sent at the same time.
    """

    def __init__(self, endpoint: str) -> None:
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"the endpoint {endpoint} is not an http or https URL")
        default_port = {"http": 80, "https": 443}[url.scheme]
        self._address = url.hostname, url.port or default_port
        # The host as in the Host header, which is a part of the signature.
        self.host = url.netloc.removesuffix(f":{default_port}")
        self._tls = None
        if url.scheme == "https":
            # Certificates and host names are verified.
            self._tls = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
        self._idle: list[_Connection] = []

    def exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        """Send a request and wait for its answer.

        Connecting may take 1 s in all, and the answer 2 s in all. Neither may last longer than
        `deadline`, a time of `clock.monotonic()`. Raises `TransientError` if the answer does not
        arrive in time, or is not complete. A kept connection that turns out to be dead is replaced
        at once: this host may have been frozen, or the other host may have closed the connection.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST / HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n"
        request = head.encode("latin-1") + body

        def within(seconds: float) -> float:
            return min(deadline, clock.monotonic() + seconds)

        try:
            if connection := self._take():
                try:
                    return self._send(connection, request, within(ANSWER_SECONDS))
                except _LOST:
                    self.close()
            connection = _Connection(self._address, self._tls, within(CONNECT_SECONDS))
            return self._send(connection, request, within(ANSWER_SECONDS))
        except (OSError, HTTPException, ValueError) as error:
            # The cause is left out, because it may quote the answer.
            raise TransientError(type(error).__name__) from None

    def close(self) -> None:
        """Close all idle connections. The next exchange opens a new one."""
        with suppress(IndexError):  # other threads may take the last connection
            while True:
                self._idle.pop().close()

    def _take(self) -> _Connection | None:
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        if connection.is_alive():
            return connection
        connection.close()
        self.close()
        return None

    def _send(self, connection: _Connection, request: bytes, deadline: float) -> Answer:
        try:
            answer, keep = connection.exchange(request, deadline)
        except BaseException:
            connection.close()
            raise
        if keep:
            self._idle.append(connection)
        else:
            connection.close()
        return answer


class _Connection:
    """An open connection."""

    def __init__(
        self, address: tuple[str, int], tls: ssl.SSLContext | None, deadline: float
    ) -> None:
        """Connect and shake hands by `deadline`. Raises `OSError`."""
        self._socket = _connect(address, deadline)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                self._socket.settimeout(_left(deadline))
                self._socket = tls.wrap_socket(self._socket, server_hostname=address[0])
        except BaseException:
            self._socket.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._deadline = deadline

    def is_alive(self) -> bool:
        """Return False if anything unexpected has arrived, such as the end of the connection."""
        return not self._poll.poll(0)

    def exchange(self, request: bytes, deadline: float) -> tuple[Answer, bool]:
        """Return the answer, and whether the connection can be used again."""
        self._deadline = deadline
        rest = memoryview(request)
        while rest:
            self._socket.settimeout(_left(deadline))
            rest = rest[self._socket.send(rest) :]
        response = HTTPResponse(self, method="POST")  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        checksum = response.headers["x-amz-crc32"]
        answer = Answer(response.status, int(checksum) if checksum else None, body)
        return answer, not response.will_close

    def makefile(self, _: str) -> io.BufferedReader:
        """Return the stream that `HTTPResponse` reads from, as a socket's method would."""
        return io.BufferedReader(_DeadlineReader(self._socket, self._deadline))

    def close(self) -> None:
        self._socket.close()


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until a deadline. A socket's own timeout starts again with every byte."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._socket.settimeout(_left(self._deadline))
        return self._socket.recv_into(buffer)


def _connect(address: tuple[str, int], deadline: float) -> socket.socket:
    """Connect to the first address of the host that accepts a connection."""
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, where in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(_left(deadline))
            connected.connect(where)
        except OSError as error:
            connected.close()
            failure = error
        else:
            return connected
    raise failure


def _left(deadline: float) -> float:
    """Return the seconds until `deadline`. Raises `TimeoutError` if it has passed."""
    left = deadline - clock.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
