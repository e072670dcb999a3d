"""An HTTP server in place of DynamoDB, with fixed answers to every operation.

It does as little as possible, so that it does not affect the measurements. Its argument is the
time that DynamoDB takes for an answer, in milliseconds. `POST /` is DynamoDB's
protocol, `PUT /` sets the answers by operation, and `GET /` returns the requests since then. An
operation with a list of answers gets them in turn, and then from the first one on again.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import zlib
from collections.abc import Iterator
from itertools import cycle

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_TARGET = re.compile(rb"(?i)\r\nx-amz-target: *DynamoDB_20120810\.(\w+)")

seconds = int(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0
answers: dict[str, Iterator[bytes]] = {}
requests: list[tuple[str, str]] = []


class Connection(asyncio.Protocol):
    """A connection. The client closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if end and len(rest) >= size:
            self._received = rest[size:]
            answer = _answer(head, rest[:size])
            if seconds and head.startswith(b"POST"):
                self._loop.call_later(seconds, self._transport.write, answer)
            else:
                self._transport.write(answer)


def _answer(head: bytes, body: bytes) -> bytes:
    if head.startswith(b"POST"):
        target = _TARGET.search(head)
        operation = target[1].decode() if target else ""
        if len(requests) < 100:
            requests.append((operation, body.decode()))
        return next(answers[operation])
    if head.startswith(b"PUT"):
        requests.clear()
        answers.clear()
        for operation, answer in json.loads(body).items():
            in_turn = answer if isinstance(answer, list) else [answer]
            answers[operation] = cycle(
                [_http(json.dumps(one, separators=(",", ":")).encode()) for one in in_turn]
            )
        return _http(b"{}")
    return _http(json.dumps(requests).encode())


def _http(body: bytes) -> bytes:
    """Return an answer with the headers that DynamoDB sends."""
    head = (
        "HTTP/1.1 200 OK\r\n"
        "Server: Server\r\n"
        "Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n"
        "Content-Type: application/x-amz-json-1.0\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: keep-alive\r\n"
        f"x-amzn-RequestId: {'0123456789' * 5}VV\r\n"
        f"x-amz-crc32: {zlib.crc32(body)}\r\n\r\n"
    )
    return head.encode() + body


async def serve() -> None:
    """Serve forever at a free port, which is printed first."""
    server = await asyncio.get_running_loop().create_server(Connection, HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
