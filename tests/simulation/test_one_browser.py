"""Situations in one browser, with the answers in a fixed order.

`browser.send` lets the app answer a request with the current cookies of the jar. `browser.take`
lets an answer arrive. If it is never called, the answer was lost, or dropped by a navigation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from serverless_sessions._core.calls import Answer, Request
from tests.simulation.browser_stories import Story
from tests.simulation.browsers import Jar, _Cast
from tests.simulation.web_apps import APPS, WebAnswer, WebApp, web_app
from tests.simulation.world import World

_GRACE = 30


class OneBrowser(_Cast):
    """A browser with one cookie jar, in simulated time, on an app and the real functions."""

    def __init__(self, app: WebApp) -> None:
        super().__init__(app, Story(grace=_GRACE, is_signed_in=False, steps=(), thief=None))
        self.ends: list[str] = []
        self.is_wrong_stage = False
        self.world = World(0.2, 10_000.0, self._wrote)

    def _wrote(self, old: object, new: dict[str, dict[str, str]], _: object) -> None:
        if "RevokedReason" in new:
            self.ends.append(new["RevokedReason"]["S"])

    def carry(self, request: Request) -> Answer:
        """Send the call. Another stage answers that it does not know the token."""
        if self.is_wrong_stage:
            return Answer(401, {}, b'{"code": "invalid_token"}')
        return super().carry(request)

    def send(self, action: str, _jar: Jar | None = None, /, **query: str) -> WebAnswer:
        header = (_jar or self.jar).header(self.world.time.now)
        text = "; ".join(f"{name}={value}" for name, value in header)
        return self.app.serve(action, query, text)

    def take(self, answer: WebAnswer) -> WebAnswer:
        self.jar.take(answer.cookies, self.world.time.now, None)
        return answer

    def do(self, action: str, **query: str) -> WebAnswer:
        return self.take(self.send(action, **query))

    def wait(self, seconds: float) -> None:
        self.world.time.wait(seconds)

    def log_in(self, user: str = "1") -> None:
        page = self.do("visit", new_csrf="secret")
        answer = self.do("login", user=user, csrf=str(page.body["csrf"]))
        assert answer.status == 200, answer

    @property
    def user(self) -> str | None:
        """The user who is signed in at the next request."""
        answer = self.do("read")
        assert answer.status == 200, answer
        user = answer.body["user"]
        return None if user is None else str(user)


Play = Callable[[Callable[[OneBrowser], None]], None]


@pytest.fixture(params=APPS)
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """Return a function that runs a story on each adapter."""
    with web_app(request.param) as app:

        def play(story: Callable[[OneBrowser], None]) -> None:
            browser = OneBrowser(app)
            with browser.world.installed(), browser.installed():
                browser.world.time.start(browser.actor("main", lambda: story(browser)))
                browser.world.time.run()

        yield play


def test_late_answer_to_a_poll_changes_no_cookie_of_the_log_in(play: Play) -> None:
    """The poll was sent without a session, with a visitor's, or with one that has ended."""

    def story(browser: OneBrowser) -> None:
        without = browser.send("read")
        page = browser.do("visit", new_csrf="secret")
        as_visitor = browser.send("read")
        browser.do("login", user="1", csrf=str(page.body["csrf"]))
        for late in (without, as_visitor):
            browser.take(late)
            assert late.cookies == []
            assert browser.user == "1"
        assert browser.ends == []

    play(story)


def test_late_answer_with_a_visitors_session_signs_nobody_out(play: Play) -> None:
    """Django has one cookie name for both, and the guide describes the consequence."""

    def story(browser: OneBrowser) -> None:
        late = browser.send("visit", new_csrf="late")
        browser.log_in()
        browser.take(late)
        assert browser.user == (None if browser.app.name.startswith("django") else "1")

    play(story)


def test_double_click_on_log_in_signs_in(play: Play) -> None:
    """The CSRF token is in the visitor's session, and the second click needs it, too."""

    def story(browser: OneBrowser) -> None:
        page = browser.do("visit", new_csrf="secret")
        clicks = [browser.send("login", user="1", csrf=str(page.body["csrf"])) for _ in range(2)]
        assert [click.status for click in clicks] == [200, 200]
        browser.take(clicks[1])
        assert browser.user == "1"
        browser.take(clicks[0])
        assert browser.user == "1"
        assert browser.ends == []

    play(story)


@pytest.mark.parametrize("taken", ["second", "first", "both", "turned round"])
def test_double_click_on_a_change_of_privilege_is_no_theft(play: Play, taken: str) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in()
        clicks = [browser.send("regenerate") for _ in range(2)]
        assert [click.status for click in clicks] == [200, 200]
        order = {"second": [1], "first": [0], "both": [0, 1], "turned round": [1, 0]}[taken]
        for index in order:
            browser.take(clicks[index])
            assert browser.user == "1"
        for _ in range(3):
            browser.wait(_GRACE + 1)
            assert browser.user == "1"
        assert browser.ends == []

    play(story)


def test_slow_read_does_not_restore_a_former_token(play: Play) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in()
        slow = browser.send("read")
        browser.do("regenerate")
        after = browser.jar.copy()
        browser.take(slow)
        assert browser.jar.cookies == after.cookies
        browser.wait(_GRACE + 1)
        assert browser.user == "1"

    play(story)


def test_second_change_of_privilege_brings_a_new_token_at_once(play: Play) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in()
        jars = [browser.jar.copy()]
        for _ in range(3):
            browser.do("regenerate")
            jars.append(browser.jar.copy())
        assert len({str(jar.header(browser.world.time.now)) for jar in jars}) == 4
        assert browser.user == "1"
        assert browser.ends == []

    play(story)


def test_lost_answer_of_a_change_of_privilege_signs_nobody_out(play: Play) -> None:
    """The former token stays valid for any time, and the next change replaces the lost one."""

    def story(browser: OneBrowser) -> None:
        browser.log_in()
        browser.send("regenerate")
        for _ in range(3):
            browser.wait(_GRACE + 1)
            assert browser.user == "1"
        before = browser.jar.copy()
        assert browser.do("regenerate").cookies != []
        assert browser.jar.cookies != before.cookies
        browser.wait(_GRACE + 1)
        assert browser.user == "1"
        assert browser.ends == []

    play(story)


def test_app_that_points_at_a_wrong_stage_signs_nobody_out(play: Play) -> None:
    """No token is valid there, and no cookie is deleted."""

    def story(browser: OneBrowser) -> None:
        browser.log_in()
        browser.is_wrong_stage = True
        assert browser.user is None
        browser.is_wrong_stage = False
        assert browser.user == "1"

    play(story)


def test_log_out_is_final_whatever_comes_later(play: Play) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in()
        stolen = browser.jar.copy()
        late = [browser.send("read"), browser.send("write", key="a"), browser.send("regenerate")]
        browser.do("logout")
        assert browser.user is None
        browser.take(late[0])
        browser.take(late[1])
        assert browser.user is None
        browser.take(late[2])
        assert browser.user is None
        assert browser.send("read", stolen).body["user"] is None
        assert browser.ends == ["logout"]

    play(story)


def test_double_click_on_log_out_signs_out(play: Play) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in()
        clicks = [browser.send("logout") for _ in range(2)]
        assert [click.status for click in clicks] == [200, 200]
        browser.take(clicks[1])
        assert browser.user is None
        browser.log_in()
        assert browser.user == "1"
        assert browser.ends == ["logout"]

    play(story)


def test_another_user_of_the_browser_gets_a_session_of_their_own(play: Play) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in("1")
        slow = browser.send("read")
        browser.do("logout")
        browser.log_in("2")
        browser.take(slow)
        assert browser.user == "2"
        assert browser.ends == ["logout"]

    play(story)


def test_empty_visitor_session_does_not_prevent_a_log_in(play: Play) -> None:
    def story(browser: OneBrowser) -> None:
        browser.do("visit", new_csrf="first")
        late = browser.send("empty")
        assert late.cookies == []
        browser.log_in()
        browser.take(late)
        assert browser.user == "1"

    play(story)


def test_values_of_answered_requests_are_kept(play: Play) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in()
        answers = [browser.send("write", key=f"key{number}") for number in range(4)]
        browser.do("regenerate")
        for answer in answers[::-1]:
            browser.take(answer)
        keys = browser.do("read").body["keys"]
        assert {f"key{number}" for number in range(4)} <= set(keys)

    play(story)


def test_step_up_during_polls_signs_nobody_out(play: Play) -> None:
    """The polls have the former token, and the first one of a double click is dropped."""

    def story(browser: OneBrowser) -> None:
        browser.log_in()
        poll = browser.send("read")
        clicks = [browser.send("regenerate", proof="otp") for _ in range(2)]
        assert [click.status for click in clicks] == [200, 200]
        assert browser.user == "1"
        browser.take(clicks[1])
        browser.take(poll)
        browser.wait(_GRACE + 1)
        assert browser.user == "1"
        assert browser.do("regenerate", proof="otp").cookies != []
        browser.wait(_GRACE + 1)
        assert browser.user == "1"
        assert browser.ends == []

    play(story)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1,)])
def test_double_clicks_on_impersonate_and_on_stop(play: Play, order: tuple[int, ...]) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in("7")
        for action, user in (("impersonate", "1"), ("stop", "7")):
            clicks = [browser.send(action, user="1") for _ in range(2)]
            assert [click.status for click in clicks] == [200, 200]
            for click in order:
                browser.take(clicks[click])
                assert browser.user == user
            browser.wait(_GRACE + 1)
            assert browser.user == user
        assert browser.ends == ["impersonation_stopped"]

    play(story)


def test_late_answers_leave_an_impersonated_session(play: Play) -> None:
    """The agent sent these requests before, as themselves."""

    def story(browser: OneBrowser) -> None:
        browser.log_in("7")
        late = [browser.send("read"), browser.send("write", key="a")]
        browser.do("impersonate", user="1")
        for answer in late:
            browser.take(answer)
            assert answer.cookies == []
        assert browser.user == "1"
        browser.do("stop")
        assert browser.user == "7"

    play(story)


@pytest.mark.parametrize("action", ["impersonate", "stop"])
def test_lost_answer_to_impersonate_or_stop(play: Play, action: str) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in("7")
        if action == "stop":
            browser.do("impersonate", user="1")
        browser.send(action, user="1")
        assert browser.user == ("7" if action == "impersonate" else None)
        browser.wait(_GRACE + 1)
        browser.do(action, user="1")
        assert browser.user == ("1" if action == "impersonate" else "7")

    play(story)


@pytest.mark.parametrize("is_late", [True, False])
def test_rotation_of_the_agent_at_the_same_time_is_no_theft(play: Play, is_late: bool) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in("7")
        rotation = browser.send("regenerate")
        start = browser.send("impersonate", user="1")
        for answer in (start, rotation) if is_late else (rotation, start):
            browser.take(answer)
        # The rotated token, which arrives last, is the agent's.
        assert browser.user == ("7" if is_late else "1")
        browser.wait(_GRACE + 1)
        browser.do("stop")
        assert browser.user == "7"
        browser.do("regenerate")
        browser.wait(_GRACE + 1)
        assert browser.user == "7"
        assert "token_reuse" not in browser.ends

    play(story)


def test_log_out_from_before_the_impersonation_is_final(play: Play) -> None:
    def story(browser: OneBrowser) -> None:
        browser.log_in("7")
        agent = browser.jar.copy()
        browser.do("impersonate", user="1")
        browser.send("logout", agent)
        assert browser.user is None
        browser.do("stop")
        assert browser.user is None

    play(story)


@pytest.mark.parametrize("is_first", [True, False])
def test_thief_who_goes_on_is_noticed(play: Play, is_first: bool) -> None:
    """It does not matter who rotates first. The older token is used after its grace period."""

    def story(browser: OneBrowser) -> None:
        browser.log_in()
        stolen = browser.jar.copy()
        if is_first:
            answer = browser.send("regenerate", stolen)
            stolen.take(answer.cookies, browser.world.time.now, None)
            browser.send("read", stolen)
        else:
            browser.do("regenerate")
            assert browser.user == "1"
        assert browser.ends == []
        browser.wait(_GRACE + 1)
        browser.send("read", None if is_first else stolen)
        assert browser.ends == ["token_reuse"]
        assert browser.user is None
        assert browser.send("read", stolen).body["user"] is None

    play(story)


def test_thief_who_rotates_again_and_again_is_noticed(play: Play) -> None:
    """The user's token is then older than all tokens whose hashes are stored."""

    def story(browser: OneBrowser) -> None:
        browser.log_in()
        thief = browser.jar.copy()
        for _ in range(5):
            browser.wait(_GRACE - 2)
            answer = browser.send("regenerate", thief)
            thief.take(answer.cookies, browser.world.time.now, None)
        assert browser.user is None
        assert browser.ends == ["token_reuse"]
        assert browser.send("read", thief).body["user"] is None

    play(story)
