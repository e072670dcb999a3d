"""An operator uses the console in Chromium."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from local.stack import ROOT, LocalStack
from serverless_sessions import Client, Sessions
from tests.browser.visits import let_in
from tests.support.console import running_console
from tests.support.waiting import eventually

AXE = (ROOT / "node_modules/axe-core/axe.min.js").read_text()
LAPTOP = Client("203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0")
PHONE = Client("198.51.100.20", "Mozilla/5.0 (iPhone) Version/19.0 Safari/604.1")


@pytest.fixture
def user(sessions: Sessions) -> str:
    """A user with two live sessions and a revoked one, whose events are all in the trail."""
    user = f"ada-{time.monotonic_ns()}"
    laptop = sessions.create(user, data={"theme": "dark"}, client=LAPTOP).session.session_id
    sessions.change(laptop, {"theme": "light"})
    sessions.rotate(laptop)
    sessions.create(user, ttl_seconds=600, client=PHONE)
    sessions.revoke(sessions.create(user).session.session_id, reason="logout")
    eventually(lambda: {"rotated", "purged"} <= {e.type for e in sessions.events(user_id=user)})
    return user


def test_operator_finds_a_user_and_signs_them_out(
    page: Page, sessions: Sessions, user: str
) -> None:
    page.fill("#user", user)
    page.click("text=Find the user")
    expect(page.locator("h1")).to_have_text(user)
    expect(page.locator("#live")).to_have_text("2 live sessions")
    card = page.locator("article", has_text="Firefox on Linux")
    expect(card).to_contain_text("203.0.113.7")

    # The picture shows the sessions as bars, and the change and the rotation as dots.
    rows = page.locator(".lives li")
    expect(rows).to_have_count(3)
    expect(page.locator(".lives .span.live")).to_have_count(2)
    expect(page.locator(".lives .span.revoked")).to_have_count(1)
    expect(page.locator(".lives circle.updated")).to_have_count(1)
    expect(page.locator(".lives circle.rotated")).to_have_count(1)
    widths = [box["width"] for box in map(_box, page.locator(".lives .span.live").all())]
    assert all(width > 0 for width in widths)

    # One session ends. The page reloads until it shows the event.
    card.locator("text=End it …").click()
    expect(page.locator("main")).to_contain_text("1 session of")
    page.fill("#reason", "stolen_device")
    page.click("button.danger")
    expect(page.locator("h1")).to_have_text("Ended 1 session")
    event = page.locator(".timeline li")
    expect(event).to_have_count(1)
    expect(event).to_contain_text("revoked for stolen_device")
    expect(event).to_contain_text("user/olga")

    # The other session ends.
    page.click(f"text=Sessions of {user}")
    page.click("text=Sign out everywhere")
    page.fill("#reason", "left_company")
    page.click("button.danger")
    expect(page.locator("h1")).to_have_text("Ended 1 session")
    assert not list(sessions.list(user))
    assert not page.errors


def _box(locator: object) -> dict[str, float]:
    box: dict[str, float] = locator.bounding_box()  # type: ignore[attr-defined]
    return box


def test_clocks_and_bars_run_down(page: Page, user: str) -> None:
    page.goto(f"/user?id={user}")
    clock, bar = page.locator("b[data-until]").first, page.locator("progress").first
    text, value = clock.inner_text(), bar.evaluate("bar => bar.value")

    assert re.fullmatch(r"in \d+ min \d+ s", text)
    expect(clock).not_to_have_text(text)
    assert bar.evaluate("bar => bar.value") < value


def test_times_are_shown_in_the_viewers_time_zone_and_in_utc(
    look: Callable[..., Page], user: str
) -> None:
    page = look(timezone_id="Asia/Tokyo", locale="en-GB")
    page.goto(f"/user?id={user}")
    times = page.locator("dd", has=page.locator("time")).first

    hours = re.search(r"(\d\d):\d\d:\d\d\s+\S+ (\d\d):\d\d:\d\d UTC", times.inner_text())
    assert hours
    assert (int(hours[1]) - int(hours[2])) % 24 == 9


def test_console_can_be_used_by_keyboard_alone(page: Page, sessions: Sessions, user: str) -> None:
    def press_until(selector: str) -> None:
        for _ in range(60):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid", "the focus must be visible"
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{selector} can't be reached")

    page.keyboard.type(user)
    page.keyboard.press("Enter")
    page.wait_for_url("**/user?*")
    press_until(".skip")
    press_until("a.button.danger")
    page.keyboard.press("Enter")
    page.wait_for_url("**/end?*")
    page.keyboard.type("left_company")
    press_until("button.danger")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ended?*")

    assert not list(sessions.list(user))


def test_dark_mode_is_dark(look: Callable[..., Page]) -> None:
    def brightness(scheme: str) -> int:
        color = look(color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    assert brightness("dark") < 150
    assert brightness("light") > 600


def pages(page: Page, sessions: Sessions, user: str) -> list[str]:
    session = next(iter(sessions.list(user)))
    return [
        *("/", f"/user?id={user}", f"/trail?user={user}", f"/end?user={user}", "/user?id=nobody"),
        *(f"/session?id={session.session_id}&data=show", "/user", f"/end?session={'A' * 12}"),
    ]


def test_phone_needs_no_horizontal_scrolling(
    look: Callable[..., Page], sessions: Sessions, user: str
) -> None:
    page = look(viewport={"width": 360, "height": 740}, timezone_id="Asia/Tokyo")
    for path in pages(page, sessions, user):
        page.goto(path)
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_checker_finds_nothing(
    look: Callable[..., Page], sessions: Sessions, user: str, scheme: str
) -> None:
    page = look(color_scheme=scheme, timezone_id="Asia/Tokyo")
    # Dark mode only changes colors, so the pages with the most colors are enough.
    all_pages = pages(page, sessions, user)
    for path in all_pages if scheme == "light" else all_pages[1:4]:
        page.goto(path)
        page.evaluate(AXE)
        violations = page.evaluate("axe.run().then(result => result.violations)")
        assert not violations, (
            path,
            [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in violations],
        )


def test_local_stack_has_sessions_to_look_at(chromium: Browser, stack: LocalStack) -> None:
    code = (
        "from pathlib import Path\n"
        "from local.console import open_console\n"
        "from local.stack import LocalStack\n"
        f"open_console(LocalStack({stack.port}, Path({str(stack.folder)!r})))"
    )
    with running_console(code, {"BROWSER": "none"}) as console, chromium.new_context() as context:
        page = context.new_page()
        let_in(console, page)
        page.goto(f"{console.origin}/user?id=ada")
        expect(page.locator("#live")).to_have_text("3 live sessions")
