"""Checks the guide's table of requests, row by row, with every framework."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from django.test import override_settings

from tests.client.sites import FRAMEWORKS, Browser, DjangoBrowser, FlaskBrowser
from tests.support.django_users import BACKEND, Backend
from tests.support.service import Service
from tests.support.template import ROOT

_CALLS = {
    "POST /sessions/verify": "verify",
    "POST /sessions": "create",
    "PATCH /sessions/{id}": "change",
    "DELETE /sessions/{id}": "revoke",
    "POST /sessions/{id}/renew": "renew",
    "POST /sessions/{id}/rotate": "rotate",
    "POST /sessions/{id}/authenticate": "authenticate",
}


class Row(NamedTuple):
    """A row of the guide's table."""

    request: str
    frameworks: str
    calls: list[str]
    token: str
    cookie: str


def _rows() -> list[Row]:
    page = (ROOT / "docs/integrating/requests.md").read_text()
    section = page.partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return [
        Row(request, where, re.findall("`(.*?)`", calls), token, cookie)
        for request, where, calls, token, cookie in cells[2:]
    ]


def _once(name: str) -> Callable[[Browser], None]:
    return lambda browser: browser.do(name)


def _saving_every_request(browser: Browser) -> None:
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        browser.do("read")


def _force_login(browser: Browser) -> None:
    assert isinstance(browser, DjangoBrowser)
    browser.client.force_login(Backend().get_user(1), BACKEND)
    browser.set_cookies = [browser.client.cookies[browser.cookie].OutputString()]


def _session_transaction(browser: Browser) -> None:
    assert isinstance(browser, FlaskBrowser)
    with browser.client.session_transaction() as session:
        session["a"] = 1
    browser.set_cookies = [str(browser.client.get_cookie("__Host-visitor"))]


# The earlier actions and the action of the request, by the first cell of the row.
_REQUESTS: dict[str, tuple[list[str], Callable[[Browser], None]]] = {
    "does not touch the session": (["log-in 1"], _once("nothing")),
    "reads": (["log-in 1"], _once("read")),
    "reads, and is passive": (["log-in 1"], _once("passive read")),
    "writes": (["log-in 1"], _once("write")),
    "writes the first value of a visitor": ([], _once("write")),
    "logs in": ([], _once("log-in 1")),
    "logs in, as a visitor with a session": (["write"], _once("log-in 1")),
    "logs in as another user": (["log-in 1"], _once("log-in 2")),
    "logs out": (["log-in 1"], _once("log-out")),
    "calls `authenticate()`": (["log-in 1"], _once("authenticate otp")),
    "calls `impersonate()`": (["log-in 7"], _once("impersonate 1 7")),
    "reads, in an impersonated session": (["log-in 7", "impersonate 1 7"], _once("read")),
    "calls `stop_impersonating()`": (["log-in 7", "impersonate 1 7"], _once("stop")),
    "logs out, in an impersonated session": (["log-in 7", "impersonate 1 7"], _once("log-out")),
    "calls `cycle_key()` for a visitor": (["write"], _once("cycle")),
    "calls `flush()`": (["log-in 1"], _once("flush")),
    "calls `flush()` for a visitor": (["write"], _once("flush")),
    "calls `clear()`": (["log-in 1"], _once("clear")),
    "calls `clear()` for a visitor": (["write"], _once("clear")),
    "calls `set_expiry(600)`": (["log-in 1"], _once("expire 600")),
    "calls `set_expiry(0)`": (["log-in 1"], _once("expire 0")),
    "makes the session permanent": (["log-in 1"], _once("permanent")),
    "reads, with `SESSION_SAVE_EVERY_REQUEST`": (["log-in 1"], _saving_every_request),
    "comes with the token of a session that has ended": (["log-in 1", "end"], _once("read")),
    "uses the test client's `force_login()`": ([], _force_login),
    "uses the test client's `session_transaction()`": ([], _session_transaction),
}


def _of(row: Row, framework: str) -> tuple[list[str], Callable[[Browser], None]]:
    if row.request == "calls `cycle_key()` or `regenerate()`":
        return ["log-in 1"], _once("cycle" if framework == "Django" else "regenerate")
    return _REQUESTS[row.request]


@pytest.mark.parametrize(
    ("row", "framework"),
    [
        pytest.param(row, framework, id=f"{framework}: {row.request}")
        for row in _rows()
        for framework in FRAMEWORKS
        if row.frameworks == "all" or framework in row.frameworks
    ],
)
def test_request_does_what_the_guide_says(row: Row, framework: str, service: Service) -> None:
    before, act = _of(row, framework)
    with FRAMEWORKS[framework](service) as browser:
        for name in before:
            if name == "end":
                _end_all(service)
            else:
                browser.do(name)
        former_token = browser.token()
        service.plan()

        act(browser)

        calls = [re.sub(r"\?.*", "", call) for call in service.calls]
        calls = [re.sub(r"/sessions/[\w-]{12}(?=/|$)", "/sessions/{id}", call) for call in calls]
        assert [_CALLS[call] for call in calls] == row.calls
        _assert_cookie(row, browser, former_token)


def _assert_cookie(row: Row, browser: Browser, former_token: str | None) -> None:
    token = browser.token()
    match row.token:
        case "same":
            assert token == former_token
        case "new" | "the impersonator's":
            assert token not in (former_token, None)
        case "none":
            # The session has ended, but the browser keeps a cookie that no response deletes.
            assert token == (None if row.cookie.startswith("deleted") else former_token)
    names_impersonator = "the impersonator's" in row.cookie
    assert names_impersonator == any(
        line.startswith(f"{browser.impersonator_cookie}=") for line in browser.set_cookies
    )
    match re.split("[,;]", row.cookie)[0]:
        case "unchanged":
            assert browser.set_cookies == []
        case "set":
            assert any(str(token) in line for line in browser.set_cookies)
            has_date = any("max-age" in line.lower() for line in browser.set_cookies)
            assert not (row.cookie == "set, without a date" and has_date)
        case "deleted":
            assert browser.set_cookies
        case other:
            raise AssertionError(other)


def _end_all(service: Service) -> None:
    for item in service.items():
        service.sdk.update_item(
            TableName=service.table,
            Key={"SessionId": item["SessionId"]},
            UpdateExpression="SET RevokedAt = ExpirationTime",
        )
