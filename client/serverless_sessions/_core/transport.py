"""Sends requests over the connection pools of httpcore2, which keep connections open.

`httpx2.Client` is not used because it logs every URL, and a URL can contain a user id.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpcore2

from serverless_sessions._core.calls import Answer, Deadline, NoAnswer, Request
from serverless_sessions._core.hedge import Hedge, send_hedged
from serverless_sessions._core.secret import Secret, without_frames

_POOL: dict[str, Any] = {
    "max_connections": 100,
    "max_keepalive_connections": 100,
    "keepalive_expiry": 30.0,
}
# The overall timeout is a little longer than the pool's own timeouts. Those should fire first,
# because they tell whether the request was sent.
_SLACK_SECONDS = 0.02
_HEADERS = {"User-Agent": "serverless-sessions", "Accept-Encoding": "identity"}
_NOT_SENT = (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.PoolTimeout)
_FAILURES = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


def _arguments(request: Request, headers: Secret[dict[str, str]]) -> dict[str, Any]:
    """Return the arguments for the `request` method of either pool."""
    timeouts = dict.fromkeys(("connect", "pool", "write"), request.patience_seconds)
    timeouts["read"] = request.seconds
    return {
        "method": request.method,
        "url": request.url,
        "headers": list((_HEADERS | headers.value).items()),
        "content": request.body.value,
        "extensions": {"timeout": timeouts},
    }


def _no_answer(error: Exception) -> NoAnswer:
    return NoAnswer(f"no answer ({type(error).__name__})", sent=not isinstance(error, _NOT_SENT))


def _answer(response: httpcore2.Response) -> Answer:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Answer(response.status, headers, response.content)


class Transport:
    """Sends requests from threads.

    Every process has its own connections, so that a forked process does not use its parent's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._pool: httpcore2.ConnectionPool | None = None

    def send(self, request: Request, headers: Secret[dict[str, str]]) -> Answer | NoAnswer:
        if not request.is_hedged:
            return self._send(request, headers, None)
        hedge = Hedge(request, lambda second: self._send(second, headers, None))
        return hedge.settle(self._send(request, headers, hedge))

    def _send(
        self, request: Request, headers: Secret[dict[str, str]], hedge: Hedge | None
    ) -> Answer | NoAnswer:
        outer = sys.exception()
        pool = self._current()
        _thread.deadline = Deadline(request.seconds)
        _thread.patience = Deadline(request.patience_seconds)
        _thread.hedge = hedge
        try:
            return _answer(pool.request(**_arguments(request, headers)))
        except _FAILURES as error:
            return _no_answer(error)
        except BaseException as error:  # the app interrupts the thread, for example
            without_frames(error, outer)
            raise
        finally:
            _thread.hedge = None

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool:
            pool.close()

    def _current(self) -> httpcore2.ConnectionPool:
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                self._pool = httpcore2.ConnectionPool(**_POOL, network_backend=_DeadlineBackend())
                self._process = os.getpid()
            return self._pool


class AsyncTransport:
    """Sends requests with asyncio.

    Every event loop has its own connections, because a connection is bound to its event loop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[asyncio.AbstractEventLoop, httpcore2.AsyncConnectionPool] = {}

    async def send(self, request: Request, headers: Secret[dict[str, str]]) -> Answer | NoAnswer:
        if not request.is_hedged:
            return await self._send(request, headers)
        return await send_hedged(request, lambda sent: self._send(sent, headers))

    async def _send(self, request: Request, headers: Secret[dict[str, str]]) -> Answer | NoAnswer:
        outer = sys.exception()
        try:
            async with asyncio.timeout(request.seconds + _SLACK_SECONDS):
                return _answer(await self._current().request(**_arguments(request, headers)))
        except (*_FAILURES, TimeoutError) as error:
            return _no_answer(error)
        except BaseException as error:  # the app cancels the task, for example
            without_frames(error, outer)
            raise

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        with self._lock:
            pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool:
            await pool.aclose()

    def _current(self) -> httpcore2.AsyncConnectionPool:
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._pools:
                for closed_loop in [other for other in self._pools if other.is_closed()]:
                    del self._pools[closed_loop]
                self._pools[loop] = httpcore2.AsyncConnectionPool(**_POOL)
            return self._pools[loop]


# The current thread's request: its attribute `deadline` is the `Deadline` of the answer, `patience`
# that of the connection and of writing the request, and `hedge` its second send, or None.
_thread = threading.local()


class _DeadlineBackend(httpcore2.SyncBackend):
    """Applies the deadline to the whole request.

    httpcore2 applies a timeout to every single read, so a server that sends one byte at a time
    would never exceed it.
    """

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Try the addresses of the host in turn. All get an equal share of the remaining time."""
        try:
            results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        addresses = [str(address[0]) for *_, address in results]
        for remaining in range(len(addresses), 1, -1):
            try:
                return self._connect(addresses[-remaining], port, remaining, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._connect(addresses[-1], port, 1, socket_options)

    def _connect(
        self, address: str, port: int, shares: int, socket_options: Iterable[Any] | None
    ) -> httpcore2.NetworkStream:
        stream = super().connect_tcp(
            address,
            port,
            _left(_thread.patience, httpcore2.ConnectTimeout) / shares,
            None,
            socket_options or [],
        )
        return _DeadlineStream(stream)


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while True:
            left = _left(_thread.deadline, httpcore2.ReadTimeout)
            until_poll = _thread.hedge.poll() if _thread.hedge else left
            if until_poll is None:
                raise httpcore2.ReadTimeout("the second send was answered first")
            with suppress(httpcore2.ReadTimeout):
                return self._stream.read(max_bytes, min(left, until_poll))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(_thread.patience, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = _left(_thread.patience, httpcore2.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: Deadline, timeout_class: type[Exception]) -> float:
    """Return the seconds until the deadline, or raise `timeout_class`."""
    left = deadline.left
    if left <= 0:
        raise timeout_class("the deadline has passed")
    return left
