"""The web server of an attacker."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from local.stack import HOST


class Attacker:
    """A web server on this machine. `pages` are its pages by path.

    `visits` are the paths and headers of the requests that it has received. `same_site` and
    `other_site` are its URLs: one on the same site as the console, one on another site.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.visits: list[tuple[str, dict[str, str]]] = []
        attacker = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                attacker.visits.append((self.path, dict(self.headers.items())))
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(attacker.pages.get(self.path, "").encode())

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.same_site = f"http://{HOST}:{self.port}"
        self.other_site = f"http://attacker.example:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
