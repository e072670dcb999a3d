"""The service on a real socket: the real handler on DynamoDB Local, with simulated network faults.

The server also does the work of a function URL. Unlike the embedded service, it checks the
signatures.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.stack import HOST
from serverless_sessions.serve.gateway import Reply, actor, answer, message
from tests.support.functions import lambda_context
from tests.support.gateway import api_event, by_function_url

REGION = "us-east-1"
# The path at which the local stack has a function URL.
_FUNCTION_URL = "/_aws/lambda-url/abcdef"


class Call:
    """One received request. `forward` sends it to the service."""

    def __init__(self, service: Service, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self._service = service
        self.http = handler
        self.body = body
        self.method = handler.command
        self.path = urlsplit(handler.path).path
        self.query = urlsplit(handler.path).query

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def forward(self) -> Reply:
        return self._service.carry_out(self)

    def send(self, reply: Reply) -> None:
        self.http.wfile.write(_spelled(reply))

    def hang_up(self) -> None:
        self.http.close_connection = True


Fault = Callable[[Call], None]


class Service:
    """The service. Create `Sessions` with `url` and `credentials`, and `DirectReader` with `table`.

    `calls` are the received calls, for example "POST /sessions/verify". `plan` sets faults for the
    next calls.
    """

    region = REGION

    def __init__(self, handler: ModuleType, tables: Any, dynamodb: str) -> None:
        self.credentials = Credentials("testing", "testing")
        self.dynamodb = dynamodb
        self.table: str = tables.sessions
        self.audit_table: str = tables.audit
        self.sdk = tables.client
        self.handler = handler
        self.calls: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self._faults: list[Fault] = []
        self._always: Fault | None = None
        # Lambda gives each environment one event at a time, and Powertools relies on this.
        self._one_at_a_time = threading.Lock()
        self._stopped = False
        self._open: set[socket.socket] = set()
        self._server = self._listen(0)
        self.url = f"http://{HOST}:{self._server.server_port}"
        self.function_url = f"{self.url}{_FUNCTION_URL}/"

    def plan(self, *faults: Fault, always: Fault | None = None) -> None:
        """Set a fault for each of the next calls, and one for all calls after them."""
        self._faults[:] = faults
        self._always = always
        self.calls.clear()
        self.bodies.clear()

    def restart(self) -> None:
        """Break all connections. New connections are accepted again."""
        self.stop()
        self.start()

    def start(self) -> None:
        """Accept connections again after `stop`."""
        self._stopped = False
        self._server = self._listen(self._server.server_port)

    def stop(self) -> None:
        """Accept no more connections."""
        with self._one_at_a_time:
            self._stopped = True
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def items(self) -> list[dict[str, Any]]:
        """Return all items of the `Sessions` table."""
        items: list[dict[str, Any]] = self.sdk.scan(TableName=self.table)["Items"]
        return items

    def carry_out(self, call: Call) -> Reply:
        """Return the answer of API Gateway, or of the function URL, and the function."""
        headers = {name.lower(): value for name, value in call.http.headers.items()}
        if call.path.startswith(_FUNCTION_URL):
            return self._answer_of_function_url(call, headers)
        # Only this server checks the signature.
        if headers.get("authorization") and not self._is_signed(call, "execute-api"):
            return message(403, "Forbidden")
        return answer(self._invoke, call.method, call.http.path, headers, call.body)

    def _answer_of_function_url(self, call: Call, headers: dict[str, str]) -> Reply:
        if not self._is_signed(call, "lambda"):
            return Reply(403, {"Content-Type": "application/json"}, b'{"Message":"Forbidden"}')
        event = api_event(call.method, unquote(call.path.removeprefix(_FUNCTION_URL)))
        by_function_url(event)
        event["requestContext"]["authorizer"]["iam"]["userArn"] = actor(headers, "lambda")
        event["requestContext"]["requestId"] = str(uuid4())
        event |= {"rawQueryString": call.query, "headers": headers}
        if call.body:
            event["body"] = call.body.decode()
        result = self._invoke(event)
        return Reply(result["statusCode"], result["headers"], result["body"].encode())

    def _invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        with self._one_at_a_time:
            if self._stopped:
                raise ConnectionAbortedError
            response: dict[str, Any] = self.handler.lambda_handler(event, lambda_context())
        return response

    def _is_signed(self, call: Call, aws_service: str) -> bool:
        sent = call.http.headers
        match = re.fullmatch(
            rf"AWS4-HMAC-SHA256 Credential=testing/\d+/([^/]+)/{aws_service}/aws4_request, "
            r"SignedHeaders=([^,]+), Signature=(\w+)",
            sent.get("Authorization", ""),
        )
        if not match:
            return False
        headers = {name: sent[name] for name in match[2].split(";")}
        request = AWSRequest(call.method, f"{self.url}{call.http.path}", headers, call.body)
        request.context["timestamp"] = sent["X-Amz-Date"]
        auth = SigV4Auth(self.credentials, aws_service, match[1])
        signed = auth.string_to_sign(request, auth.canonical_request(request))
        return bool(auth.signature(signed, request) == match[3])

    def _answer(self, http: BaseHTTPRequestHandler) -> None:
        body = http.rfile.read(int(http.headers.get("Content-Length") or 0))
        call = Call(self, http, body)
        self.calls.append(f"{call.method} {http.path}")
        self.bodies.append(body)
        fault = self._faults.pop(0) if self._faults else self._always
        if fault:
            fault(call)
        else:
            call.send(call.forward())

    def _listen(self, port: int) -> ThreadingHTTPServer:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                service.connections += 1
                service._open.add(self.connection)

            def finish(self) -> None:
                service._open.discard(self.connection)
                super().finish()

            def handle(self) -> None:
                with suppress(OSError):
                    super().handle()

            def answer(self) -> None:
                service._answer(self)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing, because tests read `calls`."""

        server = ThreadingHTTPServer((HOST, port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


def _spelled(reply: Reply) -> bytes:
    length = {} if reply.status == 204 else {"Content-Length": str(len(reply.body))}
    fields = "".join(f"{name}: {value}\r\n" for name, value in (reply.headers | length).items())
    return f"HTTP/1.1 {reply.status} Status\r\n{fields}\r\n".encode() + reply.body


def gateway(status: int, message: str | None, **headers: str) -> Fault:
    """Return a fault that sends an answer of API Gateway itself, without calling the function."""
    body = json.dumps({"message": message}).encode()
    return lambda call: call.send(
        Reply(status, {"Content-Type": "application/json"} | headers, body)
    )


throttled = gateway(429, "Too Many Requests")


def unavailable(call: Call) -> None:
    """Send the service's own 503 without executing the call."""
    problem = {"status": 503, "code": "unavailable", "detail": "later", "instance": "request-503"}
    headers = {"Content-Type": "application/problem+json", "Retry-After": "0"}
    call.send(Reply(503, headers, json.dumps(problem).encode()))


def frozen(call: Call) -> None:
    """Send no answer until the client has given up."""
    with suppress(OSError):
        while call.http.connection.recv(1):
            pass
    call.hang_up()


def lose_answer(call: Call) -> None:
    """Execute the call, and break the connection instead of answering."""
    call.forward()
    reset(call)


def answer_503(call: Call) -> None:
    """Execute the call, and answer 503."""
    call.forward()
    unavailable(call)


def reset(call: Call) -> None:
    """Reset the connection without executing the call."""
    linger = struct.pack("ii", 1, 0)
    call.http.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    call.hang_up()


def drip(call: Call) -> None:
    """Send single bytes of an answer, for longer than any client waits."""
    for byte in _spelled(Reply(200, {"X-Long": "." * 100_000}, b"{}")):
        call.http.wfile.write(bytes([byte]))
        time.sleep(0.05)


def cut(call: Call) -> None:
    """Execute the call, and send an answer that ends in the middle."""
    call.http.wfile.write(_spelled(call.forward())[:-5])
    call.hang_up()
