"""Starting and opening the console."""

from __future__ import annotations

from playwright.sync_api import Page

from local.stack import LocalStack
from tests.support.console import Console


def let_in(console: Console, page: Page) -> None:
    page.goto(console.key_url)
    console.entered()


def command(stack: LocalStack) -> str:
    """Return code that starts the console as `sessions console` does."""
    arguments = ["--url", stack.url, "console", "--no-browser"]
    return f"from serverless_sessions.cli.commands import main; main({arguments!r})"
