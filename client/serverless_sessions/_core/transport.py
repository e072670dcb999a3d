"""Sends requests over httpcore2's connection pools, which keep connections open.

Not `httpx2.Client`: that one logs each URL, and a URL can name a user.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore2

from serverless_sessions._core.calls import Answer, NoAnswer, Request

_POOL: dict[str, Any] = {
    "max_connections": 100,
    "max_keepalive_connections": 100,
    "keepalive_expiry": 30.0,
}
# Over the pool's own timeouts, which tell whether anything was sent.
_SLACK_SECONDS = 0.02
_HEADERS = {"User-Agent": "serverless-sessions", "Accept-Encoding": "identity"}
_NOT_SENT = (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.PoolTimeout)
_FAILURES = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


def _arguments(request: Request, headers: Mapping[str, str]) -> dict[str, Any]:
    """What the `request` methods of both pools take."""
    phases = dict.fromkeys(("connect", "pool", "read", "write"), request.seconds)
    return {
        "method": request.method,
        "url": request.url,
        "headers": list((_HEADERS | dict(headers)).items()),
        "content": request.body,
        "extensions": {"timeout": phases},
    }


def _failed(error: Exception) -> NoAnswer:
    return NoAnswer(f"no answer ({type(error).__name__})", sent=not isinstance(error, _NOT_SENT))


def _answer(response: httpcore2.Response) -> Answer:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Answer(response.status, headers, response.content)


class Transport:
    """For threads. Each process has connections of its own: after a fork, two would share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._pool: httpcore2.ConnectionPool | None = None

    def send(self, request: Request, headers: Mapping[str, str]) -> Answer | NoAnswer:
        pool = self._current()
        _thread.deadline = time.monotonic() + request.seconds
        try:
            return _answer(pool.request(**_arguments(request, headers)))
        except _FAILURES as error:
            return _failed(error)

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
    """For asyncio. Each event loop has connections of its own: they can't move to another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[asyncio.AbstractEventLoop, httpcore2.AsyncConnectionPool] = {}

    async def send(self, request: Request, headers: Mapping[str, str]) -> Answer | NoAnswer:
        try:
            async with asyncio.timeout(request.seconds + _SLACK_SECONDS):
                return _answer(await self._current().request(**_arguments(request, headers)))
        except (*_FAILURES, TimeoutError) as error:
            return _failed(error)

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
                for ended in [known for known in self._pools if known.is_closed()]:
                    del self._pools[ended]
                self._pools[loop] = httpcore2.AsyncConnectionPool(**_POOL)
            return self._pools[loop]


# When the thread's request has to end.
_thread = threading.local()


class _DeadlineBackend(httpcore2.SyncBackend):
    """httpcore2's timeouts are for each piece that arrives; a server that drips never meets one."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Try each address of the host, with an equal share of the time for each."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        addresses = [str(address[0]) for *_, address in found]
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
            address, port, _left(httpcore2.ConnectTimeout) / shares, None, socket_options or []
        )
        return _DeadlineStream(stream)


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = _left(httpcore2.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(late: type[Exception]) -> float:
    left: float = _thread.deadline - time.monotonic()
    if left <= 0:
        raise late("the deadline has passed")
    return left
