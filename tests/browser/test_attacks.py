"""Attacks of other pages in the operator's browser. Every check of the guard stops one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page

from local.stack import LocalStack
from serverless_sessions import Client, Sessions
from tests.browser.attacker import Attacker
from tests.browser.visits import command, let_in
from tests.support.console import Console, running_console

NASTY = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>\'"<b>'


@pytest.fixture
def victim(sessions: Sessions) -> str:
    """A user with one session, which the attacks must not end."""
    user = f"victim-{time.monotonic_ns()}"
    sessions.create(user)
    return user


def test_form_of_another_port_ends_nothing(
    page: Page, console: Console, attacker: Attacker, sessions: Sessions, victim: str
) -> None:
    """For the browser, another port is the same site, so it sends the cookie with the form."""
    attacker.pages["/form"] = (
        f'<form id=f method=post action="{console.origin}/end">'
        f'<input name=user value="{victim}"><input name=reason value=owned></form>'
        "<script>document.getElementById('f').submit()</script>"
    )
    with page.expect_response(f"{console.origin}/end") as answer:
        page.goto(f"{attacker.same_site}/form", wait_until="commit")

    assert "sessions-console-" in answer.value.request.all_headers()["cookie"]
    assert answer.value.status == 403
    assert len(list(sessions.list(victim))) == 1


def test_other_name_for_this_machine_is_refused(page: Page, console: Console) -> None:
    """After DNS rebinding, the attacker's page and the console have the same origin."""
    port = console.origin.rpartition(":")[2]
    answer = page.goto(f"http://attacker.example:{port}/")
    assert answer
    assert answer.status == 421

    answer = page.goto(console.key_url.replace("127.0.0.1", "attacker.example"))
    assert answer
    assert answer.status == 421


def test_link_of_another_site_carries_no_cookie(
    page: Page, console: Console, attacker: Attacker, victim: str
) -> None:
    target = f"{console.origin}/user?id={victim}"
    attacker.pages["/link"] = f'<a id=a href="{target}">look</a>'
    page.goto(f"{attacker.other_site}/link")
    with page.expect_response(target) as answer:
        page.click("#a")

    assert answer.value.status == 401


@pytest.mark.parametrize("site", ["same_site", "other_site"])
def test_console_can_not_be_framed(
    page: Page, console: Console, attacker: Attacker, site: str
) -> None:
    """The attacker could make the operator click on an invisible frame."""
    attacker.pages["/frame"] = f'<iframe src="{console.origin}/"></iframe>'
    page.goto(f"{getattr(attacker, site)}/frame")

    [_, frame] = page.frames
    frame.wait_for_load_state()
    assert frame.url.startswith("chrome-error:") or site == "other_site"
    assert not frame.locator("form").count()


def test_answers_can_not_be_embedded(page: Page, console: Console, attacker: Attacker) -> None:
    attacker.pages["/image"] = f'<img src="{console.origin}/static/icon.svg">'
    page.goto(f"{attacker.same_site}/image")

    assert page.evaluate("document.images[0].complete")
    assert page.evaluate("document.images[0].naturalWidth") == 0


def test_window_that_opens_the_console_can_not_hold_it(
    page: Page, console: Console, attacker: Attacker
) -> None:
    page.goto(f"{attacker.same_site}/opener")
    with page.context.expect_page() as opened:
        page.evaluate(f"window.opened = window.open('{console.origin}/'); null")
    opened.value.wait_for_load_state()

    assert opened.value.evaluate("window.opener") is None
    assert page.evaluate("window.opened.closed")


def test_what_users_write_is_text(look: Callable[..., Page], sessions: Sessions) -> None:
    issued = sessions.create(NASTY, data={NASTY: NASTY}, client=Client(user_agent=NASTY))
    id = issued.session.session_id
    sessions.change(id, {NASTY: [NASTY]})
    page = look()

    for path in (
        *(f"/user?id={quote(NASTY)}", f"/session?id={id}&data=show"),
        *(f"/trail?user={quote(NASTY)}", f"/end?user={quote(NASTY)}"),
    ):
        page.goto(path)
        assert NASTY in page.inner_text("main")
        assert not page.locator("main img, main script, main h1 b").count()
        assert page.evaluate("window.owned") is None
    assert not page.errors


def test_code_that_got_into_a_page_does_not_run(page: Page, attacker: Attacker) -> None:
    """The content security policy is a second protection, in case the escaping fails."""
    page.evaluate(
        """(foreign) => {
          const script = document.createElement("script");
          script.textContent = "window.owned = 1";
          document.body.append(script);
          const frame = document.createElement("div");
          frame.innerHTML = `<img src=x onerror="window.owned=2">
            <img src="${foreign}/stolen"><iframe src="${foreign}/stolen"></iframe>`;
          document.body.append(frame);
          document.body.append(Object.assign(document.createElement("script"),
            { src: foreign + "/stolen" }));
        }""",
        attacker.same_site,
    )
    page.wait_for_timeout(300)

    assert page.evaluate("window.owned") is None
    assert "/stolen" not in [path for path, _ in attacker.visits]


def test_scripts_can_not_read_the_cookie(page: Page) -> None:
    assert page.evaluate("document.cookie") == ""
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_other_pages_do_not_learn_what_was_looked_at(
    page: Page, console: Console, attacker: Attacker, victim: str
) -> None:
    page.goto(f"/user?id={victim}")
    page.evaluate(f"location.href = '{attacker.same_site}/left'")
    page.wait_for_url("**/left")

    [headers] = [headers for path, headers in attacker.visits if path == "/left"]
    assert "Referer" not in headers


def test_pages_do_not_stay_in_the_cache(page: Page, victim: str) -> None:
    page.goto(f"/user?id={victim}")
    page.goto("about:blank")
    page.context.clear_cookies()
    page.go_back()

    assert "Open the console with the URL" in page.inner_text("body")


def test_url_of_the_terminal_opens_the_console_once(chromium: Browser, console: Console) -> None:
    """Others may read the URL in the browser's history."""
    used_url = console.key_url
    with chromium.new_context() as first, chromium.new_context() as second:
        page = first.new_page()
        let_in(console, page)
        assert page.url == f"{console.origin}/"
        answer = second.new_page().goto(used_url)
        assert answer
        assert answer.status == 401


def test_two_consoles_can_run_side_by_side(
    page: Page, console: Console, stack: LocalStack, environment: dict[str, str]
) -> None:
    """A browser sends a cookie to every port of a host."""
    with running_console(command(stack), environment) as other:
        let_in(other, page)
        for origin in (console.origin, other.origin):
            answer = page.goto(f"{origin}/")
            assert answer
            assert answer.status == 200
