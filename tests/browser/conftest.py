"""Chromium, the console as its command starts it, and the deployed local stack behind it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from local.stack import HOST, REGION, ROOT, LocalStack
from serverless_sessions import Sessions
from tests.console.process import Console, running_console
from tests.e2e.conftest import stack as stack

_ARGUMENTS = (
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # A name of the attacker's that leads to this machine.
    "--host-resolver-rules=MAP attacker.example 127.0.0.1",
)
AXE = (ROOT / "node_modules/axe-core/axe.min.js").read_text()


def let_in(console: Console, page: Page) -> None:
    page.goto(console.key_url)
    console.entered()


def command(stack: LocalStack) -> str:
    """What starts the console as `sessions console` does."""
    arguments = ["--url", stack.url, "console", "--no-browser"]
    return f"from serverless_sessions.cli.commands import main; main({arguments!r})"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=_ARGUMENTS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def environment(stack: LocalStack) -> dict[str, str]:
    """An operator's, who may call the API and nothing else."""
    keys = stack.credentials("olga", "execute-api:Invoke")
    return {
        "AWS_ENDPOINT_URL": stack.endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
    }


@pytest.fixture(scope="session")
def console(stack: LocalStack, environment: dict[str, str]) -> Iterator[Console]:
    with running_console(command(stack), environment) as console:
        yield console


@pytest.fixture(scope="session")
def sessions(stack: LocalStack) -> Iterator[Sessions]:
    """The app that signs users in."""
    keys = stack.credentials("app", "execute-api:Invoke")
    with Sessions(stack.url, region=REGION, credentials=keys) as sessions:
        yield sessions


@pytest.fixture
def look(chromium: Browser, console: Console) -> Iterator[Callable[..., Page]]:
    """A page in a browser of its own that the console has let in, with the given options."""
    contexts = []

    def look(**options: Any) -> Page:
        context = chromium.new_context(base_url=console.origin, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        # Whatever the content security policy stops is told as an error.
        errors: list[str] = []

        def tell(message: Any) -> None:
            if message.type == "error":
                errors.append(message.text)

        page.on("console", tell)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.errors = errors
        let_in(console, page)
        return page

    yield look
    for context in contexts:
        context.close()


@pytest.fixture
def page(look: Callable[..., Page]) -> Page:
    return look()


class Attacker:
    """Another web server of this machine, and what its visitors send; `pages` by their path."""

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
                """Tests read `visits`."""

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.same_site = f"http://{HOST}:{self.port}"
        self.other_site = f"http://attacker.example:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture(scope="session")
def attacker() -> Iterator[Attacker]:
    attacker = Attacker()
    yield attacker
    attacker.server.shutdown()
    attacker.server.server_close()
