"""`serverless_sessions.testing`, as the tests of an app use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx2
import pytest
from flask import Flask, Response
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serverless_sessions import DirectReader, Sessions, Unavailable
from serverless_sessions._core import clock
from serverless_sessions.testing import SessionsService
from serverless_sessions.testing.cookies import age_cookies
from tests.support.waiting import eventually

_NAMES = ("SESSIONS_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_PROFILE")


@pytest.fixture(scope="module")
def running() -> Iterator[SessionsService]:
    with SessionsService() as service:
        yield service


@pytest.fixture
def service(running: SessionsService) -> Iterator[SessionsService]:
    yield running
    running.reset()


def test_environment_is_set_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of production")
    monkeypatch.delenv("AWS_REGION", raising=False)
    before = {name: os.environ.get(name) for name in _NAMES}
    with SessionsService() as service:
        assert "AWS_PROFILE" not in os.environ
        assert "AWS_SESSION_TOKEN" not in os.environ
        with Sessions(os.environ["SESSIONS_URL"]) as sessions:
            assert sessions.create("ada").session.user_id == "ada"
        assert [event.type for event in service.events("ada")] == ["created"]
    assert {name: os.environ.get(name) for name in _NAMES} == before


def test_options_are_those_of_the_command() -> None:
    with SessionsService("--default-ttl-seconds=60", "--max-sessions-per-user=1") as service:
        for _ in range(2):
            assert service.sessions.create("ada").session.ttl_seconds == 60
            service.advance(1)
        assert len(list(service.sessions.list("ada"))) == 1


def test_wrong_option_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        SessionsService("--no-such-option").start()
    assert "--no-such-option" in capfd.readouterr().err


def test_it_ends_with_a_process_that_is_killed() -> None:
    program = (
        "import sys, time\n"
        "from serverless_sessions.testing import SessionsService\n"
        "service = SessionsService().start()\n"
        "print(service.url, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout
        url = parent.stdout.readline().strip()
        assert httpx2.get(url).status_code == 404
        parent.send_signal(signal.SIGKILL)

    def has_ended() -> bool:
        try:
            httpx2.get(url)
        except httpx2.TransportError:
            return True
        return False

    eventually(has_ended)


def test_it_is_not_used_before_its_start() -> None:
    service = SessionsService()
    for use in (lambda: service.url, service.reset, lambda: service.events("ada")):
        with pytest.raises(RuntimeError, match="Call start"):
            use()


def test_second_start_does_nothing(service: SessionsService) -> None:
    url = service.url
    assert service.start().url == url


def test_service_within_a_service_leaves_the_outer_one_as_it_was(service: SessionsService) -> None:
    service.advance(3600)
    with SessionsService() as inner:
        assert os.environ["SESSIONS_URL"] == inner.url
    assert os.environ["SESSIONS_URL"] == service.url
    assert clock.time() - time.time() == pytest.approx(3600, abs=5)


def test_proxy_of_the_developer_is_bypassed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    monkeypatch.delenv("no_proxy", raising=False)
    with SessionsService() as service:
        assert os.environ["no_proxy"] == "intranet.example,127.0.0.1"
        assert service.sessions.create("ada")


def test_ctrl_c_ends_a_run_of_pytest_without_an_error(tmp_path: Path) -> None:
    """A terminal sends it to all processes of the group."""
    (tmp_path / "test_slow.py").write_text(
        "import time\n"
        "def test_slow(sessions_service):\n"
        "    print('started', flush=True)\n"
        "    time.sleep(600)\n"
    )
    options = ("-c", os.devnull, "--rootdir", tmp_path, "-p", "serverless_sessions.testing", "-s")
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with run:
        assert run.stdout
        while "started" not in run.stdout.readline():
            assert run.poll() is None
        os.killpg(run.pid, signal.SIGINT)
        output = run.stdout.read()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "ConnectionRefused" not in output


def test_a_fork_does_not_end_it() -> None:
    program = (
        "import os, sys\n"
        "from serverless_sessions.testing import SessionsService\n"
        "with SessionsService() as service:\n"
        "    if child := os.fork():\n"
        "        assert os.waitpid(child, 0)[1] == 0\n"
        "        assert service.sessions.create('ada')\n"
        "    else:\n"
        "        sys.exit()\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120)


def test_sessions_expire_when_time_is_advanced(service: SessionsService) -> None:
    issued = service.sessions.create("ada", ttl_seconds=60)
    service.advance(50)
    assert service.sessions.verify(issued.token)
    service.advance(59)
    assert service.sessions.verify(issued.token, renew=False)
    service.advance(2)
    assert service.sessions.verify(issued.token) is None
    created, expired = service.events("ada")
    assert (created.type, expired.type, expired.cause) == ("created", "expired", "idle")
    assert expired.at - created.at in (110, 111)


def test_the_client_in_the_app_has_the_time_of_the_service(service: SessionsService) -> None:
    service.advance(86_400)
    service.advance(86_400)
    assert clock.time() - time.time() == pytest.approx(2 * 86_400, abs=5)
    assert service.sessions.create().session.created_at == pytest.approx(clock.now(), abs=5)
    service.reset()
    assert clock.time() == pytest.approx(time.time(), abs=5)
    assert service.sessions.create().session.created_at == pytest.approx(time.time(), abs=5)


def test_time_that_another_library_has_moved_is_not_moved_twice(
    service: SessionsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.time
    monkeypatch.setattr(service, "_now", lambda: now() + 200)  # as time-machine does
    service.advance(200)
    assert clock.time() - time.time() == pytest.approx(200, abs=5)


def test_a_reader_has_the_time_of_the_service(service: SessionsService) -> None:
    reader = DirectReader("sessions", endpoint=service.url)
    with Sessions(service.url, reader=reader) as sessions:
        token = sessions.create("ada", ttl_seconds=3600).token
        assert sessions.verify(token)
        service.fail("unavailable")  # does not concern the table
        assert sessions.verify(token)
        service.recover()
        service.advance(3601)
        assert sessions.verify(token) is None


def test_reset_deletes_everything(service: SessionsService) -> None:
    token = service.sessions.create("ada").token
    service.fail("unavailable")
    service.reset()
    assert service.sessions.verify(token) is None
    assert service.events("ada") == []


def test_failures_are_for_so_many_calls(service: SessionsService) -> None:
    with Sessions(service.url, deadline_seconds=30, verify_deadline_seconds=30) as patient:
        token = patient.create("ada").token
        for failure in ("unavailable", "refused", "lost"):
            service.fail(failure, calls=2)  # the client repeats the call
            assert patient.verify(token)
        service.fail("lost", calls=1)
        patient.create("lin")
        assert [event.type for event in service.events("lin")] == ["created"]


def test_an_outage_lasts_until_it_ends(service: SessionsService) -> None:
    with Sessions(service.url, deadline_seconds=0.5, verify_deadline_seconds=0.5) as impatient:
        for failure in ("unavailable", "refused", "lost"):
            service.fail(failure)
            for _ in range(2):
                with pytest.raises(Unavailable):
                    impatient.create("ada")
        service.recover()
    assert service.sessions.create("ada")


def test_a_slow_answer_comes_after_so_many_seconds(service: SessionsService) -> None:
    with Sessions(service.url, deadline_seconds=60) as patient:
        service.fail("slow", calls=1, seconds=0.3)
        begin = time.monotonic()
        patient.create("ada")
        assert time.monotonic() - begin >= 0.3


def test_wrong_arguments_are_errors(service: SessionsService) -> None:
    with pytest.raises(RuntimeError, match="unavailable, slow, lost, refused"):
        service.fail("broken")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="advance"):
        service.advance(-1)


def _cookies(set_cookie: Any) -> None:
    set_cookie("short", "1", max_age=60)
    set_cookie("long", "1", max_age=3600)
    set_cookie("until_closed", "1")


def test_cookies_in_djangos_client_expire() -> None:
    class Client:
        cookies: SimpleCookie = SimpleCookie()

    Client.cookies.load("short=1; Max-Age=60")
    Client.cookies.load("long=1; Max-Age=3600")
    Client.cookies.load("until_closed=1")
    Client.cookies["until_closed"]["max-age"] = None  # as `force_login` does
    age_cookies(Client, 59)
    assert set(Client.cookies) == {"short", "long", "until_closed"}
    age_cookies(Client, 1)
    assert set(Client.cookies) == {"long", "until_closed"}


def test_cookies_in_flasks_client_expire() -> None:
    app = Flask("app")

    @app.get("/")
    def page() -> Response:
        response = Response()
        _cookies(response.set_cookie)
        return response

    browser = app.test_client()
    browser.get("/")
    age_cookies(browser, 59)
    assert browser.get_cookie("short")
    age_cookies(browser, 1)
    assert not browser.get_cookie("short")
    assert browser.get_cookie("long")
    assert browser.get_cookie("until_closed")


def test_cookies_in_starlettes_client_expire() -> None:
    def page(request: object) -> PlainTextResponse:
        response = PlainTextResponse()
        _cookies(response.set_cookie)
        return response

    browser = TestClient(Starlette(routes=[Route("/", page)]))
    browser.get("/")
    age_cookies(browser, 30)
    assert set(browser.cookies) == {"short", "long", "until_closed"}
    age_cookies(browser, 31)
    assert set(browser.cookies) == {"long", "until_closed"}


def test_app_is_no_test_client() -> None:
    with pytest.raises(TypeError, match="<Flask 'shop'> is no test client"):
        age_cookies(Flask("shop"), 1)


def test_cookies_in_a_plain_jar_expire() -> None:
    class Client:  # like a session of requests
        cookies: CookieJar = TestClient(Starlette()).cookies.jar

    age_cookies(Client, 1)
    assert list(Client.cookies) == []
