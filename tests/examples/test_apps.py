"""The example apps, as their users see them in browsers with separate cookie jars."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx2
import pytest

from local.stack import HOST
from tests.support import service as faults
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.template import ROOT


@pytest.fixture(params=["django", "flask", "fastapi"])
def url(request: pytest.FixtureRequest, service: Service) -> Iterator[str]:
    """The URL of a framework's example app, which is started as its docstring says."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, ROOT / f"examples/{request.param}_app/app.py"],
        env=os.environ
        | {
            "SESSIONS_URL": service.url,
            "AWS_REGION": service.region,
            "WEB_PORT": str(port),
            "PYTHONPATH": str(ROOT / "client"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _await_start(process, port)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.communicate()


def _await_start(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Browser:
    """A browser with its own cookie jar. `status` and `text` are those of the current page."""

    def __init__(self, url: str, name: str) -> None:
        self._http = httpx2.Client(
            base_url=url, headers={"User-Agent": name}, follow_redirects=True, timeout=60
        )
        self.status = 0
        self.text = ""
        self.look()

    def look(self) -> Browser:
        return self._show(self._http.get("/"))

    def look_at_devices(self) -> Browser:
        return self._show(self._http.get("/account/devices/"))

    def press(self, path: str, **form: str) -> Browser:
        """Send the page's form, with Django's CSRF token if the page has one."""
        csrf_token = re.search('name="csrfmiddlewaretoken" value="(.*?)"', self.text)
        form |= {"csrfmiddlewaretoken": csrf_token[1]} if csrf_token else {}
        headers = {"Origin": str(self._http.base_url).rstrip("/")}
        return self._show(self._http.post(path, data=form, headers=headers))

    def _show(self, answer: httpx2.Response) -> Browser:
        self.status, self.text = answer.status_code, answer.text
        return self

    @property
    def facts(self) -> tuple[str, int] | None:
        """The user and the count, or None if nobody is signed in."""
        match = re.search(r"Signed in: (\w+)\. Counted: (\d+)\.", self.text)
        return (match[1], int(match[2])) if match else None

    @property
    def others(self) -> dict[str, str]:
        """The user's other browsers by the ids of their sessions."""
        button = r'<button name="sign_out" value="(\S{12})" aria-label="Sign out: (.*?),'
        return dict(re.findall(button, self.text))

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def browsers(url: str) -> Iterator[list[Browser]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Browser(url, name))) for name in ("A", "B", "C")]


def test_support_agent_looks_as_a_user(browsers: list[Browser]) -> None:
    ada, grace, _ = browsers
    ada.press("/log-in", user="ada").press("/count")
    assert ada.press("/impersonate", customer="grace").status == 403
    ada.look()
    grace.press("/log-in", user="grace").press("/count").press("/count")
    assert "acting as" not in grace.text

    assert grace.press("/impersonate", customer="ada").facts == ("ada", 0)
    assert "You are acting as ada" in grace.text
    assert "acting as" not in ada.look().text
    assert grace.press("/stop-impersonating").facts == ("grace", 2)
    assert "acting as" not in grace.text

    assert grace.press("/impersonate", customer="ada").press("/log-out").facts is None
    assert grace.press("/stop-impersonating").facts is None
    assert ada.look().facts == ("ada", 1)


def test_example_does_what_it_shows(browsers: list[Browser], service: Service) -> None:
    laptop, phone, stranger = browsers
    assert {browser.facts for browser in browsers} == {None}
    assert service.items() == []

    laptop.press("/log-in", user="ada")
    phone.press("/log-in", user="ada")
    stranger.press("/log-in", user="eve")
    assert laptop.press("/count").press("/count").facts == ("ada", 2)
    assert phone.look().facts == ("ada", 0)
    assert stranger.look_at_devices().others == {}
    [(session_id, name)] = laptop.look_at_devices().others.items()
    assert name == "Unknown device: “B”"

    assert stranger.press("/account/devices/", sign_out=session_id).status == 404
    assert phone.look().facts == ("ada", 0)
    assert laptop.press("/account/devices/", sign_out=session_id).others == {}
    assert phone.look().facts is None
    assert laptop.look().facts == ("ada", 2)

    service.plan(always=faults.unavailable)
    assert laptop.look().status == 503
    service.plan()
    assert laptop.look().facts == ("ada", 2)

    phone.press("/log-in", user="ada")
    assert phone.press("/log-out").facts is None
    phone.press("/log-in", user="ada")
    laptop.press("/sign-out-everywhere")
    assert laptop.look().facts is phone.look().facts is None
    assert stranger.look().facts == ("eve", 0)
