"""Flask's sessions on the service, with Flask-Login."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import flask_login
import pytest
from flask import (
    Flask,
    Response,
    abort,
    flash,
    get_flashed_messages,
    session,
    stream_with_context,
)
from flask.testing import FlaskClient
from markupsafe import Markup
from werkzeug.test import TestResponse

from serverless_sessions import DataTooLarge, Sessions, SessionsError
from serverless_sessions import flask as flask_adapter
from serverless_sessions.flask import FlaskSession, ServerlessSessions, require_recent
from tests.support import service as faults
from tests.support.service import Call, Fault, Service

VERIFY, CREATE = "POST /sessions/verify", "POST /sessions"
OUTAGES = [faults.frozen, faults.throttled, faults.reset]


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


@pytest.fixture
def options(service: Service) -> dict[str, Any]:
    return {
        "url": service.url,
        "region": service.region,
        "credentials": service.credentials,
    }


@pytest.fixture
def app(options: dict[str, Any]) -> Iterator[Flask]:
    app = Flask(__name__)
    app.config["SERVERLESS_SESSIONS"] = options
    ServerlessSessions(app)
    flask_login.LoginManager(app).user_loader(User)

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    @app.get("/read")
    def read() -> dict[str, Any]:
        return dict(session)

    @app.get("/who")
    def who() -> str:
        user = flask_login.current_user
        return str(user.id) if user.is_authenticated else "nobody"

    @app.post("/set/<key>/<value>")
    def set_value(key: str, value: str) -> str:
        session[key] = value
        return "set"

    @app.post("/pop/<key>")
    def pop(key: str) -> str:
        return str(session.pop(key, None))

    @app.post("/log-in/<name>")
    def log_in(name: str) -> str:
        flask_login.login_user(User(name))
        return name

    @app.post("/log-out")
    def log_out() -> str:
        flask_login.logout_user()
        return "bye"

    @app.post("/clear")
    def clear() -> str:
        session.clear()
        return "cleared"

    yield app
    app.extensions["serverless_sessions"].close()


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def token(browser: FlaskClient, name: str = "session") -> str | None:
    cookie = browser.get_cookie(f"__Host-{name}")
    return cookie.value if cookie else None


def live(service: Service) -> list[dict[str, Any]]:
    return [item for item in service.items() if "RevokedAt" not in item]


def users(service: Service) -> list[str | None]:
    return sorted(item.get("UserId", {}).get("S", "") for item in live(service))


def ends(service: Service) -> list[str]:
    """Return the reasons of all revocations."""
    return sorted(item["RevokedReason"]["S"] for item in service.items() if "RevokedAt" in item)


def sent(service: Service) -> list[str]:
    """Return the calls since the last time, with `{id}` instead of session ids."""
    calls = [re.sub(r"/[\w-]{12}(?=/|\?|$)", "/{id}", call) for call in service.calls]
    service.plan()
    return calls


@contextmanager
def short_deadlines(app: Flask, options: dict[str, Any]) -> Iterator[None]:
    """Give the app short deadlines. This is for calls that have to fail."""
    former_client = app.extensions["serverless_sessions"]
    with Sessions(**options, deadline_seconds=0.2, verify_deadline_seconds=0.2) as client:
        app.extensions["serverless_sessions"] = client
        try:
            yield
        finally:
            app.extensions["serverless_sessions"] = former_client


def test_a_request_makes_the_calls_that_it_needs(browser: FlaskClient, service: Service) -> None:
    patch, delete = "PATCH /sessions/{id}", "DELETE /sessions/{id}?reason="
    expected = {
        "GET /plain": [],
        "GET /read": [],
        "POST /clear": [],
        "POST /pop/nothing": [],
        "POST /set/a/1": [CREATE],
        "GET /plain#with a cookie": [],
        "GET /read#with a cookie": [VERIFY],
        "POST /pop/nothing#with a cookie": [VERIFY],
        "POST /set/a/1#the same value": [VERIFY],
        "POST /set/a/2": [VERIFY, patch],
        "POST /log-in/ada": [VERIFY, CREATE, "POST /sessions/{id}/renew"],
        "GET /who": [VERIFY],
        "POST /log-in/bob": [VERIFY, CREATE, f"{delete}signed_in"],
        "POST /pop/a": [VERIFY, patch],
        "POST /log-out": [VERIFY, f"{delete}logout"],
        "POST /log-in/ada#without a session": [CREATE],
    }

    actual = {}
    for request in expected:
        method, path = request.partition("#")[0].split(" ")
        assert browser.open(path, method=method).status_code == 200
        actual[request] = sent(service)

    assert actual == expected


def test_cookie_is_only_for_this_host_over_https(browser: FlaskClient, service: Service) -> None:
    answer = browser.post("/set/a/1")

    [item] = service.items()
    name, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith(f"__Host-visitor={item['SessionId']['S']}.")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]
    assert answer.headers["Vary"] == "Cookie"
    assert "Set-Cookie" not in browser.get("/read").headers

    name, *same = browser.post("/log-in/ada").headers.getlist("Set-Cookie")[0].split("; ")
    assert name.startswith("__Host-session=")
    assert same == attributes


@pytest.mark.parametrize(
    ("settings", "insecure", "expected"),
    [
        ({}, True, ["visitor=", "session="]),
        ({"SESSION_COOKIE_NAME": "mine"}, False, ["__Host-mine_visitor=", "__Host-mine="]),
        ({"SESSION_COOKIE_DOMAIN": "example.com"}, False, ["visitor=", "session="]),
        ({"SESSION_COOKIE_PATH": "/app"}, False, ["visitor=", "session="]),
    ],
)
def test_cookie_has_no_prefix_that_browsers_would_refuse(
    app: Flask,
    browser: FlaskClient,
    options: dict[str, Any],
    settings: dict[str, str],
    insecure: bool,
    expected: list[str],
) -> None:
    app.config |= settings
    options["insecure_cookie"] = insecure

    for path, name in zip(("/set/a/1", "/log-in/ada"), expected, strict=True):
        cookie = browser.post(path).headers["Set-Cookie"]
        assert cookie.startswith(name)
        assert ("Secure" in cookie) != insecure


def test_log_in_makes_a_new_session_with_all_values(browser: FlaskClient, service: Service) -> None:
    browser.post("/set/cart/book")
    before = token(browser, "visitor")

    browser.post("/log-in/ada", headers={"User-Agent": "Browser 1"})

    assert browser.get("/read").json == {"cart": "book"} | {
        name: browser.get("/read").json[name]  # type: ignore[index]
        for name in ("_fresh", "_id", "_user_id")
    }
    assert token(browser) not in (before, None)
    assert token(browser, "visitor") is None
    # The visitor's session lives for another minute, for requests in progress.
    visitor, ada = sorted(live(service), key=lambda item: "UserId" in item)
    assert visitor["AbsoluteExpirationTime"] == visitor["ExpirationTime"]
    assert int(visitor["ExpirationTime"]["N"]) - int(visitor["RenewedAt"]["N"]) == 60
    assert ada["UserId"] == {"S": "ada"}
    assert ada["Client"]["M"] == {"ip": {"S": "127.0.0.1"}, "user_agent": {"S": "Browser 1"}}
    browser.delete_cookie("__Host-session")
    for name in ("visitor", "session"):
        browser.set_cookie(f"__Host-{name}", before or "")
        assert browser.get("/who").text == "nobody"


def test_log_out_ends_the_session_and_keeps_the_other_values(
    app: Flask, browser: FlaskClient, service: Service
) -> None:
    @app.post("/log-out-with-a-message")
    def log_out_with_message() -> str:
        flask_login.logout_user()
        flash("See you")
        return "bye"

    browser.post("/log-in/ada")
    before = token(browser)
    browser.post("/log-out-with-a-message")

    assert (token(browser), token(browser, "visitor")) not in ((before, None), (None, None))
    assert token(browser) is None
    assert users(service) == [""]
    assert ends(service) == ["logout"]
    assert browser.get("/read").json == {"_flashes": [["message", "See you"]]}


@pytest.mark.parametrize("path", ["/clear", "/log-out"])
def test_users_session_without_a_user_ends(
    browser: FlaskClient, service: Service, path: str
) -> None:
    browser.post("/log-in/ada")

    answer = browser.post(path)

    assert token(browser) is None
    assert answer.headers["Set-Cookie"].startswith("__Host-session=; Expires=Thu, 01 Jan 1970")
    assert "Secure; HttpOnly; Path=/; SameSite=Lax" in answer.headers["Set-Cookie"]
    assert live(service) == []


@pytest.mark.parametrize("path", ["/clear", "/pop/a"])
def test_visitors_session_without_values_stays(
    browser: FlaskClient, service: Service, path: str
) -> None:
    """No cookie is deleted, because a late response could delete the cookie of a log-in."""
    browser.post("/set/a/1")

    answer = browser.post(path)

    assert "Set-Cookie" not in answer.headers
    [item] = live(service)
    assert item["Data"] == {"M": {}}


def test_values_come_back_as_they_were(app: Flask, browser: FlaskClient) -> None:
    values: dict[str, Any] = {
        "tuple": (1, (2, 3)),
        "bytes": b"\xff\x00",
        "markup": Markup("<b>"),  # noqa: S704
        "uuid": UUID(int=7),
        "time": datetime(2026, 11, 24, 18, 0, tzinfo=UTC),
        "like a tag": {" t": [1]},
        "none": None,
        "float": 1.0,
        "large": 10**40,
        "": {"": "empty"},
    }
    loaded = []

    @app.post("/store")
    def store() -> str:
        session.update(values)
        return "stored"

    @app.get("/load")
    def load() -> str:
        loaded.append(dict(session))
        return "loaded"

    browser.post("/store")
    browser.get("/load")

    assert loaded == [values]
    assert {name: type(value) for name, value in loaded[0].items()} == {
        name: type(value) for name, value in values.items()
    }


def test_change_within_a_value_is_noticed_and_sent_alone(
    app: Flask, browser: FlaskClient, service: Service
) -> None:
    @app.post("/basket/<thing>")
    def add(thing: str) -> str:
        session.setdefault("basket", []).append(thing)
        return "added"

    browser.post("/set/other/thing")
    for thing in ("book", "pen"):
        browser.post(f"/basket/{thing}")

    assert service.bodies[-1] == b'{"data":{"basket":["book","pen"]}}'
    assert browser.get("/read").json == {"basket": ["book", "pen"], "other": "thing"}


def test_concurrent_requests_keep_each_others_keys(
    app: Flask, browser: FlaskClient, service: Service
) -> None:
    all_have_written = threading.Barrier(8)

    @app.post("/slowly/<key>")
    def slowly(key: str) -> str:
        session[key] = key
        all_have_written.wait(60)
        return "set"

    browser.post("/set/first/1")
    cookie = f"__Host-visitor={token(browser, 'visitor')}"
    sent(service)

    def tab(number: int) -> TestResponse:
        return app.test_client(use_cookies=False).post(
            f"/slowly/{number}", headers={"Cookie": cookie}
        )

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(tab, range(8)))

    assert [answer.status_code for answer in answers] == [200] * 8
    assert sorted(sent(service)) == ["PATCH /sessions/{id}"] * 8 + [VERIFY] * 8
    assert browser.get("/read").json == {"first": "1"} | {str(n): str(n) for n in range(8)}


def test_write_to_an_ended_session_does_not_restore_it(
    app: Flask, browser: FlaskClient, service: Service
) -> None:
    """The cookie is not deleted, because it may already belong to a newer session."""

    @app.post("/late")
    def late() -> str:
        session["late"] = True
        assert isinstance(session._get_current_object(), FlaskSession)  # type: ignore[attr-defined]
        client: Sessions = app.extensions["serverless_sessions"]
        client.revoke(session.session_id)  # type: ignore[attr-defined]
        return "late"

    browser.post("/log-in/ada")
    answer = browser.post("/late")

    assert (answer.status_code, answer.headers.get("Set-Cookie")) == (200, None)
    assert live(service) == []


def test_ended_session_is_empty(browser: FlaskClient, app: Flask, service: Service) -> None:
    browser.post("/log-in/ada")
    app.extensions["serverless_sessions"].revoke_all("ada")

    answer = browser.get("/who")
    assert answer.text == "nobody"
    # The browser may already have a newer cookie.
    assert "Set-Cookie" not in answer.headers

    browser.post("/set/a/1")
    assert users(service) == [""]
    assert browser.get("/read").json == {"a": "1"}


@pytest.mark.usefixtures("stopped_clocks")
def test_permanent_session_has_flask_s_lifetime(
    app: Flask, browser: FlaskClient, service: Service
) -> None:
    app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(days=31)

    @app.post("/permanent/<int:on>")
    def permanent(on: int) -> str:
        session.permanent = bool(on)
        return "set"

    browser.post("/permanent/1")
    assert service.items() == []

    browser.post("/set/a/1")
    before = token(browser, "visitor")
    sent(service)
    answer = browser.post("/permanent/1")
    # The absolute end of the session does not move.
    assert "Max-Age=86400" in answer.headers["Set-Cookie"]
    assert sent(service) == [
        VERIFY,
        "PATCH /sessions/{id}",
        "POST /sessions/{id}/renew",
        "POST /sessions/{id}/rotate",
    ]
    assert token(browser, "visitor") != before
    [item] = live(service)
    assert item["TtlSeconds"]["N"] == str(31 * 86400)

    answer = browser.post("/log-in/ada")
    assert f"Max-Age={400 * 86400}" in answer.headers["Set-Cookie"]
    [item] = [item for item in live(service) if "UserId" in item]
    absolute = int(item["AbsoluteExpirationTime"]["N"]) - int(item["CreatedAt"]["N"])
    assert absolute == 400 * 86400
    assert item["TtlSeconds"]["N"] == str(31 * 86400)
    assert "Set-Cookie" not in browser.get("/read").headers
    before = token(browser)
    assert "Max-Age" not in browser.post("/permanent/0").headers["Set-Cookie"]
    assert token(browser) != before


def test_regenerated_session_has_a_new_token(
    app: Flask, browser: FlaskClient, service: Service
) -> None:
    @app.post("/elevate")
    def elevate() -> str:
        session["role"] = "admin"
        session.regenerate()  # type: ignore[attr-defined]
        return "elevated"

    browser.post("/log-in/ada")
    before = token(browser)
    sent(service)
    browser.post("/elevate")

    assert sent(service) == [VERIFY, "PATCH /sessions/{id}", "POST /sessions/{id}/rotate"]
    assert token(browser) != before
    assert browser.get("/read").json["role"] == "admin"  # type: ignore[index]
    # A request in progress has the former token.
    tab = app.test_client(use_cookies=False)
    late_answer = tab.get("/who", headers={"Cookie": f"__Host-session={before}"})
    assert late_answer.text == "ada"
    # A second call during the grace period creates another token.
    second = token(browser)
    assert browser.post("/elevate").status_code == 200
    assert token(browser) not in (before, second)
    assert browser.get("/who").text == "ada"
    assert len(service.items()) == 1


@pytest.mark.parametrize("fault", OUTAGES)
def test_outage_is_a_503_and_nobody_is_signed_out(
    app: Flask,
    browser: FlaskClient,
    options: dict[str, Any],
    service: Service,
    fault: Fault,
) -> None:
    browser.post("/log-in/ada")
    before = token(browser)

    with short_deadlines(app, options):
        service.plan(always=fault)
        stranger = app.test_client()
        answers = [browser.get("/who"), browser.post("/log-out"), stranger.post("/log-in/bob")]
        untouched = browser.get("/plain")

    for answer in answers:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "Set-Cookie" not in answer.headers
    assert untouched.status_code == 200
    service.plan()
    assert token(browser) == before
    assert browser.get("/who").text == "ada"
    assert users(service) == ["ada"]


@pytest.mark.parametrize("path", ["/set/a/1", "/clear"])
def test_failed_write_is_a_503_and_the_session_stays(
    browser: FlaskClient, service: Service, path: str
) -> None:
    """The request succeeds when it is repeated after the outage."""
    browser.post("/log-in/ada")
    before = token(browser)

    service.plan(lambda call: call.send(call.forward()), always=faults.unavailable)
    answer = browser.post(path)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "Set-Cookie" not in answer.headers
    service.plan()
    assert token(browser) == before
    assert browser.get("/who").text == "ada"
    assert users(service) == ["ada"]
    assert browser.post(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "failing"), [("/log-in/bob", "POST /sessions"), ("/log-out", "DELETE")]
)
def test_log_in_or_log_out_that_fails_halfway_changes_nothing(
    browser: FlaskClient, service: Service, path: str, failing: str
) -> None:
    """A log-in ends the former session last. A log-out fails if it cannot end the session."""

    def fail_some_calls(call: Call) -> None:
        if f"{call.method} {call.path} ".startswith(f"{failing} "):
            faults.unavailable(call)
        else:
            call.send(call.forward())

    browser.post("/set/cart/book")
    browser.post("/log-in/ada")
    service.plan(always=fail_some_calls)
    answer = browser.post(path)

    assert (answer.status_code, answer.headers.get("Set-Cookie")) == (503, None)
    service.plan()
    assert browser.get("/who").text == "ada"
    assert browser.post(path).status_code == 200
    assert "ada" not in users(service)


@pytest.mark.parametrize("fault", [faults.lose_answer, faults.cut, faults.answer_503])
def test_lost_answers_neither_repeat_nor_lose_a_change(
    browser: FlaskClient, service: Service, fault: Fault
) -> None:
    """The first answer to every call is lost."""

    def do(path: str, *losses: bool) -> int:
        forward: Fault = lambda call: call.send(call.forward())  # noqa: E731
        service.plan(*(fault if is_lost else forward for is_lost in losses))
        return browser.post(path).status_code

    assert do("/set/a/1", True) == 200
    assert users(service) == [""]
    assert do("/log-in/ada", True, False, True, False, True) == 200
    assert users(service) == ["", "ada"]
    assert do("/set/a/2", True, False, True) == 200
    assert browser.get("/read").json["a"] == "2"  # type: ignore[index]
    assert browser.get("/who").text == "ada"
    assert do("/log-out", True, False, True) == 200
    assert users(service) == ["", ""]
    assert browser.get("/who").text == "nobody"


def test_restart_of_the_service_goes_unnoticed(browser: FlaskClient, service: Service) -> None:
    browser.post("/log-in/ada")
    service.restart()
    assert browser.post("/set/a/1").status_code == 200
    service.restart()
    assert browser.get("/who").text == "ada"


def test_log_in_succeeds_even_if_the_visitors_session_cannot_be_ended(
    browser: FlaskClient, service: Service
) -> None:
    """The visitor's session signs nobody in, and it expires."""
    browser.post("/set/a/1")

    forward: Fault = lambda call: call.send(call.forward())  # noqa: E731
    service.plan(forward, forward, always=faults.unavailable)
    assert browser.post("/log-in/ada").status_code == 200

    service.plan()
    assert browser.get("/who").text == "ada"
    assert users(service) == ["", "ada"]


@pytest.mark.parametrize("path", ["/who", "/set/a/1"])
def test_outage_shows_the_apps_own_page(
    app: Flask, browser: FlaskClient, options: dict[str, Any], service: Service, path: str
) -> None:
    @app.errorhandler(503)
    def sorry(error: Exception) -> tuple[str, int]:
        return "Come back soon", 503

    @app.after_request
    def secured(response: Response) -> Response:
        response.headers["X-Frame-Options"] = "DENY"
        response.set_cookie("remember_token", "ada")
        return response

    with short_deadlines(app, options):
        service.plan(always=faults.unavailable)
        browser.set_cookie("__Host-session", f"{'A' * 12}.{'B' * 27}")
        answer = browser.get(path) if path == "/who" else app.test_client().post(path)

    assert (answer.status_code, answer.text) == (503, "Come back soon")
    assert answer.headers["X-Frame-Options"] == "DENY"
    # If the session cannot be saved, the view's cookies are dropped. A failed log-in is therefore
    # not remembered.
    assert ("Set-Cookie" in answer.headers) == (path == "/who")
    assert answer.headers["Content-Length"] == str(len("Come back soon"))


@pytest.mark.parametrize("kind", [DataTooLarge, SessionsError, None])
def test_value_that_is_too_large_calls_the_apps_own_handler(
    app: Flask, browser: FlaskClient, kind: type[Exception] | None
) -> None:
    @app.get("/fill")
    def fill() -> str:
        session["a"] = "x" * 70_000
        return "filled"

    def too_much(error: Exception) -> tuple[str, int]:
        return type(error).__name__, 413

    if kind:
        app.register_error_handler(kind, too_much)
    answer = browser.get("/fill")

    if kind:
        assert (answer.status_code, answer.text) == (413, "DataTooLarge")
    else:
        assert answer.status_code == 500
    assert "Set-Cookie" not in answer.headers


def test_session_is_typed(app: Flask, browser: FlaskClient) -> None:
    """mypy accepts the methods that Flask's own sessions do not have."""

    @app.get("/elevate-typed")
    def elevate() -> str:
        flask_adapter.session.regenerate()
        return str(flask_adapter.session.session_id)

    browser.post("/set/a/1")
    former = browser.get_cookie("__Host-visitor")
    answer = browser.get("/elevate-typed")
    cookie = browser.get_cookie("__Host-visitor")
    assert former
    assert cookie
    assert cookie.value != former.value
    assert cookie.value.startswith(answer.text)
    assert flask_adapter.session is session


def test_write_in_a_stream_warns_that_it_is_lost(app: Flask, browser: FlaskClient) -> None:
    @app.get("/stream")
    def stream() -> Response:
        session["early"] = 1

        def chunks() -> Iterator[str]:
            session["late"] = 1
            session["later"] = 2
            yield "chunk"

        return Response(stream_with_context(chunks()))

    with pytest.warns(RuntimeWarning, match="change is lost") as warnings:
        assert browser.get("/stream").text == "chunk"
    assert [warning.filename for warning in warnings] == [__file__]
    assert browser.get("/read").json == {"early": 1}


def test_messages_can_be_read_in_the_block_of_a_test_client(
    app: Flask, browser: FlaskClient
) -> None:
    """Reading them removes them from the session, which is not stored after the response."""

    @app.get("/flash")
    def flash_message() -> str:
        flash("saved")
        return ""

    with browser:
        browser.get("/flash")
        assert get_flashed_messages() == ["saved"]
    with browser.session_transaction() as stored:
        assert "_flashes" in stored


def test_error_of_the_view_keeps_the_session(app: Flask, browser: FlaskClient) -> None:
    @app.get("/fail")
    def fail() -> str:
        session["tried"] = True
        abort(418)

    assert browser.get("/fail").status_code == 418
    assert browser.get("/read").json == {"tried": True}


def test_session_is_available_outside_of_views(app: Flask, browser: FlaskClient) -> None:
    """Tests use the session before and after a request."""
    with browser.session_transaction() as transaction:
        transaction["a"] = 1
    with browser:
        assert browser.get("/read").json == {"a": 1}
        assert session["a"] == 1
        assert cast(FlaskSession, session) | {"b": 2} == {"a": 1, "b": 2}
        assert repr(session) == "<FlaskSession ['a']>", "reports of errors show it"


def test_log_in_moves_more_data_than_one_request_accepts(
    app: Flask, browser: FlaskClient, service: Service
) -> None:
    @app.post("/fill/<int:key>")
    def fill(key: int) -> str:
        session[key] = "x" * 40_000  # type: ignore[index]
        session.update({f"{key}-{number}": number for number in range(101)})
        return "filled"

    for key in range(2):
        assert browser.post(f"/fill/{key}").status_code == 200
    assert browser.post("/log-in/ada").status_code == 200

    values = browser.get("/read").json or {}
    assert users(service) == ["", "ada"]
    assert len(values) == 2 + 2 * 101 + 3
    assert values["1"] == "x" * 40_000


def test_user_key_is_an_option(
    app: Flask, browser: FlaskClient, options: dict[str, Any], service: Service
) -> None:
    options["user_key"] = "member"
    browser.post("/set/member/7")
    assert users(service) == ["7"]


def test_guard_without_the_extension_says_what_is_missing() -> None:
    app = Flask(__name__)
    with app.test_request_context(), pytest.raises(RuntimeError, match="ServerlessSessions"):
        require_recent(300)(lambda: "paid")()


def test_extension_without_an_app_has_no_client() -> None:
    with Flask(__name__).app_context(), pytest.raises(RuntimeError, match="not initialized"):
        _ = ServerlessSessions().sessions


def test_one_extension_serves_several_apps(options: dict[str, Any]) -> None:
    sessions = ServerlessSessions()
    clients = []
    for _ in range(2):
        app = Flask(__name__)
        app.config["SERVERLESS_SESSIONS"] = options
        sessions.init_app(app)
        with app.app_context():
            clients.append(sessions.sessions)

    assert clients[0] is not clients[1]
    sessions.close()


def test_extension_closes_the_connections_of_its_apps(
    options: dict[str, Any], service: Service
) -> None:
    sessions = ServerlessSessions()
    for _ in range(2):
        app = Flask(__name__)
        app.config["SERVERLESS_SESSIONS"] = options
        sessions.init_app(app)
        with app.app_context():
            for _ in range(2):
                service.plan()
                former = service.connections
                sessions.sessions.create("ada")
                assert service.connections == former + 1
                sessions.close()


def test_session_protection_of_flask_login_accepts_an_impersonated_session(
    app: Flask, browser: FlaskClient
) -> None:
    """Its strong mode signs out a session that does not name the browser."""
    app.config["SESSION_PROTECTION"] = "strong"

    @app.post("/impersonate/<name>")
    def impersonate(name: str) -> str:
        cast(FlaskSession, session).impersonate(name, reason="ticket-42")
        return name

    browser.post("/log-in/grace")
    browser.post("/impersonate/ada")

    assert browser.get("/who").text == "ada"
    assert browser.get("/who").text == "ada"


def test_session_can_be_copied(app: Flask, browser: FlaskClient) -> None:
    """A copy is a dict of its own, which nothing saves."""

    @app.get("/copy")
    def copy_session() -> dict[str, Any]:
        session["a"] = [1]
        duplicates: list[Any] = [copy.copy(session), copy.deepcopy(session)]
        for duplicate in duplicates:
            assert type(duplicate) is dict
            duplicate["b"] = 2
        copy.deepcopy(session)["a"].append(2)
        return dict(session)

    assert browser.get("/copy").json == {"a": [1]}
    assert browser.get("/read").json == {"a": [1]}
