"""Sends requests over the connection pools of httpcore2, which keep connections open.

`httpx2.Client` is not used because it logs every URL, and a URL can contain a user id.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpcore2
from botocore.exceptions import BotoCoreError

from serverless_sessions._core.background import PerProcess, wait_async
from serverless_sessions._core.calls import Answer, Deadline, NoAnswer, Request
from serverless_sessions._core.credentials import alone
from serverless_sessions._core.hedge import Hedge, send_hedged
from serverless_sessions._core.network import (
    Names,
    create_tls_context,
    find_proxy,
    host_and_port,
    result_of,
)
from serverless_sessions._core.secret import without_frames

_POOL: dict[str, Any] = {
    "max_connections": 100,
    "max_keepalive_connections": 100,
    "keepalive_expiry": 30.0,
}
# The overall timeout is a little longer than the pool's own timeouts. Those should fire first,
# because they tell whether the request was sent.
_SLACK_SECONDS = 0.02
_HEADERS = {"User-Agent": "serverless-sessions", "Accept-Encoding": "identity"}
_NOT_SENT = (
    httpcore2.ConnectError,
    httpcore2.ConnectTimeout,
    httpcore2.PoolTimeout,
    httpcore2.ProxyError,
)
_FAILURES = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)

Pool = TypeVar("Pool")


def _arguments(request: Request) -> dict[str, Any]:
    """Return the arguments for the `request` method of either pool."""
    timeouts = dict.fromkeys(("connect", "pool", "write"), request.patience_seconds)
    timeouts["read"] = request.seconds
    return {
        "method": request.method,
        "url": request.url,
        "headers": list((_HEADERS | dict(request.headers)).items()),
        "content": request.body.value,
        "extensions": {"timeout": timeouts},
    }


def _no_answer(error: Exception, request: Request, proxy: str) -> NoAnswer:
    """Name the host and the reason, and nothing of the path and the query."""
    cause = _first_cause(error)
    if isinstance(error, httpcore2.LocalProtocolError):
        # The original text contains the malformed part.
        cause = httpcore2.LocalProtocolError("the request is malformed")
    text = str(cause) or ("timed out" if isinstance(cause, TimeoutError) else repr(cause))
    via = f" through the proxy {proxy}" if proxy else ""
    return NoAnswer(
        f"no answer from {host_and_port(request.url)}{via}: {text}",
        sent=not isinstance(error, _NOT_SENT),
        cause=alone(cause),
    )


def _first_cause(error: BaseException) -> BaseException:
    """httpcore2 keeps the exception of the socket as an argument, and hides it as a cause."""
    while not isinstance(error, TimeoutError):
        argument = error.args[0] if error.args else None
        cause = argument if isinstance(argument, BaseException) else error.__cause__
        if cause is None:
            break
        error = cause
    return error


def _answer(response: httpcore2.Response) -> Answer:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Answer(response.status, headers, response.content)


@dataclass(frozen=True)
class _Route(Generic[Pool]):
    """The connections to one origin. `proxy` is the proxy's host, or empty."""

    pool: Pool
    proxy: str


class _Routes(Generic[Pool]):
    """The routes of one process, or of one event loop."""

    def __init__(self, make: Callable[..., Pool], backend: Any, profile: str | None) -> None:
        self._make = make
        self._backend = backend
        self._profile = profile
        self._routes: dict[str, _Route[Pool]] = {}
        self._context: ssl.SSLContext | None = None

    def find(self, url: str) -> _Route[Pool]:
        """Raises `ConnectError` if there is no way to the origin of `url`."""
        origin = url[: url.index("/", len("https://"))]
        return self._routes.get(origin) or self._routes.setdefault(origin, self._create(origin))

    @property
    def pools(self) -> list[Pool]:
        return [route.pool for route in self._routes.values()]

    def _create(self, origin: str) -> _Route[Pool]:
        try:
            proxy, headers = find_proxy(origin) or ("", {})
            is_tls_proxy = proxy.startswith("https://")
            if self._context is None and (origin.startswith("https://") or is_tls_proxy):
                self._context = create_tls_context(self._profile)
            options: dict[str, Any] = {}
            if proxy:
                context = self._context if is_tls_proxy else None
                options["proxy"] = httpcore2.Proxy(
                    proxy, headers=[*headers.items()], ssl_context=context
                )
        except (OSError, ValueError, BotoCoreError) as error:
            raise httpcore2.ConnectError(error) from error
        pool = self._make(
            **_POOL, **options, ssl_context=self._context, network_backend=self._backend
        )
        return _Route(pool, host_and_port(proxy))


class Transport:
    """Sends requests from threads.

    Every process has its own connections, so that a forked process does not use its parent's.
    """

    def __init__(self, profile: str | None = None) -> None:
        self._routes = PerProcess(
            lambda: _Routes(httpcore2.ConnectionPool, _DeadlineBackend(), profile)
        )

    def send(self, request: Request) -> Answer | NoAnswer:
        if not request.is_hedged:
            return self._send(request, None)
        hedge = Hedge(request, lambda second: self._send(second, None))
        return hedge.settle(self._send(request, hedge))

    def _send(self, request: Request, hedge: Hedge | None) -> Answer | NoAnswer:
        outer = sys.exception()
        _thread.deadline = Deadline(request.seconds)
        _thread.patience = Deadline(request.patience_seconds)
        _thread.hedge = hedge
        proxy = ""
        try:
            route = self._routes.get().find(request.url)
            proxy = route.proxy
            return _answer(route.pool.request(**_arguments(request)))
        except _FAILURES as error:
            return _no_answer(error, request, proxy)
        except BaseException as error:  # the app interrupts the thread, for example
            without_frames(error, outer)
            raise
        finally:
            _thread.hedge = None

    def close(self) -> None:
        if routes := self._routes.pop():
            for pool in routes.pools:
                pool.close()


_AsyncRoutes = _Routes[httpcore2.AsyncConnectionPool]


@dataclass(frozen=True)
class _Loop:
    """The connections of one event loop, and the generator that closes them at its shutdown."""

    routes: _AsyncRoutes
    closer: AsyncGenerator[None]


class AsyncTransport:
    """Sends requests with asyncio.

    Every event loop has its own connections, because a connection is bound to its event loop. They
    are closed when the loop shuts down: an app may have a new loop for each request.
    """

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._backends = PerProcess(_NamesBackend)
        self._loops: PerProcess[dict[asyncio.AbstractEventLoop, _Loop]] = PerProcess(dict)

    async def send(self, request: Request) -> Answer | NoAnswer:
        if request.is_hedged:
            return await send_hedged(request, self._send)
        return await self._send(request)

    async def _send(self, request: Request) -> Answer | NoAnswer:
        outer = sys.exception()
        proxy = ""
        try:
            loop = asyncio.get_running_loop()
            current = self._loops.get().get(loop) or await self._add(loop)
            route = current.routes.find(request.url)
            proxy = route.proxy
            async with asyncio.timeout(request.seconds + _SLACK_SECONDS):
                return _answer(await route.pool.request(**_arguments(request)))
        except (*_FAILURES, TimeoutError) as error:
            return _no_answer(error, request, proxy)
        except BaseException as error:  # the app cancels the task, for example
            without_frames(error, outer)
            raise

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        current = self._loops.get().pop(asyncio.get_running_loop(), None)
        if current:
            await current.closer.aclose()
            # If the loop is shutting down, the closer has ended, and calls may have followed it.
            await _close(current.routes)

    async def _add(self, loop: asyncio.AbstractEventLoop) -> _Loop:
        """Prepare connections for the running loop. This never waits, so no other task runs."""
        loops = self._loops.get()
        for closed_loop in [other for other in list(loops) if other.is_closed()]:
            loops.pop(closed_loop, None)
        routes = _Routes(httpcore2.AsyncConnectionPool, self._backends.get(), self._profile)
        loops[loop] = _Loop(routes, _close_at_shutdown(routes))
        await anext(loops[loop].closer)
        return loops[loop]


async def _close_at_shutdown(routes: _AsyncRoutes) -> AsyncGenerator[None]:
    """Close the connections when the event loop shuts down, because a closed loop cannot do it.

    Before `asyncio.run` closes its loop, it calls `loop.shutdown_asyncgens()`, which closes all
    asynchronous generators that have started in the loop. There is no other hook.
    """
    process = os.getpid()
    try:
        yield
    finally:
        # In a fork of the process, this would shut down the connections of the parent.
        if os.getpid() == process:
            await _close(routes)


async def _close(routes: _AsyncRoutes) -> None:
    for pool in routes.pools:
        await pool.aclose()


# The current thread's request: its attribute `deadline` is the `Deadline` of the answer, `patience`
# that of the connection and of writing the request, and `hedge` its second send, or None.
_thread = threading.local()


class _DeadlineBackend(httpcore2.SyncBackend):
    """Applies the deadline to the whole request.

    httpcore2 applies a timeout to every single read, so a server that sends one byte at a time
    would never exceed it.
    """

    def __init__(self) -> None:
        self._names = Names()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Try the addresses of the host in turn. All get an equal share of the remaining time."""
        addresses = self._names.find(host, port)
        if isinstance(addresses, Future):
            wait([addresses], _left(_thread.patience, httpcore2.ConnectTimeout))
            addresses = result_of(addresses, host)
        for remaining in range(len(addresses), 0, -1):
            seconds = _left(_thread.patience, httpcore2.ConnectTimeout) / remaining
            try:
                return _DeadlineStream(
                    super().connect_tcp(
                        addresses[-remaining], port, seconds, None, socket_options or []
                    )
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if remaining == 1:
                    raise
        raise AssertionError("a name has at least one address")


class _NamesBackend(httpcore2.AnyIOBackend):
    """Looks names up beside the event loop, and not in the loop's pool of threads."""

    def __init__(self) -> None:
        self._names = Names()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Try the addresses of the host in turn. All get an equal share of the remaining time."""
        deadline = Deadline(timeout or 0.0)
        addresses = self._names.find(host, port)
        if isinstance(addresses, Future):
            await wait_async(addresses, deadline.left)
            addresses = result_of(addresses, host)
        for remaining in range(len(addresses), 0, -1):
            try:
                return await super().connect_tcp(
                    addresses[-remaining], port, deadline.left / remaining, None, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if remaining == 1:
                    raise
        raise AssertionError("a name has at least one address")


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
