"""The guard's checks. `tests/browser/test_attacks.py` tests them in a real browser."""

from __future__ import annotations

from starlette.testclient import TestClient

from serverless_sessions import Sessions
from tests.console.entry import PORT, Entry
from tests.support.service import Service


def test_key_is_exchanged_for_a_cookie(entry: Entry, stranger: TestClient) -> None:
    answer = stranger.get(entry.guard.url)

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    name, _, rest = answer.headers["set-cookie"].partition("=")
    secret, *flags = rest.split("; ")
    assert name == f"sessions-console-{PORT}"
    assert {flag.lower() for flag in flags} == {"httponly", "path=/", "samesite=strict"}
    assert secret not in entry.guard.url
    assert stranger.get("/").status_code == 200


def test_key_works_once(entry: Entry, stranger: TestClient) -> None:
    """The key remains in the browser's history and in the list of processes."""
    used_url = entry.guard.url
    stranger.get(used_url)
    stranger.cookies.clear()

    assert stranger.get(used_url).status_code == 401
    assert entry.urls == [entry.guard.url]
    assert stranger.get(entry.guard.url).status_code == 303


def test_used_key_with_the_cookie_opens_the_console(entry: Entry, browser: TestClient) -> None:
    """The operator may click on the URL in the terminal again."""
    answer = browser.get("/?key=used")

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert len(entry.urls) == 1


def test_nothing_without_the_key(stranger: TestClient, service: Service) -> None:
    cookie = {b"Cookie": f"sessions-console-{PORT}=é".encode()}
    paths = ("/", "/user?id=ada", "/static/console.css", "/?key=", "/?key=%C3%A9%00", "/nowhere")
    for path in paths:
        answer = stranger.get(path, headers=cookie)
        assert answer.status_code == 401, path
        assert "content-security-policy" in answer.headers
    assert not service.calls


def test_other_host_name_is_refused(browser: TestClient, service: Service) -> None:
    """An attacker's DNS can resolve a name to this machine. This is called DNS rebinding."""
    names = ("attacker.example:4600", "127.0.0.1", "localhost:4600", "127.0.0.1:1", "[::1]:4600")
    for name in names:
        answer = browser.get("/user?id=ada", headers={"Host": name})
        assert answer.status_code == 421, name
    assert not service.calls


def test_change_from_another_origin_is_refused(browser: TestClient, sessions: Sessions) -> None:
    """A browser sends the cookie even with a form of another port on this host."""
    sessions.create("ada")
    del browser.headers["Origin"]
    origins = ("null", "http://127.0.0.1:4601", "http://localhost:4600", "https://a.example")
    for headers in ({}, *({"Origin": origin} for origin in origins)):
        answer = browser.post("/end", data={"user": "ada", "reason": "stolen"}, headers=headers)
        assert answer.status_code == 403, headers
    assert len(list(sessions.list("ada"))) == 1


def test_every_answer_carries_the_headers(browser: TestClient) -> None:
    for path in ("/", "/user?id=ada", "/static/console.js", "/nowhere", "/session"):
        headers = browser.get(path).headers
        assert headers["cache-control"] == "no-store", path
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"].split("; ")
        assert dict(directive.split(" ", 1) for directive in policy) == {
            "default-src": "'none'",
            "style-src": "'self'",
            "script-src": "'self'",
            "img-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
