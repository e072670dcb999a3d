"""A proxy in front of DynamoDB. It counts requests and the units that DynamoDB bills for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

from local.stack import HOST

_READS = {"GetItem", "BatchGetItem", "Query", "Scan"}
_WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"}
_REQUEST_HEADERS = {"authorization", "content-type", "x-amz-date", "x-amz-target"}
_RESPONSE_HEADERS = {"content-type", "x-amz-crc32", "x-amzn-requestid"}
_MAX_PAUSE_SECONDS = 20


class Cost(NamedTuple):
    """The number of requests, and the units that are billed for them, including indexes."""

    requests: int
    reads: float
    writes: float


class CountingProxy:
    """A running proxy. Stores use its `url` instead of DynamoDB's."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._costs: list[Cost] = []
        self._pause: _Pause | None = None

    def take(self) -> Cost:
        """Return the sum of the costs since the last call."""
        costs, self._costs = self._costs, []
        requests, reads, writes = zip(*costs, strict=True) if costs else ((), (), ())
        return Cost(sum(requests), sum(reads), sum(writes))

    @contextmanager
    def paused_write(self) -> Iterator[threading.Event]:
        """Pause the next write until the block ends.

        Yields an event that is set when the write arrives.
        """
        self._pause = pause = _Pause(threading.Event(), threading.Event())
        try:
            yield pause.begun
        finally:
            self._pause = None
            pause.over.set()

    def wait(self, operation: str) -> None:
        if operation in _WRITES and self._pause:
            pause, self._pause = self._pause, None
            pause.begun.set()
            pause.over.wait(_MAX_PAUSE_SECONDS)

    def count(self, operation: str, answer: bytes) -> None:
        """Add the capacity in DynamoDB's answer. A refused request has none."""
        consumed = json.loads(answer).get("ConsumedCapacity", [])
        consumed = consumed if isinstance(consumed, list) else [consumed]
        units = sum(capacity["CapacityUnits"] for capacity in consumed)
        is_write = operation in _WRITES
        self._costs.append(Cost(1, 0 if is_write else units, units if is_write else 0))


class _Pause(NamedTuple):
    begun: threading.Event
    over: threading.Event


@contextmanager
def counting_proxy(endpoint: str) -> Iterator[CountingProxy]:
    """Start a proxy in front of `endpoint`, and stop it afterwards."""
    target = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # one packet for headers and body

        def do_POST(self) -> None:  # noqa: N802
            operation = self.headers["x-amz-target"].rpartition(".")[2]
            body = self.rfile.read(int(self.headers["content-length"]))
            if operation in _READS | _WRITES:
                # Most stores don't ask for the capacity. This change makes the signature wrong,
                # but DynamoDB Local ignores it.
                body = json.dumps(json.loads(body) | {"ReturnConsumedCapacity": "TOTAL"}).encode()
            proxy.wait(operation)
            headers = {n: v for n, v in self.headers.items() if n.lower() in _REQUEST_HEADERS}
            # Each request has its own connection, because an idle one would be closed.
            with closing(HTTPConnection(target)) as onward:
                onward.request("POST", "/", body, headers)
                response = onward.getresponse()
                answer = response.read()
            proxy.count(operation, answer)
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() in _RESPONSE_HEADERS:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.daemon_threads = True
        proxy = CountingProxy(f"http://{HOST}:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            server.shutdown()
