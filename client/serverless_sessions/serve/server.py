"""The web server of the embedded service, on 127.0.0.1 alone."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import parse_qs

from serverless_sessions._core import clock
from serverless_sessions.serve import gateway
from serverless_sessions.serve.control import PREFIX, Control
from serverless_sessions.serve.expressions import Unknown
from serverless_sessions.serve.gateway import ACCOUNT, MAX_BODY_BYTES, Reply, actor, message
from serverless_sessions.serve.service import REGION, Service
from serverless_sessions.serve.settings import Settings

HOST = "127.0.0.1"
_SETTLING_SECONDS = 0.25
_JSON = {"Content-Type": "application/x-amz-json-1.0"}
_IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
    "<GetCallerIdentityResult><Arn>{arn}</Arn><UserId>{user}</UserId><Account>{account}</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)


def environment_for(url: str) -> dict[str, str]:
    """Return the environment variables that an app, the command line and AWS's SDKs need."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "SESSIONS_URL": url,
    }


@contextmanager
def serving(settings: Settings, port: int) -> Iterator[str]:
    """Serve during the block, and provide the URL. Port 0 is any free port.

    Raises `OSError` if the port can't be used.
    """
    server = _Server((HOST, port), _Handler)
    server.service = Service(settings)
    server.control = Control(server.service)
    stopped = Event()
    threads = [
        Thread(target=server.serve_forever, args=(0.05,), daemon=True),
        Thread(target=_settle, args=(server.service, stopped), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()


def _settle(service: Service, stopped: Event) -> None:
    while not stopped.wait(_SETTLING_SECONDS):
        service.settle()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    service: Service
    control: Control


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def _answer(self) -> None:
        # Repeated headers are joined, as in an event of API Gateway.
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]},{value}" if key in headers else value
        reply = self._refusal(headers)
        if reply:
            self.close_connection = True
        else:
            body = self.rfile.read(int(headers.get("content-length") or 0))
            reply = self._reply(headers, body)
        if reply:
            self._send(reply)
        else:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer

    def _refusal(self, headers: Mapping[str, str]) -> Reply | None:
        """Return the answer to a request of a page in a browser, or to one that is too large.

        A page of any site can send requests to this port. With a host name of its own that
        resolves to this address, it could even send any header and read the answers.
        """
        port = self.server.server_port
        if headers.get("host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            return message(421, f"This service only answers at http://{HOST}:{port}.")
        if "origin" in headers:
            return message(403, "This service does not answer browsers.")
        if "transfer-encoding" in headers:
            return message(411, "Length Required")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return message(400, "Bad Request")
        if int(length) > MAX_BODY_BYTES:
            return message(413, "Request Entity Too Large")
        return None

    def _reply(self, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """Return the answer, or None if the connection is to be closed without one."""
        path = self.path.partition("?")[0]
        if path.startswith(PREFIX):
            return self.server.control.answer(self.command, path, headers, body)
        if self.command == "POST" and path == "/":
            return self._aws(headers, body)
        service, fault = self.server.service, self.server.control.next_fault()
        if fault.kind == "refused":
            return None
        invoke = service.refuse if fault.kind == "unavailable" else service.call
        reply = gateway.answer(invoke, self.command, self.path, headers, body)
        if fault.kind == "slow":
            clock.sleep(fault.seconds)
        return None if fault.kind == "lost" else reply

    def _aws(self, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """Answer the two requests to AWS that the client and the command line make."""
        if target := headers.get("x-amz-target"):
            if target != "DynamoDB_20120810.GetItem" or not actor(headers, "dynamodb"):
                return _dynamodb_error("AccessDeniedException", "only GetItem is allowed")
            try:
                status, answer = self.server.service.tables.answer("GetItem", body)
            except (Unknown, LookupError, TypeError, ValueError, AttributeError) as error:
                return _dynamodb_error("ValidationException", repr(error))
            return Reply(status, _JSON | {"x-amz-crc32": str(zlib.crc32(answer))}, answer)
        arn = actor(headers, "sts")
        if not arn or parse_qs(body.decode("latin-1")).get("Action") != ["GetCallerIdentity"]:
            return message(403, "Forbidden")
        user = arn.rpartition("/")[2]
        text = _IDENTITY.format(arn=arn, user=user, account=ACCOUNT)
        return Reply(200, {"Content-Type": "text/xml"}, text.encode())

    def _send(self, reply: Reply) -> None:
        headers = {"Date": formatdate(self.server.service.time(), usegmt=True), **reply.headers}
        if reply.status != 204:
            headers["Content-Length"] = str(len(reply.body))
        if self.close_connection:
            headers["Connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body = b"" if self.command == "HEAD" else reply.body
        # One write, so that the answer is one packet.
        head = f"HTTP/1.1 {reply.status} {self.responses[reply.status][0]}\r\n{lines}\r\n"
        self.wfile.write(head.encode("latin-1") + body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def _dynamodb_error(code: str, message: str) -> Reply:
    return Reply(400, _JSON, json.dumps({"__type": f"#{code}", "message": message}).encode())
