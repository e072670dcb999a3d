"""Sends web requests to a WSGI application, like one user's browser."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO, StringIO
from typing import Any

from bench.stores.serve import serve


def serve_applications(with_sessions: Any, without_sessions: Any) -> None:
    """Send requests to the first application, and `plain` ones to the second.

    The argument of a request is its cookie. The answer has the body, and the cookie for the next
    request.
    """

    def operation(name: str, cookie: str) -> dict[str, str]:
        application = without_sessions if name == "plain" else with_sessions
        return _request(application, f"/{name}", cookie)

    serve(operation)


def _request(application: Callable[..., Any], path: str, cookie: str) -> dict[str, str]:
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "HTTP_COOKIE": cookie,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": BytesIO(),
        "wsgi.errors": StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    responses = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
        responses.append((status, headers))

    body = b"".join(application(environ, start_response)).decode()
    [(status, headers)] = responses
    if not status.startswith("200"):
        raise RuntimeError(f"{path} answered {status}: {body}")
    for name, value in headers:
        if name.lower() == "set-cookie":
            cookie = value.partition(";")[0]
    return {"body": body, "cookie": cookie}
