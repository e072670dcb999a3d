"""The page "Where you are signed in" in every framework."""

from __future__ import annotations

import asyncio
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from html import unescape
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import AsyncClient, override_settings
from django.urls import include, path
from flask import Flask
from flask import request as flask_request
from flask import session as flask_session
from flask_login import LoginManager, UserMixin
from jinja2 import Environment, FileSystemLoader
from starlette.templating import Jinja2Templates

from serverless_sessions import Client, Impersonator, Sessions
from serverless_sessions._web.devices import TEXTS
from serverless_sessions._web.same_origin import is_same_origin
from serverless_sessions.django import _async_sessions
from serverless_sessions.flask_devices import devices_blueprint
from serverless_sessions.starlette_devices import devices_app
from tests.client import sites
from tests.client.moving_clock import MovingClock
from tests.client.sites import FRAMEWORKS, Browser, DjangoBrowser, FlaskBrowser, StarletteBrowser
from tests.support import service as faults
from tests.support.django_users import Backend
from tests.support.service import Call, Service
from tests.support.template import ROOT

PAGE = (ROOT / "docs/integrating/devices.md").read_text()
URL = "/account/devices/"
LINUX = Client("203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0")
IPHONE = Client("198.51.100.20", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0) Safari/604.1")

urlpatterns: list[Any] = []


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def query(self) -> str:
        """The query of a redirect to the page."""
        return self.headers["location"].removeprefix(URL)

    @property
    def title(self) -> str:
        return unescape(self.text.partition("<title>")[2].partition("</title>")[0])

    @property
    def visible(self) -> str:
        """The text without tags and styles, with single spaces."""
        text = re.sub("<style>.*?</style>", "", self.text, flags=re.DOTALL)
        return " ".join(unescape(re.sub("<[^>]*>", " ", text)).split())

    @property
    def buttons(self) -> dict[str, str]:
        """The names of the buttons by their values."""
        buttons = re.findall(
            r'<button name="sign_out" value="(.*?)"(?: aria-label="(.*?)")?>(.*?)<', self.text
        )
        return {value: unescape(label or text) for value, label, text in buttons}


class Site:
    """A site of a framework with the page, and a browser for it."""

    def __init__(self, browser: Browser, url: str = URL) -> None:
        self.browser = browser
        self.url = url
        is_flask = isinstance(browser, FlaskBrowser)
        self.origin = "http://localhost" if is_flask else "https://testserver"
        self._fields: dict[str, str] = {}

    def open(self, query: str = "") -> Answer:
        answer = self._send("GET", self.url + query, {}, {"Accept": "text/html"})
        # The form contains Django's CSRF token.
        if answer.status == 200:
            self._fields = dict(
                re.findall(r'type="hidden" name="(.*?)" value="(.*?)"', answer.text)
            )
        return answer

    def press(self, value: str, **headers: str) -> Answer:
        """Send the form of the page that was opened last, by default as a browser does."""
        headers = headers or {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"}
        return self._send("POST", self.url, self._fields | {"sign_out": value}, headers)

    def put(self) -> Answer:
        return self._send("PUT", self.url, {}, {"Accept": "text/html"})

    def _send(self, method: str, url: str, form: dict[str, str], headers: dict[str, str]) -> Answer:
        client: Any = self.browser.client  # type: ignore[attr-defined]
        if isinstance(self.browser, DjangoBrowser):
            form_type = "application/x-www-form-urlencoded"
            answer = client.generic(
                method, url, urlencode(form), form_type, secure=True, headers=headers
            )
            text = answer.content.decode()
        elif isinstance(self.browser, FlaskBrowser):
            answer = client.open(url, method=method, data=form or None, headers=headers)
            text = answer.text
        else:
            answer = client.request(
                method, url, data=form or None, headers=headers, follow_redirects=False
            )
            text = answer.text
        received = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, received, text)


@contextmanager
def site(
    framework: str, service: Service, folder: Path, *, has_tenant: bool = False, **options: Any
) -> Iterator[Site]:
    """Open a site whose own templates are in the folder. The page's URL may contain a tenant."""
    url = f"/shop{URL}" if has_tenant else URL
    with FRAMEWORKS[framework](service) as browser:
        match browser:
            case DjangoBrowser():
                browser.client.handler.enforce_csrf_checks = True
                with _django(f"<slug:tenant>{URL}" if has_tenant else URL[1:], folder, options):
                    yield Site(browser, url)
            case FlaskBrowser():
                browser._app.jinja_loader = FileSystemLoader(folder)
                prefix = f"/<tenant>{URL[:-1]}" if has_tenant else URL[:-1]
                browser._app.register_blueprint(devices_blueprint(**options), url_prefix=prefix)
                yield Site(browser, url)
            case StarletteBrowser():
                options.setdefault("templates", Jinja2Templates(folder))
                prefix = f"/{{tenant}}{URL[:-1]}" if has_tenant else URL[:-1]
                browser._app.mount(prefix, devices_app(**options), name="serverless_sessions")
                yield Site(browser, url)


def _django(route: str, folder: Path, options: dict[str, Any]) -> AbstractContextManager[None]:
    devices = path(route, include("serverless_sessions.django.devices.urls"), options)
    return _django_project(folder, "serverless_sessions.django.devices", devices)


@contextmanager
def _django_project(folder: Path, installed: str, devices: Any) -> Iterator[None]:
    urlpatterns[:] = [*sites.urlpatterns, devices]
    with override_settings(
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", installed],
        ROOT_URLCONF=__name__,
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "DIRS": [folder],
            }
        ],
    ):
        yield


OpenSite = Callable[..., AbstractContextManager[Site]]


@pytest.fixture
def service(service_in_memory: Service) -> Service:
    return service_in_memory


@pytest.fixture(params=FRAMEWORKS)
def open_site(request: pytest.FixtureRequest, service: Service, tmp_path: Path) -> OpenSite:
    return lambda **options: site(request.param, service, tmp_path, **options)


@pytest.fixture
def signed_in(open_site: OpenSite) -> Iterator[Site]:
    """A site in whose browser the user 1 is signed in."""
    with open_site() as site:
        site.browser.do("log-in 1")
        yield site


@pytest.fixture
def sessions(service: Service, clock: MovingClock) -> Iterator[Sessions]:
    with Sessions(service.url, region=service.region, deadline_seconds=60.0) as sessions:
        yield sessions


def sign_in(sessions: Sessions, client: Client, user: str = "1", **options: Any) -> str:
    """Sign a user in on another device, and return the id of the session."""
    return sessions.create(user, client=client, **options).session.session_id


def ends(service: Service) -> dict[str, str]:
    """Return the reasons of all revocations by session id."""
    return {
        item["SessionId"]["S"]: item["RevokedReason"]["S"]
        for item in service.items()
        if "RevokedAt" in item
    }


# What the page shows


def test_page_lists_the_devices(signed_in: Site, sessions: Sessions, clock: MovingClock) -> None:
    """The current device comes first, then those that were active most recently."""
    clock.ahead += 60
    phone = sign_in(sessions, IPHONE)
    clock.ahead += 60
    laptop = sign_in(sessions, LINUX)
    clock.ahead += 60
    sign_in(sessions, LINUX, "2")
    sessions.renew(phone)

    answer = signed_in.open()

    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "Cookie" in answer.headers["vary"]
    names = re.findall(r"<h2>(.*?)(?: <strong>|</h2>)", answer.text)
    assert names[1:] == ["Safari on iPhone", "Firefox on Linux"]
    assert [*answer.buttons] == [phone, laptop, "others"]
    assert answer.text.count("(this device)") == 1
    assert "(this device)" in answer.text.partition("</h2>")[0]
    assert "Address 198.51.100.20" in answer.visible


def test_buttons_say_which_device_they_end(signed_in: Site, sessions: Sessions) -> None:
    phone = sign_in(sessions, IPHONE)

    answer = signed_in.open()

    [signed_in_at] = set(re.findall(r"<dt>Signed in</dt> <dd>(.*?)</dd>", answer.text))
    assert re.search(r"\d\d:\d\d UTC|[ap]\.m\.|noon|midnight", signed_in_at)
    assert unescape(answer.buttons[phone]) == (
        f"Sign out: Safari on iPhone, 198.51.100.20, signed in {signed_in_at}"
    )
    assert answer.buttons["others"] == "Sign out all other devices"


def test_only_device_has_nothing_to_sign_out(signed_in: Site) -> None:
    answer = signed_in.open()
    assert answer.buttons == {}
    assert "You are not signed in on any other device." in answer.visible
    assert "do not recognize" not in answer.visible


def test_device_is_shown_as_it_was_last_seen(
    signed_in: Site, sessions: Sessions, clock: MovingClock
) -> None:
    token = sessions.create("1", client=LINUX).token
    clock.ahead += 600
    sessions.verify(token, client=IPHONE)

    answer = signed_in.open()

    assert "Safari on iPhone" in answer.visible
    assert str(LINUX.ip) not in answer.visible


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, "
            "like Gecko) Version/26.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S918B Build/UP1A.231005.007) AppleWebKit/537.36 "
            "(KHTML, like Gecko) Chrome/140.0.7339.51 Mobile Safari/537.36 EdgA/140.0.3485.71",
            "Edge on Android",
        ),
    ],
)
def test_device_keeps_its_name_after_a_renewal(
    signed_in: Site, sessions: Sessions, clock: MovingClock, user_agent: str, name: str
) -> None:
    """The service stores fewer characters of the user agent of a renewal than of a log-in."""
    token = sessions.create("1", client=Client(user_agent=user_agent)).token
    clock.ahead += 600
    session = sessions.verify(token, client=Client(user_agent=user_agent))
    assert session
    assert len(session.last_client.user_agent or "") == 128

    assert f"<h2>{name}</h2>" in signed_in.open().text


def test_session_of_support_shows_nothing_of_the_agent(signed_in: Site, sessions: Sessions) -> None:
    agent = sign_in(sessions, LINUX, impersonator=Impersonator("agent-7", "ticket-42"))

    answer = signed_in.open()

    assert "Somebody who acts as you, for example support" in answer.visible
    for fact in ("agent-7", "ticket-42", "Firefox", LINUX.ip):
        assert str(fact) not in answer.text
    assert signed_in.press(agent).status == 303


def test_page_shows_a_hundred_other_devices(
    signed_in: Site, sessions: Sessions, service: Service, clock: MovingClock
) -> None:
    """The current one is always among them, although it is older than the hundred."""
    clock.ahead += 1
    for _ in range(100):
        sign_in(sessions, LINUX)
    answer = signed_in.open()
    assert len(answer.buttons) == 101
    assert "more devices" not in answer.visible
    sign_in(sessions, LINUX)

    answer = signed_in.open()

    assert len(answer.buttons) == 101
    assert "(this device)" in answer.visible
    assert "You are signed in on more devices than this page shows." in answer.visible
    assert signed_in.press("others").status == 303
    assert len(ends(service)) == 101
    assert "(this device)" in signed_in.open().visible


# What devices send


HOSTILE = Client("203.0.113.7", "<script>alert(1)</script>\" onclick='alert(1)' \x1b[2J")


def test_hostile_user_agent_is_escaped(signed_in: Site, sessions: Sessions) -> None:
    device = sign_in(sessions, HOSTILE)
    answer = signed_in.open()
    assert "<script" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
    assert answer.buttons[device].startswith(
        'Sign out: Unknown device: “<script>alert(1)</script>" onclick='
    )


def test_app_without_automatic_escaping(
    service: Service, sessions: Sessions, tmp_path: Path
) -> None:
    environment = Environment(loader=FileSystemLoader(tmp_path), autoescape=False)  # noqa: S701
    with site("Starlette", service, tmp_path, templates=Jinja2Templates(env=environment)) as here:
        here.browser.do("log-in 1")
        device = sign_in(sessions, HOSTILE)
        answer = here.open()
        assert "<script" not in answer.text
        assert '“<script>alert(1)</script>" onclick=' in answer.buttons[device]


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Safari on iPhone (this device)", "“Safari on iPhone (this device)”"),
        ("x” (this device)", "“x\N{REPLACEMENT CHARACTER} (this device)”"),
        ("%(name)s %(time)s %s", "“%(name)s %(time)s %s”"),
    ],
)
def test_device_cannot_imitate_the_page(
    signed_in: Site, sessions: Sessions, user_agent: str, name: str
) -> None:
    sign_in(sessions, Client(user_agent=user_agent))
    answer = signed_in.open()
    assert f"<h2>Unknown device: {name}</h2>" in answer.text
    assert answer.text.count("<strong>(this device)</strong>") == 1


def test_device_without_details(signed_in: Site, sessions: Sessions) -> None:
    sign_in(sessions, Client())
    answer = signed_in.open()
    [*_, device] = answer.visible.rpartition("Unknown device")
    assert "Address" not in device
    assert device.startswith(" Signed in ")


def test_long_user_agent_is_cut(signed_in: Site, sessions: Sessions) -> None:
    sign_in(sessions, Client(user_agent="A" * 100))
    assert f"<h2>Unknown device: “{'A' * 60}”</h2>" in signed_in.open().text


LARGE_FORM = {"a": "x" * 9000, "sign_out": "others"}
# It has less than 8 KB.
MANY_FIELDS = {str(number): "" for number in range(1000)} | {"sign_out": "others"}


@pytest.mark.parametrize(
    ("framework", "form"),
    [("Flask", LARGE_FORM), ("Starlette", LARGE_FORM), ("Starlette", MANY_FIELDS)],
)
def test_large_form_is_refused(
    service: Service, sessions: Sessions, tmp_path: Path, framework: str, form: dict[str, str]
) -> None:
    """Django has settings for this."""
    sign_in(sessions, IPHONE)
    with site(framework, service, tmp_path) as here:
        here.browser.do("log-in 1")
        here._fields = form
        assert here.press("others").status == 413
    assert ends(service) == {}


def test_large_form_is_not_read_to_its_end(service: Service, tmp_path: Path) -> None:
    count = 0

    async def receive() -> dict[str, Any]:
        nonlocal count
        count += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": count < 1000}

    with site("Starlette", service, tmp_path) as here:
        here.browser.do("log-in 1")
        app: Any = here.browser._app  # type: ignore[attr-defined]
        page = app.routes.pop().app
        app.mount(URL[:-1], lambda scope, _, send: page(scope, receive, send))
        assert here.press("others").status == 413
    assert count < 10


# What the buttons do


def test_other_device_is_signed_out_at_once(
    signed_in: Site, sessions: Sessions, service: Service
) -> None:
    phone, laptop = sessions.create("1", client=IPHONE), sign_in(sessions, LINUX)
    signed_in.open()

    answer = signed_in.press(phone.session.session_id)

    assert (answer.status, answer.query) == (303, "?outcome=device")
    assert answer.headers["cache-control"] == "no-store"
    assert sessions.verify(phone.token) is None
    assert ends(service) == {phone.session.session_id: "device_signed_out"}
    [end] = [item for item in service.items() if "RevokedAt" in item]
    assert end["Actor"]["S"].startswith("arn:aws:")
    page = signed_in.open(answer.query)
    assert '<p role="status">The device is signed out.</p>' in page.text
    assert page.title == "The device is signed out. – Where you are signed in"
    assert [*page.buttons] == [laptop, "others"]


def test_all_other_devices_are_signed_out(
    signed_in: Site, sessions: Sessions, service: Service
) -> None:
    others = [sign_in(sessions, client) for client in (LINUX, IPHONE)]
    stranger = sign_in(sessions, LINUX, "2")
    signed_in.open()

    answer = signed_in.press("others")

    assert (answer.status, answer.query) == (303, "?outcome=others")
    assert ends(service) == dict.fromkeys(others, "signed_out_elsewhere")
    assert sessions.get(stranger)
    page = signed_in.open(answer.query)
    assert "All other devices are signed out." in page.visible
    assert page.buttons == {}


def test_id_of_no_other_device_is_not_found(
    signed_in: Site, sessions: Sessions, service: Service
) -> None:
    """A second click, and a click on an outdated page, show the current list."""
    phone, foreign = sign_in(sessions, IPHONE), sign_in(sessions, LINUX, "2")
    [current] = {session.session_id for session in sessions.list("1")} - {phone}
    signed_in.open()

    for value in (foreign, "A" * 12, current, "", "../..", "é"):
        answer = signed_in.press(value)
        assert answer.status == 404, value
        assert "That device is not signed in any more." in answer.visible
        assert [*answer.buttons] == [phone, "others"]
    assert ends(service) == {}


def test_second_click_shows_the_page(signed_in: Site, sessions: Sessions) -> None:
    phone = sign_in(sessions, IPHONE)
    signed_in.open()
    assert [signed_in.press(phone).status for _ in range(2)] == [303, 404]


def test_get_changes_nothing(signed_in: Site, sessions: Sessions, service: Service) -> None:
    phone = sign_in(sessions, IPHONE)
    before = service.items()
    for query in ("", "?sign_out=others", f"?sign_out={phone}", "?outcome=others", "?outcome=<b>"):
        answer = signed_in.open(query)
        assert answer.status == 200
        assert 'role="status"' not in answer.text, "what the URL says is not true"
    assert service.items() == before


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_url_with_a_parameter(
    service: Service, sessions: Sessions, tmp_path: Path, framework: str
) -> None:
    phone = sign_in(sessions, IPHONE)
    with site(framework, service, tmp_path, has_tenant=True) as here:
        here.browser.do("log-in 1")
        assert phone in here.open().buttons
        answer = here.press(phone)
        assert answer.status == 303
        assert answer.headers["location"] in ("?outcome=device", f"{here.url}?outcome=device")
    assert ends(service) == {phone: "device_signed_out"}


def test_other_methods_are_not_allowed(signed_in: Site) -> None:
    answer = signed_in.put()
    assert answer.status == 405
    assert {"GET", "HEAD", "POST"} <= set(answer.headers["allow"].split(", "))


# Who may use it


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://other.testserver"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://testserver.evil.example"},
        {"Origin": "null"},
        {"Accept": "*/*"},
    ],
)
def test_form_of_another_site_is_refused(
    signed_in: Site, sessions: Sessions, service: Service, headers: dict[str, str]
) -> None:
    """It has no CSRF token of Django's."""
    phone = sign_in(sessions, IPHONE)
    for value in (phone, "others"):
        assert signed_in.press(value, **headers).status == 403
    assert ends(service) == {}


def test_form_over_http_is_accepted(signed_in: Site, sessions: Sessions) -> None:
    """Browsers do not send Sec-Fetch-Site then."""
    phone = sign_in(sessions, IPHONE)
    signed_in.open()
    assert signed_in.press(phone, Origin=signed_in.origin).status == 303


@pytest.mark.parametrize("before", ["nothing", "write"])
def test_visitor_has_to_log_in(open_site: OpenSite, service: Service, before: str) -> None:
    with open_site() as site:
        site.browser.do(before)
        answers = [site.open(), site.press("others")]
    if isinstance(site.browser, DjangoBrowser):
        assert [answer.status for answer in answers] == [302, 403], "the form has no CSRF token"
        assert answers[0].headers["location"] == f"/accounts/login/?next={URL}"
    else:
        assert [answer.status for answer in answers] == [401, 401]
    assert ends(service) == {}


def test_somebody_who_acts_as_the_user_only_looks(
    open_site: OpenSite, sessions: Sessions, service: Service
) -> None:
    phone = sign_in(sessions, IPHONE)
    with open_site() as site:
        site.browser.do("log-in 7")
        site.browser.do("impersonate 1 7")

        answer = site.open()

        assert "Safari on iPhone" in answer.visible
        assert "You are acting as this user." in answer.visible
        assert "<button" not in answer.text
        for value in (phone, "others"):
            assert site.press(value).status == 403
    assert ends(service) == {}


def test_outage_is_no_error_of_the_app(
    signed_in: Site, sessions: Sessions, service: Service
) -> None:
    phone = sign_in(sessions, IPHONE)
    signed_in.open()
    for failing in ("GET /sessions", f"DELETE /sessions/{phone}"):

        def fail(call: Call, failing: str = failing) -> None:
            if f"{call.method} {call.path}" == failing:
                faults.unavailable(call)
            else:
                call.send(call.forward())

        service.plan(always=fail)
        answer = signed_in.open() if failing == "GET /sessions" else signed_in.press(phone)
        assert (answer.status, answer.headers.get("retry-after")) == (503, "1")
        service.plan()
    assert signed_in.open().status == 200


# What apps change


def test_own_base_template(open_site: OpenSite, tmp_path: Path) -> None:
    (tmp_path / "base.html").write_text(
        "<title>{% block title %}{% endblock %} – Shop</title>{% block content %}{% endblock %}"
    )
    with open_site(base_template="base.html") as site:
        site.browser.do("log-in 1")
        answer = site.open()
    assert answer.text.startswith("<title>Where you are signed in – Shop</title>")
    assert "<style>" not in answer.text
    assert "(this device)" in answer.visible


@pytest.mark.parametrize("name", ["devices", "base"])
def test_own_template_replaces_the_one_of_the_package(
    open_site: OpenSite, tmp_path: Path, name: str
) -> None:
    (tmp_path / "serverless_sessions").mkdir()
    (tmp_path / f"serverless_sessions/{name}.html").write_text("own {{ devices.texts.title }}")
    with open_site() as site:
        site.browser.do("log-in 1")
        assert site.open().text == "own Where you are signed in"


GERMAN = {
    "en": "de",
    "Where you are signed in": "Angemeldete Browser",
    "Sign out: %(device)s, signed in %(time)s": "%(device)s abmelden, angemeldet am %(time)s",
}


def test_texts_are_translated(
    open_site: OpenSite, sessions: Sessions, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    phone = sign_in(sessions, IPHONE)
    is_django = "Django" in request.node.name
    options: dict[str, Any] = {}
    if is_django:
        catalog = tmp_path / "locale/de/LC_MESSAGES/django.mo"
        catalog.parent.mkdir(parents=True)
        catalog.write_bytes(machine_object(GERMAN))
    else:
        options = {
            "translate": lambda text: GERMAN.get(text, text),
            "format_time": lambda time: f"{time.year}, {time.tzinfo}",
        }
    with (
        override_settings(
            LANGUAGE_CODE="de",
            LOCALE_PATHS=[tmp_path / "locale"],
            TIME_ZONE="Europe/Berlin",
            USE_I18N=True,
        ),
        open_site(**options) as site,
    ):
        site.browser.do("log-in 1")
        answer = site.open()

    assert '<html lang="de">' in answer.text
    assert '<div lang="de">' in answer.text
    assert "<h1>Angemeldete Browser</h1>" in answer.text
    device = "Safari on iPhone, 198.51.100.20"
    assert answer.buttons[phone].startswith(f"{device} abmelden, angemeldet am ")
    created_at = datetime.fromtimestamp(sessions.get(phone).created_at, ZoneInfo("Europe/Berlin"))
    expected = f"{created_at:%Y %H:%M}" if is_django else f"{created_at.year}, UTC"
    assert answer.buttons[phone].endswith(expected)


def test_page_without_translations_is_marked_as_english(
    open_site: OpenSite, tmp_path: Path
) -> None:
    (tmp_path / "base.html").write_text('<html lang="de">{% block content %}{% endblock %}')
    with open_site(base_template="base.html") as site:
        site.browser.do("log-in 1")
        assert '<html lang="de"><div lang="en">' in "".join(site.open().text.splitlines())


@pytest.mark.parametrize(
    ("translation", "expected"),
    [
        ("%(gerät)s abmelden", "Sign out: Safari on iPhone, 198.51.100.20, signed in "),
        ("100 % abmelden: %(device)s", "100 % abmelden: Safari on iPhone, 198.51.100.20"),
        ("%(device)s abmelden %", "Safari on iPhone, 198.51.100.20 abmelden %"),
        ("%(device)d", "%(device)d"),
    ],
)
def test_wrong_translation_is_no_error(
    service: Service, sessions: Sessions, tmp_path: Path, translation: str, expected: str
) -> None:
    phone = sign_in(sessions, IPHONE)
    texts = {"Sign out: %(device)s, signed in %(time)s": translation}
    with site("Flask", service, tmp_path, translate=lambda text: texts.get(text, text)) as here:
        here.browser.do("log-in 1")
        assert here.open().buttons[phone].startswith(expected)


def machine_object(catalog: dict[str, str]) -> bytes:
    """Return a compiled catalog of gettext."""
    texts = sorted(({"": "Content-Type: text/plain; charset=UTF-8\n"} | catalog).items())
    strings = [text.encode() for pair in zip(*texts, strict=True) for text in pair]
    position = 28 + 8 * len(strings)
    table, content = b"", b""
    for string in strings:
        table += struct.pack("<II", len(string), position + len(content))
        content += string + b"\0"
    count = len(texts)
    return struct.pack("<7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0) + table + content


def test_flask_app_with_tokens_against_csrf(service: Service, tmp_path: Path) -> None:
    """Flask-WTF's `CSRFProtect` sets these names."""
    with site("Flask", service, tmp_path) as here:
        assert isinstance(here.browser, FlaskBrowser)
        app = here.browser._app
        app.extensions["csrf"] = object()
        app.config["WTF_CSRF_FIELD_NAME"] = "token"
        app.jinja_env.globals["csrf_token"] = lambda: 'a"b'
        here.browser.do("log-in 1")
        assert '<input type="hidden" name="token" value="a&#34;b">' in here.open().text


def test_starlette_app_with_tokens_against_csrf(service: Service, tmp_path: Path) -> None:
    templates = Jinja2Templates(tmp_path)
    with site("Starlette", service, tmp_path, templates=templates) as here:
        templates.context_processors.append(lambda request: {"csrf_input": "own field"})
        here.browser.do("log-in 1")
        assert "own field" in here.open().text


def test_starlette_app_with_names_of_the_page(service: Service, tmp_path: Path) -> None:
    own = {"devices": ["mobile"], "base_template": "missing.html"}
    templates = Jinja2Templates(tmp_path, context_processors=[lambda request: own])
    with site("Starlette", service, tmp_path, templates=templates) as here:
        here.browser.do("log-in 1")
        assert "(this device)" in here.open().visible


def test_url_of_the_page_in_starlette(service: Service, tmp_path: Path) -> None:
    with site("Starlette", service, tmp_path) as here:
        app: Any = here.browser._app  # type: ignore[attr-defined]
        assert app.url_path_for("serverless_sessions:devices") == URL
        (tmp_path / "base.html").write_text("{{ url_for('serverless_sessions:devices') }}")
    with site("Starlette", service, tmp_path, base_template="base.html") as here:
        here.browser.do("log-in 1")
        assert here.open().text == f"https://testserver{URL}"


def test_starlette_app_without_templates(service: Service, tmp_path: Path) -> None:
    with site("Starlette", service, tmp_path, templates=None) as here:
        here.browser.do("log-in 1")
        assert "<h1>Where you are signed in</h1>" in here.open().text


def test_starlette_app_without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)  # cannot be imported
    for module in ("starlette.templating", "serverless_sessions.starlette_devices"):
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError, match="jinja2 must be installed"):
        import_module("serverless_sessions.starlette_devices")


def test_log_in_of_the_same_request(service: Service, sessions: Sessions, tmp_path: Path) -> None:
    """Flask-Login logs a remembered user in before the view. The session is stored after it."""
    phone = sign_in(sessions, IPHONE)
    with site("Flask", service, tmp_path) as here:
        assert isinstance(here.browser, FlaskBrowser)

        @here.browser._app.before_request
        def log_in() -> None:
            if flask_request.path == URL and "_user_id" not in flask_session:
                flask_session["_user_id"] = "1"

        for before in ("nothing", "write", "log-in 2"):
            here.browser.do(before)
            if before == "log-in 2":
                here.browser.do("log-out")
            answer = here.open()
            assert answer.status == 200
            assert phone in answer.buttons
            assert "(this device)" not in answer.text
            assert "(this device)" in here.open().text
            here.browser.do("log-out")


def test_django_page_under_asgi(service: Service, sessions: Sessions, tmp_path: Path) -> None:
    phone = sign_in(sessions, IPHONE)
    with site("Django", service, tmp_path) as here:
        here.browser.do("log-in 1")

        async def use() -> tuple[str, int]:
            client = AsyncClient()
            client.cookies.update(here.browser.client.cookies)  # type: ignore[attr-defined]
            try:
                page: Any = await client.get(URL, secure=True)
                answer: Any = await client.post(URL, {"sign_out": phone}, secure=True)
            finally:
                await _async_sessions().aclose()
            return page.content.decode(), answer.status_code

        page, status = asyncio.run(use())
    assert "Safari on iPhone" in page
    assert status == 303
    assert ends(service) == {phone: "device_signed_out"}


# What is missing in an app


def check_project(**project: Any) -> list[str]:
    """Return the ids of what Django's system checks report about the page."""
    with override_settings(
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "serverless_sessions.django.devices",
        ],
        **project,
    ):
        ids = [str(message.id) for message in run_checks()]
    return [name for name in ids if name.startswith("serverless_sessions")]


def project(service: Service, **changes: Any) -> dict[str, Any]:
    return {
        "SESSION_ENGINE": "serverless_sessions.django",
        "SERVERLESS_SESSIONS": {"url": service.url},
        "MIDDLEWARE": ["serverless_sessions.django.middleware.SessionMiddleware"],
        "TEMPLATES": [
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
        ],
    } | changes


def test_checks_of_a_django_project(service: Service) -> None:
    assert check_project(**project(service)) == []
    no_folders: Any = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
    missing: dict[str, dict[str, Any]] = {
        "serverless_sessions.E001": {"SESSION_ENGINE": "django.contrib.sessions.backends.cache"},
        "serverless_sessions.W001": {"MIDDLEWARE": []},
        "serverless_sessions.E002": {"TEMPLATES": no_folders},
    }
    for name, changes in missing.items():
        assert check_project(**project(service, **changes)) == [name]


def test_django_page_without_the_session_engine() -> None:
    # It can only be imported after Django's configuration.
    from serverless_sessions.django.devices.views import devices

    request = HttpRequest()
    request.method = "GET"
    request.user = Backend().get_user(1)
    request.session = SignedCookies()
    with pytest.raises(ImproperlyConfigured, match="SESSION_ENGINE"):
        devices(request)


def test_flask_page_without_the_extension() -> None:
    app = Flask(__name__)
    app.testing = True
    app.register_blueprint(devices_blueprint(), url_prefix=URL[:-1])
    with pytest.raises(RuntimeError, match="needs the extension ServerlessSessions"):
        app.test_client().get(URL)


@pytest.mark.parametrize(
    ("fetch_site", "origin", "host", "expected"),
    [
        ("same-origin", None, "shop.example", True),
        ("same-origin", "null", "shop.example", True),
        ("none", None, "shop.example", True),
        ("same-site", "https://shop.example", "shop.example", False),
        ("cross-site", "https://shop.example", "shop.example", False),
        ("", "https://shop.example", "shop.example", False),
        (None, "https://shop.example", "shop.example", True),
        (None, "http://shop.example", "shop.example", True),
        (None, "https://shop.example:8000", "shop.example:8000", True),
        (None, "https://shop.example:8000", "shop.example", False),
        (None, "https://evil.example", "shop.example", False),
        (None, "null", "shop.example", False),
        (None, "null", "", False),
        (None, "", "", False),
        (None, None, "shop.example", False),
    ],
)
def test_origin_of_a_request(
    fetch_site: str | None, origin: str | None, host: str, expected: bool
) -> None:
    assert is_same_origin(fetch_site=fetch_site, origin=origin, host=host) is expected


# The guide


def run_snippets(pattern: str, **names: Any) -> SimpleNamespace:
    """Return the names that the snippets in the matching part of the page define."""
    [part] = re.findall(pattern, PAGE, re.M | re.S)
    snippets = re.findall(r"^```python\n(.*?)^```", part, re.M | re.S)
    assert snippets
    names["__name__"] = __name__
    exec(compile("\n".join(snippets), "docs/integrating/devices.md", "exec"), names)  # noqa: S102
    return SimpleNamespace(**names)


def set_up(heading: str, **names: Any) -> SimpleNamespace:
    return run_snippets(rf"^\*\*{heading}\*\*$(.*?)^(?:\*\*|##)", **names)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_snippets_of_the_guide(
    service: Service,
    sessions: Sessions,
    framework: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "base.html").write_text("own {% block content %}{% endblock %}")
    phone = sign_in(sessions, IPHONE)
    test = run_snippets("^## Protection against CSRF(.*)").test_device_is_signed_out
    with ExitStack() as stack:
        browser = stack.enter_context(FRAMEWORKS[framework](service))
        here = Site(browser)
        match browser:
            case DjangoBrowser():
                names = set_up("Django", INSTALLED_APPS=[])
                project = _django_project(folder, *names.INSTALLED_APPS, *names.urlpatterns)
                stack.enter_context(project)
            case FlaskBrowser():
                browser._app.jinja_loader = FileSystemLoader(folder)
                set_up("Flask", app=browser._app)
            case StarletteBrowser():
                set_up("FastAPI and Starlette", app=browser._app)
                # The app has started, and would not use the new exception handler.
                browser._app.middleware_stack = None
                assert browser._app.url_path_for("serverless_sessions:devices") == URL
        if not isinstance(browser, DjangoBrowser):
            answer = here.open()
            assert (answer.status // 100, answer.headers["location"]) == (3, "/log-in")
            assert here.press(phone).status == 401
        browser.do("log-in 1")
        assert here.open().text.startswith("own ")
        if not isinstance(browser, DjangoBrowser):  # it needs no header
            test(browser.client, phone)  # type: ignore[attr-defined]
            assert ends(service) == {phone: "device_signed_out"}


def test_checks_of_a_flask_app(service: Service, tmp_path: Path) -> None:
    (tmp_path / "base.html").write_text("{% block content %}{% endblock %}")
    active = ["1"]
    with FRAMEWORKS["Flask"](service) as browser:
        assert isinstance(browser, FlaskBrowser)
        browser._app.jinja_loader = FileSystemLoader(tmp_path)
        LoginManager(browser._app).user_loader(
            lambda user_id: UserMixin() if user_id in active else None
        )
        run_snippets("^With Flask-Login(.*?)^In Starlette", app=browser._app)
        check_active(browser, active)


def test_checks_of_a_starlette_app(service: Service, tmp_path: Path) -> None:
    active = ["1"]

    async def is_active(user: str) -> bool:
        return user in active

    with FRAMEWORKS["Starlette"](service) as browser:
        assert isinstance(browser, StarletteBrowser)
        (tmp_path / "base.html").write_text(
            "{{ url_for('serverless_sessions:devices') }}{% block content %}{% endblock %}"
        )
        run_snippets(
            r"^In Starlette and FastAPI, use(.*?)^\*\*",
            app=browser._app,
            templates=Jinja2Templates(tmp_path),
            is_active=is_active,
        )
        check_active(browser, active)


def check_active(browser: Browser, active: list[str]) -> None:
    """Check that only an active user sees the page."""
    here = Site(browser)
    browser.do("log-in 1")
    assert here.open().status == 200
    assert here.press("others").status == 303
    active.clear()
    assert here.open().status == 401
    assert here.press("others").status == 401


def test_base_template_with_other_blocks(open_site: OpenSite, tmp_path: Path) -> None:
    [between] = re.findall(r"^```html\n(.*?)^```", PAGE, re.M | re.S)
    (tmp_path / "between.html").write_text(between)
    (tmp_path / "base.html").write_text(
        "<title>{% block page_title %}{% endblock %}</title>{% block main %}{% endblock %}"
    )
    with open_site(base_template="between.html") as site:
        site.browser.do("log-in 1")
        answer = site.open()
    assert answer.title == "Where you are signed in"
    assert "(this device)" in answer.visible


def test_guide_lists_all_texts() -> None:
    texts = run_snippets("^## Translations and times(.*?)^## ").TEXTS
    assert texts == list(TEXTS.values())
