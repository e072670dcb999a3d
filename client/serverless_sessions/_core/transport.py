"""Sends requests with httpx2's transports and keeps the connections.

The transports and not `httpx2.Client`: that one logs each URL, and a URL can name a user.
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
import httpx2

from serverless_sessions._core.calls import Answer, NoAnswer, Request

_MAX_CONNECTIONS = 100
_KEEP_SECONDS = 30.0
# Over the transport's own timeouts, which tell whether anything was sent.
_SLACK_SECONDS = 0.02
_HEADERS = {"User-Agent": "serverless-sessions", "Accept-Encoding": "identity"}
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def _limits() -> httpx2.Limits:
    return httpx2.Limits(
        max_connections=_MAX_CONNECTIONS,
        max_keepalive_connections=_MAX_CONNECTIONS,
        keepalive_expiry=_KEEP_SECONDS,
    )


def _spelled(request: Request, headers: Mapping[str, str]) -> httpx2.Request:
    phases = dict.fromkeys(("connect", "pool", "read", "write"), request.seconds)
    return httpx2.Request(
        request.method,
        request.url,
        headers=_HEADERS | dict(headers),
        content=request.body,
        extensions={"timeout": phases},
    )


def _failed(error: Exception) -> NoAnswer:
    return NoAnswer(f"no answer ({type(error).__name__})", sent=not isinstance(error, _NOT_SENT))


def _answer(response: httpx2.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content)


class Transport:
    """For threads. Each process has connections of its own: after a fork, two would share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._transport: _DeadlineTransport | None = None

    def send(self, request: Request, headers: Mapping[str, str]) -> Answer | NoAnswer:
        transport = self._current()
        _thread.deadline = time.monotonic() + request.seconds
        try:
            response = transport.handle_request(_spelled(request, headers))
            try:
                response.read()
            finally:
                response.close()
        except httpx2.RequestError as error:
            return _failed(error)
        return _answer(response)

    def close(self) -> None:
        with self._lock:
            transport, self._transport = self._transport, None
        if transport:
            transport.close()

    def _current(self) -> _DeadlineTransport:
        with self._lock:
            if self._transport is None or self._process != os.getpid():
                self._transport, self._process = _DeadlineTransport(), os.getpid()
            return self._transport


class AsyncTransport:
    """For asyncio. Each event loop has connections of its own: they can't move to another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._transports: dict[asyncio.AbstractEventLoop, httpx2.AsyncHTTPTransport] = {}

    async def send(self, request: Request, headers: Mapping[str, str]) -> Answer | NoAnswer:
        try:
            async with asyncio.timeout(request.seconds + _SLACK_SECONDS):
                response = await self._current().handle_async_request(_spelled(request, headers))
                try:
                    await response.aread()
                finally:
                    await response.aclose()
        except (httpx2.RequestError, TimeoutError) as error:
            return _failed(error)
        return _answer(response)

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        with self._lock:
            transport = self._transports.pop(asyncio.get_running_loop(), None)
        if transport:
            await transport.aclose()

    def _current(self) -> httpx2.AsyncHTTPTransport:
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._transports:
                for ended in [each for each in self._transports if each.is_closed()]:
                    del self._transports[ended]
                self._transports[loop] = httpx2.AsyncHTTPTransport(limits=_limits())
            return self._transports[loop]


# When the thread's request has to end.
_thread = threading.local()


class _DeadlineTransport(httpx2.HTTPTransport):
    """httpx2's timeouts are for each piece that arrives; a server that drips never meets one."""

    def __init__(self) -> None:
        super().__init__(limits=_limits())
        self._pool.close()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(),
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_KEEP_SECONDS,
            network_backend=_DeadlineBackend(),
        )


class _DeadlineBackend(httpcore2.SyncBackend):
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
