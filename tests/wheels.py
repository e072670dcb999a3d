"""Tries an installed distribution: its public modules, a call, the command.

`make test-wheels` runs it in clean environments, with the lowest and the newest dependencies.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

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
    for name in ("errors", "models", "flask", "starlette", "django.middleware", "cli.commands"):
        importlib.import_module(f"serverless_sessions.{name}")
    importlib.import_module("serverless_sessions.console.app")
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
    command = str(Path(sys.executable).parent / "sessions")
    for arguments in (["--version"], ["--help"], ["--url", url, "show", SESSION_ID]):
        subprocess.run([command, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    server.shutdown()


if __name__ == "__main__":
    main()
