"""An example app in its own process, and a person who uses it in a browser."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

from local.stack import HOST, ROOT
from tests.support.ports import free_port

POLL_MS = 300

_PRESS = """([label, gap]) => {
  const button = [...document.querySelectorAll("button")].find((b) => b.textContent === label);
  window.isOldPage = true;
  button.click();
  if (gap !== null) setTimeout(() => button.click(), gap);
}"""
_ADD_BUTTON = """([label, path]) => {
  const button = Object.assign(document.createElement("button"), { textContent: label });
  button.formAction = path;
  document.querySelector("form").append(button);
}"""
_POLL = """([path, milliseconds]) => {
  window.pending = new Set();
  setInterval(() => {
    if (window.isPaused) return;
    const poll = fetch(path, { cache: "no-store" }).then((answer) => answer.text(), () => null);
    window.pending.add(poll);
    poll.then(() => window.pending.delete(poll));
  }, milliseconds);
}"""
_SETTLE = """(isPaused) => {
  window.isPaused = isPaused;
  return Promise.all([...window.pending]).then(() => null);
}"""
_WHO = "(path) => fetch(path, { cache: 'no-store' }).then((answer) => answer.json())"


class ExampleApp:
    """An app that runs at `origin`. Its log has a line for every request."""

    def __init__(self, name: str, port: int, log: Path) -> None:
        self.name = name
        # Chromium accepts `Secure` cookies over HTTP only from this host name.
        self.origin = f"http://localhost:{port}"
        self._log = log

    @property
    def failures(self) -> list[str]:
        """The log lines of responses with a status of 500 or more."""
        return re.findall(r'.*HTTP/1\.\d[^"]*" 5\d\d.*', self._log.read_text())


@contextmanager
def serving(
    name: str, environment: Mapping[str, str], log: Path, *, visitors: bool
) -> Iterator[ExampleApp]:
    """Run the example app of a framework.

    With `visitors`, people who are not logged in have sessions too.
    """
    port = free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", f"tests.browser.apps.{name}_app"],
            cwd=ROOT,
            env={
                **os.environ,
                **environment,
                "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
                "WEB_PORT": str(port),
                "VISITORS": "yes" if visitors else "",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _await_start(process, port, log)
        yield ExampleApp(name, port, log)
    finally:
        process.terminate()
        process.wait()


def _await_start(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


class Person:
    """A person with a browser: one tab in which they act, and further tabs that poll."""

    def __init__(self, browser: Browser, app: ExampleApp) -> None:
        self._context: BrowserContext = browser.new_context(base_url=app.origin)
        self._context.set_default_timeout(60_000)
        self._polls: list[Page] = []
        # The number of forms that were sent from the first tab.
        self.sent = 0
        self.page: Page = self._context.new_page()
        self.page.on("request", self._count)

    def close(self) -> None:
        self._context.close()

    def look(self, url: str = "/") -> None:
        self.page.goto(url)

    def poll(self, origin: str, path: str) -> None:
        """Open another tab, which requests `path` every `POLL_MS`."""
        tab = self._context.new_page()
        tab.goto(f"{origin}/who")
        tab.evaluate(_POLL, [path, POLL_MS])
        self._polls.append(tab)

    def press(self, label: str, *, again_after_ms: int | None = None) -> None:
        """Press the button once or twice, and wait for the next page.

        If the answer to the first press has not arrived when the button is pressed again, the
        browser drops this answer. The page's own timer makes the second press, so that it cannot
        press a button of the next page.
        """
        self.page.evaluate(_PRESS, [label, again_after_ms])
        self.page.wait_for_function("!window.isOldPage && document.readyState === 'complete'")

    def log_in(self, user: str, *, again_after_ms: int | None = None) -> None:
        """Log in. The current page must be the one with the form."""
        self.page.fill("[name=user]", user)
        self.press("Log in", again_after_ms=again_after_ms)

    def regenerate(self, *, again_after_ms: int | None = None) -> None:
        self.page.evaluate(_ADD_BUTTON, ["Regenerate", "/regenerate"])
        self.press("Regenerate", again_after_ms=again_after_ms)

    @property
    def user(self) -> str | None:
        """The user who is signed in. This first waits for the answers to all polls in progress."""
        self._settle()
        user: str | None = self.page.evaluate(_WHO, "/who")["user"]
        return user

    @property
    def text(self) -> str:
        """The visible text of the page, in one line."""
        return " ".join(self.page.inner_text("body").split())

    @property
    def jar(self) -> list[dict[str, Any]]:
        """The cookies of this browser. The polls pause while the cookies are replaced."""
        return list(self._context.cookies())

    @jar.setter
    def jar(self, cookies: list[dict[str, Any]]) -> None:
        self._settle(pause=True)
        self._context.clear_cookies()
        self._context.add_cookies(cookies)
        self._settle()

    @property
    def token(self) -> str | None:
        """The value of the user's cookie."""
        values = {cookie["name"]: cookie["value"] for cookie in self.jar}
        return values.get("__Host-session")

    def _settle(self, *, pause: bool = False) -> None:
        for tab in self._polls:
            tab.evaluate(_SETTLE, pause)

    def _count(self, request: Any) -> None:
        self.sent += request.method == "POST"
