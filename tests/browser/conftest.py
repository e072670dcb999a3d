"""Chromium, the console as its command starts it, and the deployed local stack."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from local.stack import REGION, LocalStack
from serverless_sessions import Sessions
from tests.browser.attacker import Attacker
from tests.browser.visits import command, let_in
from tests.support.console import Console, running_console

_ARGUMENTS = (
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # The attacker's host name resolves to this machine.
    "--host-resolver-rules=MAP attacker.example 127.0.0.1",
)


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
    """The environment of an operator who is only allowed to call the API."""
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
    """The client of an app that signs users in."""
    keys = stack.credentials("app", "execute-api:Invoke")
    with Sessions(stack.url, region=REGION, credentials=keys) as sessions:
        yield sessions


@pytest.fixture
def look(chromium: Browser, console: Console) -> Iterator[Callable[..., Page]]:
    """Open the console in a new browser context with the given options, and return the page.

    `page.errors` are the errors of its scripts and the violations of its content security policy.
    """
    contexts = []

    def look(**options: Any) -> Page:
        context = chromium.new_context(base_url=console.origin, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        # Chromium logs a violation of the content security policy as an error.
        errors: list[str] = []

        def record(message: Any) -> None:
            if message.type == "error":
                errors.append(message.text)

        page.on("console", record)
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


@pytest.fixture(scope="session")
def attacker() -> Iterator[Attacker]:
    attacker = Attacker()
    yield attacker
    attacker.server.shutdown()
    attacker.server.server_close()
