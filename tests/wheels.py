"""Tries an installed distribution: its public modules, a call, the commands, the services.

`make test-wheels` runs it in clean environments, with the lowest and the newest dependencies.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

SESSION_ID = "n2qXk8bVQ0mF"
SESSION = {
    "session_id": SESSION_ID,
    "user_id": "ada",
    "created_at": 1,
    "renewed_at": 1,
    "expires_at": 2,
    "absolute_expires_at": 3,
    "ttl_seconds": 1,
    "version": 1,
    "data": {},
    "client": {},
    "last_client": {},
}


class Service(BaseHTTPRequestHandler):
    """Answers every request with one session."""

    def do_GET(self) -> None:
        body = json.dumps(SESSION).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def main() -> None:
    for name in (
        *("errors", "models", "flask", "starlette", "django.middleware", "cli.commands"),
        *("flask_devices", "starlette_devices", "testing"),
    ):
        importlib.import_module(f"serverless_sessions.{name}")
    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
    }

    from serverless_sessions import Sessions

    with Sessions(url) as sessions:
        assert sessions.get(SESSION_ID).user_id == "ada"
    try_commands(url)
    try_console(url)
    server.shutdown()
    try_embedded_service()


def try_commands(url: str) -> None:
    """All commands exist. One prints text and JSON, and fails with an exit code and an error."""
    from serverless_sessions.cli.commands import main as group

    show = "--url", url, "show", SESSION_ID
    assert len(group.commands) == 11
    for name in group.commands:
        run([name, "--help"])
    run(["--version"])
    run(["--help"])
    assert f"session_id\t{SESSION_ID}\n" in run([*show])
    assert json.loads(run(["--json", *show]))["session_id"] == SESSION_ID
    assert json.loads(run(["--json", "show", "token.secret"], code=2, stream="stderr"))
    assert "complete" in run([], _SESSIONS_COMPLETE="bash_source")


def try_console(url: str) -> None:
    """It serves a page, and ends at Ctrl-C."""
    code = (
        "import signal\n"
        "from serverless_sessions import AsyncSessions\n"
        "from serverless_sessions.console.server import listen, serve\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"serve(listen(), AsyncSessions({url!r}), service='s', operator='olga', browse=False)"
    )
    console = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert console.stdout
    try:
        entry = console.stdout.readline().split()[-1]
        browser = build_opener(HTTPCookieProcessor())
        with browser.open(entry, timeout=60) as page:
            assert b"olga" in page.read()
    finally:
        console.send_signal(signal.SIGINT)
        console.communicate(timeout=60)
    assert console.returncode == 0


def try_embedded_service() -> None:
    """It runs the functions of the wheel, which an app can't import by accident."""
    for name in ("sessions", "session_api", "dynamodb", "clock", "boto3"):
        assert find_spec(name) is None, name
    command = [sys.executable, "-m", "serverless_sessions.serve"]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        service = json.loads(process.stdout.readline())

        from serverless_sessions import Sessions

        with Sessions(service["url"], region=service["region"]) as sessions:
            issued = sessions.create("ada")
            assert sessions.verify(issued.token) == issued.session
            assert [session.user_id for session in sessions.list("ada")] == ["ada"]
        process.stdin.close()
        assert process.wait(60) == 0


def run(arguments: list[str], code: int = 0, stream: str = "stdout", **environment: str) -> str:
    command = str(Path(sys.executable).parent / "sessions")
    done = subprocess.run(  # noqa: S603
        [command, *arguments], env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    output: str = getattr(done, stream)
    return output


if __name__ == "__main__":
    main()
