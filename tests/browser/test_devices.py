"""The page of a user's devices in the example apps, which run on the embedded service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from local.stack import ROOT
from serverless_sessions import Client, Impersonator
from serverless_sessions.testing import SessionsService
from tests.browser.attacker import Attacker
from tests.browser.example_app import ExampleApp, Person, serving

URL = "/account/devices/"
AXE = (ROOT / "node_modules/axe-core/axe.min.js").read_text()
SIZES = {"desktop": (1280, 800), "phone": (360, 740)}
LONG_NAME = Client("2001:db8:1:2:3:4:5:6", "<b>" + "A" * 100)


@pytest.fixture(scope="module")
def service() -> Iterator[SessionsService]:
    with SessionsService() as service:
        yield service


@pytest.fixture(scope="module", params=["django", "flask", "fastapi"])
def app(
    request: pytest.FixtureRequest,
    service: SessionsService,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ExampleApp]:
    log = tmp_path_factory.mktemp("app") / "log"
    with serving(request.param, {}, log, visitors=False) as app:
        yield app
        assert not app.failures


@pytest.fixture
def laptop(chromium: Browser, app: ExampleApp, service: SessionsService) -> Iterator[Person]:
    """The browser of ada, who is signed in."""
    service.reset()
    yield from signed_in(chromium, app)


@pytest.fixture
def phone(chromium: Browser, app: ExampleApp, laptop: Person) -> Iterator[Person]:
    """Another browser of ada."""
    yield from signed_in(chromium, app)


def signed_in(chromium: Browser, app: ExampleApp) -> Iterator[Person]:
    with closing(Person(chromium, app)) as person:
        person.look()
        person.log_in("ada")
        yield person


def buttons(page: Page) -> Any:
    return page.get_by_role("button", name=re.compile("^Sign out: "))


def user_id(app: ExampleApp) -> str:
    """Return ada's id. Django numbers the users of an app."""
    return "1" if app.name == "django" else "ada"


def test_another_browser_is_signed_out(laptop: Person, phone: Person) -> None:
    laptop.page.get_by_role("link", name="Where you are signed in").click()
    expect(laptop.page.get_by_role("heading", level=2)).to_have_count(2)
    expect(laptop.page.get_by_role("listitem").first).to_contain_text("(this device)")

    button = buttons(laptop.page)
    expect(button).to_have_accessible_name(
        re.compile(r"Sign out: Chrome on \w+, 127\.0\.0\.1, signed in .*20\d\d")
    )
    button.focus()
    laptop.page.keyboard.press("Enter")

    expect(laptop.page.get_by_role("status")).to_have_text("The device is signed out.")
    expect(laptop.page).to_have_title(re.compile(r"^The device is signed out\. – Where you are"))
    expect(buttons(laptop.page)).to_have_count(0)
    assert phone.user is None
    assert laptop.user == "ada"


def test_all_other_browsers_are_signed_out(laptop: Person, phone: Person) -> None:
    laptop.look(URL)
    laptop.page.get_by_role("button", name="Sign out all other devices").click()
    expect(laptop.page.get_by_role("status")).to_have_text("All other devices are signed out.")
    assert phone.user is None
    assert laptop.user == "ada"


def test_double_click_shows_the_page(laptop: Person, phone: Person) -> None:
    laptop.look(URL)
    buttons(laptop.page).dblclick()
    outcome = re.compile("The device is signed out|That device is not signed in any more")
    expect(laptop.page.get_by_role("status")).to_have_text(outcome)
    expect(laptop.page.get_by_role("heading", level=2)).to_have_count(1)
    assert phone.user is None


def test_form_of_another_port_ends_nothing(
    laptop: Person, phone: Person, app: ExampleApp, attacker: Attacker
) -> None:
    """For the browser, another port is the same site, so it sends the cookie with the form."""
    attacker.pages["/devices"] = (
        f'<form id=f method=post action="{app.origin}{URL}"><input name=sign_out value=others>'
        "</form><script>document.getElementById('f').submit()</script>"
    )
    with laptop.page.expect_response(f"{app.origin}{URL}") as answer:
        laptop.page.goto(f"http://localhost:{attacker.port}/devices", wait_until="commit")

    assert "__Host-session=" in answer.value.request.all_headers()["cookie"]
    assert answer.value.status == 403
    assert phone.user == "ada"


def test_strict_content_security_policy_leaves_the_page_usable(
    laptop: Person, phone: Person
) -> None:
    def restrict(route: Route) -> None:
        answer = route.fetch(max_redirects=0)
        policy = "default-src 'none'; style-src 'self'; form-action 'self'"
        route.fulfill(response=answer, headers=answer.headers | {"content-security-policy": policy})

    laptop.page.route(f"**{URL}*", restrict)
    laptop.look(URL)
    buttons(laptop.page).click()
    expect(laptop.page.get_by_role("status")).to_have_text("The device is signed out.")
    assert phone.user is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_accessibility_checker_finds_nothing(
    laptop: Person, app: ExampleApp, service: SessionsService, size: str, scheme: Any
) -> None:
    """The page also fits into the window."""
    page = laptop.page
    page.emulate_media(color_scheme=scheme)
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    laptop.look(URL)
    check(page)
    user = user_id(app)
    service.sessions.create(user, client=LONG_NAME)
    service.sessions.create(user, impersonator=Impersonator("grace", "support"))
    laptop.look(URL)
    check(page)
    buttons(page).first.click()
    check(page)


def test_accessibility_checker_finds_nothing_for_support(
    laptop: Person, chromium: Browser, app: ExampleApp
) -> None:
    with closing(Person(chromium, app)) as agent:
        agent.look()
        agent.log_in("grace")
        agent.press("Look at the app as this user")
        agent.look(URL)
        expect(agent.page.get_by_role("heading", level=2)).to_have_count(2)
        expect(agent.page.get_by_role("button")).to_have_count(0)
        check(agent.page)


def check(page: Page) -> None:
    page.evaluate(AXE)
    violations = page.evaluate("axe.run().then(result => result.violations)")
    assert not violations, [
        (rule["id"], [node["html"] for node in rule["nodes"]]) for rule in violations
    ]
    scroll, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert scroll <= window
