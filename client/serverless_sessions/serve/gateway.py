"""What API Gateway does for an HTTP API: routes, authorization, limits and events."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote
from uuid import uuid4

ACCOUNT = "000000000000"
ROUTES = (
    "POST /sessions",
    "GET /sessions",
    "DELETE /sessions",
    "POST /sessions/verify",
    "GET /sessions/{session_id}",
    "PATCH /sessions/{session_id}",
    "PUT /sessions/{session_id}",
    "DELETE /sessions/{session_id}",
    "POST /sessions/{session_id}/renew",
    "POST /sessions/{session_id}/rotate",
    "POST /sessions/{session_id}/authenticate",
    "GET /events",
)
# https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
MAX_BODY_BYTES = 10 * 1024 * 1024
_MAX_HEAD_BYTES = 10_240
_PATTERNS = [
    (route, re.compile(re.sub(r"{(\w+)}", "(?P<\\1>[^/]+)", route)))
    # Routes without a parameter come first.
    for route in sorted(ROUTES, key=lambda route: "{" in route)
]
_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([\w+=,.@-]+)/[0-9]{8}/[^/]+/([^/]+)/aws4_request, ?"
    r"SignedHeaders=[^,]+, ?Signature=[0-9a-f]{64}"
)


class Reply(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


def message(status: int, text: str) -> Reply:
    """Return an answer of API Gateway itself."""
    body = json.dumps({"message": text}).encode()
    return Reply(status, {"Content-Type": "application/json"}, body)


def actor(headers: Mapping[str, str], aws_service: str) -> str | None:
    """Return the ARN of the caller, or None if the request is not signed for this service of AWS.

    The signature is not checked. The access key is used as the name of an IAM user.
    """
    signature = _SIGNATURE.fullmatch(headers.get("authorization", ""))
    if not signature or signature[2] != aws_service:
        return None
    return f"arn:aws:iam::{ACCOUNT}:user/{signature[1]}"


def answer(
    invoke: Callable[[dict[str, Any]], dict[str, Any]],
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
) -> Reply:
    """Return the answer to a request. `invoke` is the function behind all routes.

    `target` is the path with the query, as sent. The names in `headers` are in lower case.
    """
    head = len(method) + len(target) + sum(len(name) + len(headers[name]) for name in headers)
    if head > _MAX_HEAD_BYTES:
        return message(431, "Request Header Fields Too Large")
    raw_path, _, query = target.partition("?")
    path = unquote(raw_path)
    route, parameters = find_route(method, path)
    if route is None:
        return message(404, "Not Found")
    caller = actor(headers, "execute-api")
    if caller is None:
        return message(403, "Forbidden")
    request_id = str(uuid4())
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT,
            "authorizer": {"iam": {"accountId": ACCOUNT, "userArn": caller}},
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1"},
            "requestId": request_id,
            "routeKey": route,
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }
    if parameters:
        event["pathParameters"] = parameters
    if body:
        event |= _body(body)
    result = invoke(event)
    return Reply(
        result["statusCode"],
        result["headers"] | {"Apigw-Requestid": request_id},
        result["body"].encode(),
    )


def find_route(method: str, path: str) -> tuple[str | None, dict[str, str]]:
    """Return the route of a request and its path parameters. The path is decoded."""
    # API Gateway treats several leading slashes as one when it selects the route.
    for route, pattern in _PATTERNS:
        if match := pattern.fullmatch(f"{method} /{path.lstrip('/')}"):
            return route, match.groupdict()
    return None, {}


def _body(body: bytes) -> dict[str, Any]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body": b64encode(body).decode(), "isBase64Encoded": True}
