"""Django's sessions on the service: a site with real middleware and the settings of the guide."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import auth
from django.contrib.auth import aget_user, alogin, alogout, login, logout, update_session_auth_hash
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template import Context, Template
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.utils import timezone

from serverless_sessions.django import SessionStore, _async_sessions, _sessions
from serverless_sessions.errors import Unavailable
from tests.client import django_settings  # noqa: F401  # configures Django
from tests.support import service as faults
from tests.support.service import Service
from tests.support.template import ROOT

COOKIE = "__Host-sessionid"
VERIFY, CREATE = "POST /sessions/verify", "POST /sessions"


def guide_settings() -> dict[str, Any]:
    """Return the settings that docs/integrating/django.md recommends."""
    page = (ROOT / "docs/integrating/django.md").read_text()
    first, *_ = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    snippet = re.sub(r"os\.environ\[.*?\]", '""', first)
    exec(compile(snippet, "docs/integrating/django.md", "exec"), names)  # noqa: S102
    return {name: value for name, value in names.items() if name.isupper()}


class ReadsTheSession:
    """A middleware that reads the session, as Django's LoginRequiredMiddleware does."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "read" in request.GET:
            request.session.get("n")
        return self.get_response(request)


GUIDE = guide_settings()
OVERRIDDEN = GUIDE | {
    "ROOT_URLCONF": __name__,
    "MIDDLEWARE": [*GUIDE["MIDDLEWARE"], f"{__name__}.ReadsTheSession"],
}


def text(value: object) -> HttpResponse:
    return HttpResponse(str(value), content_type="text/plain")


def no_session(request: HttpRequest) -> HttpResponse:
    return text("hello")


def read(request: HttpRequest) -> HttpResponse:
    return text(request.session.get("n"))


def count(request: HttpRequest) -> HttpResponse:
    request.session["n"] = request.session.get("n", 0) + 1
    return text(request.session["n"])


def write(request: HttpRequest, key: str) -> HttpResponse:
    request.session[key] = key
    return text(key)


def erase(request: HttpRequest, key: str) -> HttpResponse:
    del request.session[key]
    return text(key)


def user(name: str) -> Any:
    return auth.get_user_model().objects.get(username=name)


def log_in(request: HttpRequest, name: str) -> HttpResponse:
    login(request, user(name))
    return text(request.session.session_key)


def fail_after_log_in(request: HttpRequest, name: str) -> HttpResponse:
    login(request, user(name))
    return HttpResponse(status=500)


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return text("bye")


def flush(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    return text("bye")


def change_password(request: HttpRequest) -> HttpResponse:
    request.user.set_password("new")
    request.user.save()
    update_session_auth_hash(request, request.user)  # type: ignore[arg-type]
    for poll in POLLS:  # other requests of the browser, before this request gets its response
        answer = poll.get("/who")
        assert (answer.content, COOKIE in answer.cookies) == (b"AnonymousUser", False)
    return text("changed")


POLLS: list[Client] = []


def who(request: HttpRequest) -> HttpResponse:
    return text(request.user)


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(Template("{{ user }}").render(Context({"user": request.user})))


def expire(request: HttpRequest, seconds: int) -> HttpResponse:
    request.session.set_expiry(seconds or None)
    return text(seconds)


def expire_at_browser_close(request: HttpRequest) -> HttpResponse:
    request.session.set_expiry(0)
    return text(0)


async def async_count(request: HttpRequest) -> HttpResponse:
    n = await request.session.aget("n", 0) + 1
    await request.session.aset("n", n)
    return text(n)


async def async_sync_read(request: HttpRequest) -> HttpResponse:
    return read(request)


async def async_sync_read_of_a_loaded_session(request: HttpRequest) -> HttpResponse:
    await request.session.aget("n")
    return read(request)


async def async_log_in(request: HttpRequest, name: str) -> HttpResponse:
    await alogin(request, await auth.get_user_model().objects.aget(username=name))
    return text(request.session.session_key)


async def async_log_out(request: HttpRequest) -> HttpResponse:
    await alogout(request)
    return text("bye")


async def async_who(request: HttpRequest) -> HttpResponse:
    return text(await aget_user(request))


urlpatterns = [
    path("none", no_session),
    path("read", read),
    path("count", count),
    path("write/<key>", write),
    path("erase/<key>", erase),
    path("log-in/<name>", log_in),
    path("log-in-and-fail/<name>", fail_after_log_in),
    path("log-out", log_out),
    path("flush", flush),
    path("password", change_password),
    path("who", who),
    path("page", page),
    path("expire/<int:seconds>", expire),
    path("browser-close", expire_at_browser_close),
    path("async/count", async_count),
    path("async/sync-read", async_sync_read),
    path("async/sync-read-of-a-loaded-session", async_sync_read_of_a_loaded_session),
    path("async/log-in/<name>", async_log_in),
    path("async/log-out", async_log_out),
    path("async/who", async_who),
]


@pytest.fixture(scope="module", autouse=True)
def users() -> Iterator[None]:
    call_command("migrate", verbosity=0)
    user_model: Any = auth.get_user_model()
    for name in ("ada", "grace"):
        user_model.objects.create_user(name)
    yield
    connection.close()


@pytest.fixture(autouse=True)
def site(service: Service) -> Iterator[None]:
    """Override the settings for this test's service, with short deadlines."""
    options = {
        "url": service.url,
        "region": service.region,
        "deadline_seconds": 4.0,
        "verify_deadline_seconds": 2.0,
    }
    with override_settings(**OVERRIDDEN | {"SERVERLESS_SESSIONS": options}):
        yield
        _sessions().close()


@pytest.fixture
def browser() -> Client:
    return Client(raise_request_exception=False, headers={"user-agent": "Browser/1"})


def id_of(session_key: str | None) -> str:
    return str(session_key)[:12]


def stored(service: Service, session_key: str | None) -> dict[str, Any]:
    """Return the item of a session."""
    id = id_of(session_key)
    [item] = [item for item in service.items() if item["SessionId"]["S"] == id]
    return item


def users_sessions(service: Service) -> list[dict[str, Any]]:
    """Return the live sessions that have a user."""
    return [item for item in service.items() if "UserId" in item and "RevokedAt" not in item]


def calls(service: Service) -> list[str]:
    """Return the calls since the last time, without their session ids."""
    sent = [re.sub("/[A-Za-z0-9_-]{12}(?=/|[?]|$)", "/…", call) for call in service.calls]
    service.calls.clear()
    return sent


# The calls of a request


def test_request_that_does_not_use_the_session_makes_no_call(
    browser: Client, service: Service
) -> None:
    browser.get("/read")  # without a cookie
    assert calls(service) == []

    browser.get("/count")
    assert calls(service) == [CREATE]
    browser.get("/none")
    assert calls(service) == []


def test_calls_of_a_visit(browser: Client, service: Service) -> None:
    ended = "DELETE /sessions/…?reason="

    browser.get("/count")
    assert calls(service) == [CREATE]
    browser.get("/read")
    assert calls(service) == [VERIFY]
    browser.get("/count")
    assert calls(service) == [VERIFY, "PATCH /sessions/…"]
    browser.get("/log-in/ada")
    assert calls(service) == [VERIFY, CREATE, "POST /sessions/…/renew"]
    browser.get("/password")
    assert calls(service) == [VERIFY, "POST /sessions/…/rotate", "PATCH /sessions/…"]
    browser.get("/log-out")
    assert calls(service) == [VERIFY, f"{ended}logout"]
    browser.get("/log-in/ada")
    assert calls(service) == [CREATE]


def test_saving_every_request_makes_no_further_call(browser: Client, service: Service) -> None:
    browser.get("/count")
    calls(service)

    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        answer = browser.get("/read")

    assert calls(service) == [VERIFY]
    # Reading extends the session. The cookie already lasts until the absolute end.
    assert COOKIE not in answer.cookies


# Logging in and out


def test_log_in_makes_a_new_session_with_all_values(browser: Client, service: Service) -> None:
    browser.get("/count")
    before = browser.cookies[COOKIE].value

    key_in_view = browser.get("/log-in/ada").content.decode()

    after = browser.cookies[COOKIE].value
    assert key_in_view == after != before
    assert browser.get("/read").content == b"1"
    # The visitor's session lives for another minute, for requests in progress.
    visitor = stored(service, before)
    assert visitor["AbsoluteExpirationTime"] == visitor["ExpirationTime"]
    assert int(visitor["ExpirationTime"]["N"]) - int(visitor["RenewedAt"]["N"]) == 60
    assert "UserId" not in visitor
    assert stored(service, after)["UserId"] == {"S": str(user("ada").pk)}
    assert stored(service, after)["Client"]["M"] == {
        "ip": {"S": "127.0.0.1"},
        "user_agent": {"S": "Browser/1"},
    }


def test_failed_log_in_leaves_the_visitors_session_unchanged(
    browser: Client, service: Service
) -> None:
    browser.get("/count")

    assert browser.get("/log-in-and-fail/ada").status_code == 500

    assert browser.get("/read").content == b"1"
    assert users_sessions(service) == []


def test_log_in_that_cannot_be_stored_leaves_the_visitors_session_unchanged(
    browser: Client, service: Service
) -> None:
    """The former session ends only after the new session has been stored."""
    browser.get("/count")

    def reject_creations(call: faults.Call) -> None:
        (faults.throttled if call.path == "/sessions" else forward)(call)

    service.plan(always=reject_creations)
    assert browser.get("/log-in/ada").status_code == 503

    service.plan()
    assert browser.get("/read").content == b"1"
    assert browser.get("/log-in/ada").status_code == 200
    assert len(users_sessions(service)) == 1


def test_log_in_as_another_user_starts_without_values(browser: Client, service: Service) -> None:
    browser.get("/log-in/ada")
    browser.get("/count")

    browser.get("/log-in/grace")

    assert browser.get("/read").content == b"None"
    [session] = users_sessions(service)
    assert session["UserId"] == {"S": str(user("grace").pk)}


def test_user_id_that_is_set_by_hand_starts_a_new_session(service: Service) -> None:
    """The user of a session in the service never changes."""
    session = SessionStore()
    session["a"] = 1
    session.save()
    before = session.session_key

    session["_auth_user_id"] = 5
    session.save()
    assert stored(service, before)["TtlSeconds"] == {"N": "60"}
    assert stored(service, session.session_key)["UserId"] == {"S": "5"}

    session["_auth_user_id"] = 6
    first_users_key = session.session_key
    session.save()
    assert stored(service, first_users_key)["RevokedReason"] == {"S": "signed_in"}

    second_users_key = session.session_key
    del session["_auth_user_id"]
    session.save()
    assert stored(service, second_users_key)["RevokedReason"] == {"S": "logout"}
    assert dict(SessionStore(session.session_key)) == {"a": 1}


def test_log_out_ends_the_session(browser: Client, service: Service) -> None:
    browser.get("/log-in/ada")
    token = browser.cookies[COOKIE].value

    answer = browser.get("/log-out")

    assert answer.cookies[COOKIE]["max-age"] == 0
    assert stored(service, token)["RevokedReason"] == {"S": "logout"}
    assert browser.get("/who").content == b"AnonymousUser"


def test_log_out_deletes_the_cookie_of_another_engine(browser: Client, service: Service) -> None:
    """Reading deletes no cookie, because the response may arrive after that of a log-in."""
    browser.cookies[COOKIE] = "a key of the former engine"

    assert COOKIE not in browser.get("/read").cookies
    assert browser.get("/flush").cookies[COOKIE]["max-age"] == 0
    assert calls(service) == []


def test_log_out_leaves_a_cookie_of_another_name(browser: Client) -> None:
    """Django's parser takes it for the session cookie, which may be new since a log-in."""
    planted = f"\u00a0{COOKIE}=planted".encode().decode("latin-1")

    assert COOKIE not in browser.get("/flush", HTTP_COOKIE=planted).cookies


def test_change_of_password_cycles_the_key(browser: Client, service: Service) -> None:
    browser.get("/log-in/ada")
    before = browser.cookies[COOKIE].value

    browser.get("/password")

    assert browser.cookies[COOKIE].value != before
    assert browser.get("/who").content == b"ada"
    assert len(users_sessions(service)) == 1
    late_request = Client()
    late_request.cookies[COOKIE] = before
    assert late_request.get("/who").content == b"ada", "requests in progress have the former key"


def test_poll_during_a_change_of_password_does_not_end_the_session(
    browser: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django flushes the session, because it does not match the new password yet."""
    browser.get("/log-in/ada")
    poll = Client()
    poll.cookies[COOKIE] = browser.cookies[COOKIE].value

    with monkeypatch.context() as context:
        context.setitem(globals(), "POLLS", [poll])
        assert browser.get("/password").status_code == 200

    assert browser.get("/who").content == b"ada"
    assert len(users_sessions(service)) == 1


def test_session_from_before_a_change_of_password_ends(browser: Client, service: Service) -> None:
    browser.get("/log-in/ada")
    ada = user("ada")
    ada.set_password("another one")
    ada.save()
    calls(service)

    answer = browser.get("/who")

    assert answer.content == b"AnonymousUser"
    assert answer.cookies[COOKIE]["max-age"] == 0
    assert calls(service) == [VERIFY, VERIFY, "DELETE /sessions/…?reason=logout"]
    assert users_sessions(service) == []


def test_former_key_that_an_app_has_stored_is_no_theft(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some Django apps store keys in their own tables, and check whether the sessions exist."""
    session = SessionStore()
    session["_auth_user_id"] = "5"
    session.save()
    former_key = session.session_key
    session.cycle_key()
    # allauth ends all sessions except the one with the current key, before the middleware saves.
    SessionStore().delete(former_key)
    assert not SessionStore().exists(former_key)
    session.save()
    assert SessionStore(session.session_key).load() == {"_auth_user_id": "5"}

    for seconds in (0, 3600):
        now = time.time() + seconds
        monkeypatch.setattr("clock.time", lambda now=now: now)
        assert not SessionStore().exists(former_key)
        SessionStore().delete(former_key)
        assert SessionStore().exists(session.session_key)
    SessionStore().delete(session.session_key)
    assert not SessionStore().exists(session.session_key)


def test_key_of_a_session_that_has_ended_is_not_cycled(service: Service) -> None:
    session = SessionStore()
    session["_auth_user_id"] = "5"
    session.save()
    before = session.session_key
    SessionStore().delete(before)

    session.cycle_key()

    assert session.session_key == before
    with pytest.raises(UpdateError):
        session.save()


def test_session_id_alone_ends_no_session(browser: Client, service: Service) -> None:
    """The session id is not a secret, so the whole key must be valid."""
    browser.get("/log-in/ada")
    forged = browser.cookies[COOKIE].value[:13] + "A" * 27
    thief = Client()
    thief.cookies[COOKIE] = forged

    thief.get("/flush")
    SessionStore().delete(forged)

    assert browser.get("/who").content == b"ada"


def test_key_from_a_cookie_is_never_used_for_a_new_session(service: Service) -> None:
    planted = f"{'A' * 12}.{'B' * 27}"
    with pytest.raises(CreateError):
        SessionStore(planted).save(must_create=True)
    visitor = Client()
    visitor.cookies[COOKIE] = planted

    visitor.get("/count")

    assert visitor.cookies[COOKIE].value != planted


# Values


VALUES: dict[Any, Any] = {
    "types": [True, 1, 1.0, -0.0, "1", None, {}, [], {"": {"a": None}}],
    "null": None,
    "": "an empty key",
    "~": "a key that packing.py reserves",
    "n" * 300: "a long key",
    "numbers": [10**40, 2**53 + 1, 5e-324, 1.7e308, 1e22, 0.1],
    "text": "\ud800 é \u0000",
    7: "a key that is not a string",
    "_auth_user": "a name like Django's own",
}


def test_values_come_back_as_from_djangos_own_stores(service: Service) -> None:
    session = SessionStore()
    serializer = session.serializer()
    session.update(VALUES)
    session.save()

    read = SessionStore(session.session_key)
    read["more"] = 1
    read.save()

    expected = serializer.loads(serializer.dumps(VALUES)) | {"more": 1}
    assert repr(sorted(SessionStore(session.session_key).items())) == repr(sorted(expected.items()))


def test_eight_requests_at_once_keep_eight_keys(browser: Client, service: Service) -> None:
    """Every request makes exactly one write."""
    browser.get("/count")
    token = browser.cookies[COOKIE].value
    calls(service)

    def request(key: str) -> int:
        client = Client()
        client.cookies[COOKIE] = token
        return client.get(f"/write/{key}").status_code

    keys = [f"key{i}" for i in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(request, keys)) == [200] * 8

    sent = calls(service)
    assert sent.count("PATCH /sessions/…") == 8
    assert set(sent) == {"PATCH /sessions/…", VERIFY}
    assert dict(SessionStore(token)) == {"n": 1} | {key: key for key in keys}


def test_changes_of_different_keys_are_merged(service: Service) -> None:
    """One request sets a key, one removes a key, and one changes a list."""
    first = SessionStore()
    first.update({"a": 1, "b": 1, "c": [1]})
    first.save()
    second, third = SessionStore(first.session_key), SessionStore(first.session_key)
    second.load(), third.load()

    first["a"] = 2
    del second["b"]
    third["c"].append(2)
    for session in (second, third, first, second):
        session.save()

    assert dict(SessionStore(first.session_key)) == {"a": 2, "c": [1, 2]}


def test_copy_of_a_store_has_values_of_its_own(service: Service) -> None:
    session = SessionStore()
    session["a"] = [1]
    new = copy.deepcopy(session)
    session.save()
    loaded = copy.deepcopy(session)
    assert (new.session_key, loaded.session_key) == (None, session.session_key)

    for duplicate in (new, loaded):
        duplicate["a"].append(2)
        assert session["a"] == [1]
        duplicate.save()
        assert dict(SessionStore(duplicate.session_key)) == {"a": [1, 2]}
    session.cycle_key()
    assert copy.deepcopy(session).session_key is None, "the new key is not stored yet"


def test_more_data_than_one_request_accepts(service: Service) -> None:
    """The session has 250 keys and 200 KB when it is created, changed, and moved by a log-in."""
    session = SessionStore()
    session.update({f"a{i}": "x" * 400 for i in range(250)})
    session.save()
    session.update({f"b{i}": "x" * 400 for i in range(250)})
    for i in range(150):
        del session[f"a{i}"]
    session.save()

    session.cycle_key()
    session["_auth_user_id"] = "5"
    session.save()

    read = SessionStore(session.session_key)
    assert len(read.keys()) == 351
    assert stored(service, session.session_key)["UserId"] == {"S": "5"}


def test_unreadable_data_counts_as_no_session(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """This happens after a change of SESSION_SERIALIZER."""
    session = SessionStore()
    session["a"] = 1
    session.save()
    _sessions().change(id_of(session.session_key), {"b": {"base64": "/w=="}})

    read = SessionStore(session.session_key)

    assert dict(read) == {}
    assert read.session_key is None
    assert "can't be read" in caplog.text


# Expiry


def test_set_expiry_keeps_the_key(browser: Client, service: Service) -> None:
    browser.get("/count")
    token = browser.cookies[COOKIE].value
    calls(service)

    answer = browser.get("/expire/600")

    assert calls(service) == [VERIFY, "PATCH /sessions/…", "POST /sessions/…/renew"]
    assert COOKIE not in answer.cookies
    assert stored(service, token)["TtlSeconds"] == {"N": "600"}
    browser.get("/expire/0")
    assert stored(service, token)["TtlSeconds"] == {"N": str(settings.SESSION_COOKIE_AGE)}
    calls(service)
    browser.get("/count")
    assert calls(service) == [VERIFY, "PATCH /sessions/…"]


@pytest.mark.usefixtures("stopped_clocks")
def test_cookie_that_gains_or_loses_its_expiry_date_has_a_new_token(
    browser: Client, service: Service
) -> None:
    """A cookie is only set with a new token. Otherwise a late response could set an old token."""
    first = browser.get("/count").cookies[COOKIE]
    assert first["max-age"] == 400 * 86400

    second = browser.get("/browser-close").cookies[COOKIE]
    third = browser.get("/expire/600").cookies[COOKIE]

    assert len({first.value, second.value, third.value}) == 3
    assert second["max-age"] == ""
    assert 0 < third["max-age"] <= 400 * 86400
    assert browser.get("/read").content == b"1"
    assert len(service.items()) == 1


def test_expiry_is_limited_to_the_services_maximum(service: Service) -> None:
    """Some sites remember a user for ten years."""
    session = SessionStore()
    session["a"] = 1
    session.save()
    session.set_expiry(3650 * 86400)
    session.save()

    item = stored(service, session.session_key)
    assert item["TtlSeconds"] == {"N": str(400 * 86400)}
    assert item["ExpirationTime"] == item["AbsoluteExpirationTime"]


def test_session_ends_at_its_fixed_expiry(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service does not know this expiry, so a renewal there can go past it."""
    session = SessionStore()
    session["a"] = 1
    session.set_expiry(timedelta(seconds=1000))
    session.save()
    key = session.session_key
    calls(service)

    later = timezone.now() + timedelta(seconds=100)
    with monkeypatch.context() as context:
        context.setattr(timezone, "now", lambda: later)
        session["a"] = 2
        session.save()
    assert calls(service) == ["PATCH /sessions/…"], "the passing of time does not renew the session"
    assert dict(SessionStore(key))["a"] == 2

    _sessions().change(
        id_of(key), {"_session_expiry": (timezone.now() - timedelta(seconds=1)).isoformat()}
    )
    assert dict(SessionStore(key)) == {}
    assert stored(service, key)["RevokedReason"] == {"S": "expired"}


def test_expiry_in_the_past_ends_the_session(service: Service) -> None:
    session = SessionStore()
    session["a"] = 1
    session.save()
    key = session.session_key

    session.set_expiry(-1)
    session.save()

    assert stored(service, key)["RevokedReason"] == {"S": "expired"}
    assert len(service.items()) == 1
    session.set_expiry(None)
    session.save()
    assert dict(SessionStore(session.session_key)) == {"a": 1}


def test_clear_expired_has_nothing_to_do(service: Service) -> None:
    SessionStore.clear_expired()
    async_to_sync(SessionStore.aclear_expired)()
    assert calls(service) == []


# Changes by others in the meantime


@pytest.mark.parametrize("change", ["a", "_session_expiry"])
def test_session_that_ended_meanwhile_stays_ended(service: Service, change: str) -> None:
    session = SessionStore()
    session["a"] = 1
    session.save()
    SessionStore().delete(session.session_key)

    session[change] = 2
    with pytest.raises(UpdateError):
        session.save()

    assert session.load() == {}
    assert len(service.items()) == 1


def test_request_of_a_session_that_ended_meanwhile_is_400(
    browser: Client, service: Service
) -> None:
    """Django raises SessionInterrupted."""
    browser.get("/log-in/ada")
    token = browser.cookies[COOKIE].value

    def end_after_verify(call: faults.Call) -> None:
        reply = call.forward()
        service.plan()
        _sessions().revoke(id_of(token))
        call.send(reply)

    service.plan(end_after_verify)
    answer = browser.get("/count")

    assert answer.status_code == 400
    assert users_sessions(service) == []


def test_data_of_another_program_is_not_changed(service: Service) -> None:
    """As a Python float, the number would change."""
    session = SessionStore()
    session["a"] = 1
    session.save()
    number = Decimal("0.1000000000000000000001")
    changed = _sessions().change(id_of(session.session_key), {"number": number, "half": 2.5})

    other = SessionStore(session.session_key)
    assert dict(other) == {"a": 1, "number": 0.1, "half": 2.5}
    other["a"] = 2
    other.save()

    data = _sessions().get(changed.session_id).data
    assert data == {"a": 2, "number": number, "half": 2.5}


def test_values_that_are_set_without_reading_replace_all(service: Service) -> None:
    session = SessionStore()
    session.update({"a": 1, "b": 1})
    session.save()

    replacing = SessionStore(session.session_key)
    replacing.clear()
    replacing["c"] = 1
    replacing.save()

    assert dict(SessionStore(session.session_key)) == {"c": 1}


# Outages


def forward(call: faults.Call) -> None:
    call.send(call.forward())


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("/who", faults.frozen),
        ("/who", faults.unavailable),
        ("/page", faults.throttled),
        ("/none?read", faults.throttled),
        ("/count", faults.reset),
        ("/log-out", faults.throttled),
        ("/flush", faults.throttled),
        ("/password", faults.throttled),
    ],
)
def test_outage_is_a_503_and_signs_nobody_out(
    browser: Client, service: Service, fault: faults.Fault, url: str
) -> None:
    """The session is used in a view, in a template, or in a middleware."""
    browser.get("/log-in/ada")
    token = browser.cookies[COOKIE].value

    service.plan(always=fault)
    answer = browser.get(url)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert COOKIE not in answer.cookies
    service.plan()
    assert browser.get("/who").content == b"ada"
    assert browser.cookies[COOKIE].value == token


def test_outage_in_a_view_is_not_reported_as_an_error(service: Service) -> None:
    """The test client would raise such an error, and a site would report it."""
    browser = Client()
    browser.get("/count")
    service.plan(always=faults.throttled)
    assert browser.get("/read").status_code == 503


@pytest.mark.parametrize("url", ["/count", "/log-out", "/log-in/grace", "/expire/60"])
def test_outage_between_reading_and_writing(browser: Client, service: Service, url: str) -> None:
    browser.get("/log-in/ada")
    service.plan(forward, always=faults.throttled)

    answer = browser.get(url)

    assert answer.status_code == 503
    assert COOKIE not in answer.cookies
    service.plan()
    assert browser.get("/who").content == b"ada"
    assert browser.get(url).status_code == 200
    assert len(users_sessions(service)) == (0 if url == "/log-out" else 1)


def test_lost_answers_create_no_second_session(browser: Client, service: Service) -> None:
    browser.get("/count")
    service.plan(*[faults.lose_answer, forward] * 3)

    assert browser.get("/log-in/ada").status_code == 200

    service.plan()
    assert len(users_sessions(service)) == 1
    assert browser.get("/who").content == b"ada"
    assert browser.get("/read").content == b"1"
    service.plan(faults.lose_answer, faults.lose_answer)
    assert browser.get("/log-out").status_code == 200
    assert users_sessions(service) == []


def test_lost_answer_of_a_change(browser: Client, service: Service) -> None:
    browser.get("/count")
    service.plan(forward, faults.lose_answer)

    answer = browser.get("/count")

    service.plan()
    assert answer.status_code == 200
    assert browser.get("/read").content == b"2"


def test_log_in_succeeds_even_if_the_visitors_session_cannot_be_ended(
    browser: Client, service: Service
) -> None:
    browser.get("/count")
    service.plan(forward, forward, always=faults.throttled)

    assert browser.get("/log-in/ada").status_code == 200

    service.plan()
    assert browser.get("/who").content == b"ada"


def test_save_fails_until_the_former_users_session_is_ended(service: Service) -> None:
    """A thief may have its key, so the former session must end."""
    session = SessionStore()
    session["_auth_user_id"] = "5"
    session.save()
    session["_auth_user_id"] = "6"

    service.plan(forward, always=faults.throttled)
    with pytest.raises(Unavailable):
        session.save()
    service.plan()
    session.save()

    [item] = users_sessions(service)
    assert item["SessionId"]["S"] == id_of(session.session_key)


def test_save_after_an_outage_creates_no_second_session(service: Service) -> None:
    session = SessionStore()
    session["a"] = 1
    service.plan(always=faults.answer_503)
    with pytest.raises(Unavailable):
        session.save()
    service.plan()

    session.save()

    assert len(service.items()) == 1
    assert dict(SessionStore(session.session_key)) == {"a": 1}


def test_restart_is_not_noticed(browser: Client, service: Service) -> None:
    browser.get("/log-in/ada")
    service.restart()
    assert browser.get("/count").status_code == 200
    assert browser.get("/who").content == b"ada"


CSRF_IN_SESSIONS = {
    "CSRF_USE_SESSIONS": True,
    "MIDDLEWARE": [*OVERRIDDEN["MIDDLEWARE"], "django.middleware.csrf.CsrfViewMiddleware"],
}


def test_outage_with_the_csrf_token_in_the_session(service: Service) -> None:
    """Django's own error page reads the session again, and its error leaves all middlewares."""
    with override_settings(**CSRF_IN_SESSIONS):
        browser = Client(raise_request_exception=False)
        browser.get("/log-in/ada")
        service.plan(always=faults.throttled)
        answer = browser.get("/who")
        assert (answer.status_code, COOKIE in answer.cookies) == (503, False)
        assert answer.headers["Retry-After"]
        service.plan()
        assert browser.get("/who").content == b"ada"


def test_async_outage_with_the_csrf_token_in_the_session(service: Service) -> None:
    async def visit() -> None:
        browser = AsyncClient(raise_request_exception=False)
        await browser.get("/async/log-in/ada")
        service.plan(always=faults.throttled)
        assert (await browser.get("/async/who")).status_code == 503
        service.plan()
        assert (await browser.get("/async/who")).content == b"ada"

    with override_settings(**CSRF_IN_SESSIONS):
        run_async(visit)


def test_request_does_not_wait_twice_for_its_session(browser: Client, service: Service) -> None:
    browser.get("/count")
    store = SessionStore(browser.cookies[COOKIE].value)
    store.request = HttpRequest()
    service.plan(always=faults.throttled)
    with pytest.raises(Unavailable):
        store.get("n")
    calls(service)
    with pytest.raises(Unavailable):
        store.get("n")
    assert calls(service) == []


def test_dead_key_is_no_error_if_every_request_saves(browser: Client, service: Service) -> None:
    browser.get("/log-in/ada")
    key = browser.cookies[COOKIE].value
    browser.get("/flush")
    browser.cookies[COOKIE] = key
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        assert browser.get("/none").status_code == 200


def test_store_outside_of_a_request_can_be_loaded_after_an_outage(
    browser: Client, service: Service
) -> None:
    browser.get("/count")
    store = SessionStore(browser.cookies[COOKIE].value)
    service.plan(always=faults.throttled)
    with pytest.raises(Unavailable):
        store.get("n")
    service.plan()
    assert store.get("n") == 1


def test_outage_page_is_the_sites_own(browser: Client, service: Service) -> None:
    browser.get("/count")
    loader = ("django.template.loaders.locmem.Loader", {"503.html": "Back soon."})
    engine = {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"loaders": [loader]},
    }
    service.plan(always=faults.throttled)
    with override_settings(TEMPLATES=[engine]):
        assert browser.get("/read").content == b"Back soon."


def test_djangos_own_middleware_makes_a_500_of_an_outage(browser: Client, service: Service) -> None:
    with_djangos_own = [
        name.replace("serverless_sessions.django", "django.contrib.sessions")
        for name in settings.MIDDLEWARE
    ]
    with override_settings(MIDDLEWARE=with_djangos_own):
        browser = Client(raise_request_exception=False)
        browser.get("/log-in/ada")
        service.plan(always=faults.throttled)
        answer = browser.get("/who")
        assert (answer.status_code, COOKIE in answer.cookies) == (500, False)
        service.plan()
        assert browser.get("/who").content == b"ada"


# Async


def run_async(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        try:
            await test()
        finally:
            await _async_sessions().aclose()

    async_to_sync(run)()


def test_async_views(service: Service) -> None:
    async def visit() -> None:
        browser = AsyncClient()
        for n in (b"1", b"2"):
            assert (await browser.get("/async/count")).content == n
        before = browser.cookies[COOKIE].value
        key_in_view = (await browser.get("/async/log-in/ada")).content.decode()
        assert key_in_view == browser.cookies[COOKIE].value != before
        assert (await browser.get("/async/who")).content == b"ada"
        assert (await browser.get("/async/count")).content == b"3"
        assert stored(service, before)["TtlSeconds"] == {"N": "60"}
        await browser.get("/async/log-out")
        assert (await browser.get("/async/who")).content == b"AnonymousUser"
        assert users_sessions(service) == []

    run_async(visit)


def test_async_views_under_wsgi_keep_their_connections(browser: Client, service: Service) -> None:
    """asgiref runs each of them on an event loop of its own."""
    browser.get("/async/count")
    former = service.connections
    for n in (b"2", b"3"):
        assert browser.get("/async/count").content == n
    assert browser.get("/async/log-in/ada").status_code == 200
    assert browser.get("/async/who").content == b"ada"
    assert service.connections == former


@pytest.mark.parametrize("session", [None, SignedCookies()])
@pytest.mark.parametrize("name", ["require_recent", "stop_impersonating"])
def test_guard_needs_the_session_engine(name: str, session: SignedCookies | None) -> None:
    # They can only be imported after Django's configuration.
    from django.contrib.auth.models import AnonymousUser

    from serverless_sessions.django import guard

    functions = {
        "require_recent": guard.require_recent(300)(no_session),
        "stop_impersonating": guard.stop_impersonating,
    }
    request = HttpRequest()
    request.user = AnonymousUser()
    if session is not None:
        request.session = session
    with pytest.raises(ImproperlyConfigured, match="SESSION_ENGINE"):
        functions[name](request)


def test_sync_access_in_an_async_view_is_refused(service: Service) -> None:
    """It would block the event loop. Django's own stores in the database refuse it as well."""

    async def visit() -> None:
        browser = AsyncClient()
        await browser.get("/async/count")
        calls(service)
        with pytest.raises(SynchronousOnlyOperation, match="aget"):
            await browser.get("/async/sync-read")
        assert calls(service) == []
        assert (await browser.get("/async/sync-read-of-a-loaded-session")).content == b"1"

    run_async(visit)


def test_async_session_from_before_a_change_of_password_ends(service: Service) -> None:
    async def visit() -> None:
        browser = AsyncClient()
        await browser.get("/async/log-in/ada")
        ada = await auth.get_user_model().objects.aget(username="ada")
        ada.set_password("yet another one")
        await ada.asave()
        calls(service)
        assert (await browser.get("/async/who")).content == b"AnonymousUser"
        assert calls(service) == [VERIFY, VERIFY, "DELETE /sessions/…?reason=logout"]

    run_async(visit)


def test_async_outage_is_a_503(service: Service) -> None:
    async def visit() -> None:
        browser = AsyncClient(raise_request_exception=False)
        await browser.get("/async/log-in/ada")
        service.plan(always=faults.throttled)
        answer = await browser.get("/async/who")
        assert (answer.status_code, COOKIE in answer.cookies) == (503, False)
        service.plan()
        assert (await browser.get("/async/who")).content == b"ada"

    run_async(visit)


def test_async_store(service: Service) -> None:
    async def use() -> None:
        session = SessionStore()
        await session.aset("a", 1)
        await session.asave()
        before = str(session.session_key)
        await session.acycle_key()
        assert not await session.aexists(before)
        await session.asave()
        assert await session.aexists(before), "requests in progress have the former key"
        assert await session.aexists(session.session_key)
        assert await SessionStore(session.session_key).aload() == {"a": 1}
        await session.aflush()
        assert session.session_key is None
        await session.acreate()
        await session.adelete()
        await session.aset("a", 2)
        with pytest.raises(UpdateError):
            await session.asave()

    run_async(use)
