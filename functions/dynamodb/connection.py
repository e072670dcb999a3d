"""HTTP/1.1 to one host over kept connections, with a time limit for every exchange."""

from __future__ import annotations

import io
import os
import select
import socket
import ssl
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from threading import Lock, Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import clock
from dynamodb.errors import TransientError

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
# The errors of a connection whose other end is gone.
_LOST = (ConnectionError, ssl.SSLError)
# The errors of any exchange. An answer that claims an absurd length causes the last two.
_FAILED = (OSError, HTTPException, ValueError, OverflowError, MemoryError)


class Answer(NamedTuple):
    """A complete HTTP answer.

    `checksum` is the server's CRC-32 of the body, if it sent one. `date` is the Date header of an
    error, if it has one.
    """

    status: int
    checksum: int | None
    body: bytes
    date: str | None = None


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
        self._lock = Lock()
        self._look_up: _LookUp | None = None

    def exchange(
        self, headers: dict[str, str], body: bytes, deadline: float, *, start: str = "POST /"
    ) -> Answer:
        """Send a request and wait for its answer. `start` is the method and the path.

        Connecting may take 1 s in all, and the answer 2 s in all. Neither may last longer than
        `deadline`, a time of `clock.monotonic()`. Raises `TransientError` if the answer does not
        arrive in time, or is not complete. A kept connection that turns out to be dead is replaced
        at once: this host may have been frozen, or the other host may have closed the connection.
        """

        def within(seconds: float) -> float:
            return min(deadline, clock.monotonic() + seconds)

        try:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"{start} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n"
            request = head.encode("latin-1") + body
            if connection := self._take():
                try:
                    return self._send(connection, request, within(ANSWER_SECONDS))
                except _FAILED as error:
                    # The other idle connections are as old, so they are probably dead as well.
                    self.close()
                    if not isinstance(error, _LOST):
                        raise
            connection = self._open(within(CONNECT_SECONDS))
            return self._send(connection, request, within(ANSWER_SECONDS))
        except _FAILED as error:
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

    def _open(self, deadline: float) -> _Connection:
        """Connect to the first address of the host with which that succeeds.

        Each address has half of the time that is left, and the last one all of it. So the first
        one, which may stay silent, has long enough for a handshake on a slow host.
        """
        failure = OSError("no address")
        addresses = self._addresses(deadline)
        for position, address in enumerate(addresses, start=1):
            left = _left(deadline)
            if position < len(addresses):
                left /= 2
            try:
                return _Connection(
                    _connect(address, self._tls, self._address[0], clock.monotonic() + left)
                )
            except OSError as error:
                failure = error
        raise failure

    def _addresses(self, deadline: float) -> list[Any]:
        """Look up the host's name. All threads that wait for it share one look-up."""
        with self._lock:
            look_up = self._look_up
            if look_up is None or not look_up.is_alive():
                look_up = self._look_up = _LookUp(*self._address)
                look_up.start()
        look_up.join(_left(deadline))
        return look_up.result()

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

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._received = _Received(connected)
        self._reader = _Reader(self._received)
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    def is_alive(self) -> bool:
        """Return False if anything unexpected has arrived, such as the end of the connection."""
        return not self._poll.poll(0)

    def exchange(self, request: bytes, deadline: float) -> tuple[Answer, bool]:
        """Return the answer, and whether the connection can be used again."""
        rest = memoryview(request)
        while rest:
            self._socket.settimeout(_left(deadline))
            rest = rest[self._socket.send(rest) :]
        self._received.deadline = deadline
        response = HTTPResponse(self, method="POST")  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        headers = response.headers
        checksum = headers["x-amz-crc32"]
        date = headers["date"] if response.status >= 400 else None
        answer = Answer(response.status, int(checksum) if checksum else None, body, date)
        # An interim answer, with a status below 200, is followed by another one.
        return answer, not (response.will_close or response.status < 200 or self._has_more())

    def makefile(self, _: str) -> io.BufferedReader:
        """Return the stream that `HTTPResponse` reads from, as a socket's method would."""
        return self._reader

    def close(self) -> None:
        self._socket.close()

    def _has_more(self) -> bool:
        """Whether more than the answer has been read from the socket, where `is_alive` looks."""
        self._received.deadline = None
        if self._reader.peek():
            return True
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0


class _Reader(io.BufferedReader):
    """Reads all answers of a connection."""

    def close(self) -> None:
        """Do nothing, because `HTTPResponse` calls this after every answer."""

    def flush(self) -> None:
        """Do nothing. There is nothing to write, and the socket may have been closed before.

        From Python 3.13 on, an error that `HTTPResponse` gets here at its end is in the log.
        """


class _Received(io.RawIOBase):
    """What arrives on a socket until `deadline`. Without a deadline, nothing is read.

    A socket's own timeout starts again with every byte.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.deadline: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        if self.deadline is None:
            return None
        self._socket.settimeout(_left(self.deadline))
        return self._socket.recv_into(buffer)


class _LookUp(Thread):
    """The look-up of a host's addresses. It has a thread, because it has no time limit."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self._where = host, port
        self._addresses: list[Any] = []
        self._failure: Exception = TimeoutError()

    def run(self) -> None:
        try:
            self._addresses = socket.getaddrinfo(*self._where, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            self._failure = error

    def result(self) -> list[Any]:
        """Return the addresses. Raises an error if there is none, or none yet."""
        if not self._addresses:
            raise self._failure
        return self._addresses


def _connect(address: Any, tls: ssl.SSLContext | None, host: str, deadline: float) -> socket.socket:
    """Connect to an address and shake hands with `host` by `deadline`. Raises `OSError`."""
    family, kind, protocol, _, where = address
    connected = socket.socket(family, kind, protocol)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(_left(deadline))
        connected.connect(where)
        if not tls:
            return connected
        connected.settimeout(_left(deadline))
        return tls.wrap_socket(connected, server_hostname=host)
    except BaseException:
        connected.close()
        raise


def _left(deadline: float) -> float:
    """Return the seconds until `deadline`. Raises `TimeoutError` if it has passed."""
    left = deadline - clock.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
