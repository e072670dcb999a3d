"""Overlapping requests of one browser never sign its user out by accident.

The example apps run on the deployed local stack. If a user is signed out, a test continues. At its
end it prints how many users were signed out. The environment variables `LOG_INS` and
`DOUBLE_CLICKS` set the number of attempts per app. By default, the three apps together have 51
log-ins, and 21 double clicks of every kind.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser

from local.stack import ROOT, LocalStack, cdk
from serverless_sessions.operate.deployment import local_url
from tests.browser.example_app import ExampleApp, Person, serving
from tests.browser.second_stage import STACK
from tests.support.template import SETTINGS
from tests.support.waiting import eventually

LOG_INS = int(os.environ.get("LOG_INS") or 17)
DOUBLE_CLICKS = int(os.environ.get("DOUBLE_CLICKS") or 7)
# The second click happens while the first request is in progress, or after its answer.
GAPS_MS = [round(100 * number / DOUBLE_CLICKS) for number in range(DOUBLE_CLICKS)]
_GRACE_SECONDS: int = SETTINGS["rotation_grace_seconds"]
_SECOND_API_ID = "5e551046"


@pytest.fixture(scope="module", params=["django", "flask", "fastapi"])
def app(
    request: pytest.FixtureRequest, stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExampleApp]:
    log = tmp_path_factory.mktemp("app") / "log"
    with serving(request.param, _environment(stack, request.param), log, visitors=True) as app:
        yield app
        assert not app.failures


@pytest.fixture(scope="module")
def second_stage(stack: LocalStack) -> str:
    """The URL of another deployment of the service, where tokens of the first one are invalid."""
    outputs = cdk(
        *(stack, ROOT, "deploy", STACK, "--tags", f"ms-custom-id={_SECOND_API_ID}"),
        *("--app", f"{sys.executable} -m tests.browser.second_stage"),
    )
    return local_url(stack.endpoint, outputs["ApiUrl"])


@pytest.fixture
def person(chromium: Browser, app: ExampleApp) -> Iterator[Person]:
    """A person with two tabs that poll. One reads the session, and the other one also writes."""
    with closing(Person(chromium, app)) as person:
        person.poll(app.origin, "/who")
        person.poll(app.origin, "/who?write")
        person.look()
        yield person


class Regenerated(NamedTuple):
    """The result of double clicks on "Regenerate".

    `jars` contains the cookies of each user, by the user's name, and `at` is the time of
    the last double click.
    """

    jars: dict[str, list[dict[str, Any]]]
    signed_out: list[str]
    at: float


@pytest.fixture(scope="module")
def regenerated(chromium: Browser, app: ExampleApp) -> Regenerated:
    jars, signed_out = {}, []
    with closing(Person(chromium, app)) as person:
        for number, gap in enumerate(GAPS_MS):
            user = f"regenerated-{number}"
            person.look()
            person.log_in(user)
            person.regenerate(again_after_ms=gap)
            if person.user != user:
                signed_out.append(f"{user}, {gap} ms: {person.text}")
            jars[user] = person.jar
            person.jar = []
        _report(app, "double clicks on regenerate", len(jars), signed_out)
        print(f"{app.name}: {person.sent - len(jars)} requests of these double clicks")
    return Regenerated(jars, signed_out, time.monotonic())


def test_double_click_on_regenerate_leaves_the_user_signed_in(regenerated: Regenerated) -> None:
    assert regenerated.signed_out == []


def test_log_in_during_polls_signs_in(person: Person, app: ExampleApp) -> None:
    """The polls in progress were sent with the cookie of the visitor's session."""
    signed_out = []
    for number in range(LOG_INS):
        user = f"polled-{number}"
        assert person.jar, "the visitor has no session"
        person.log_in(user)
        page = person.text
        if person.user != user:
            signed_out.append(f"{user}: {page}")
            person.jar = []
        else:
            person.press("Log out")
            assert person.user is None
        person.look()
    _report(app, "log-ins during polls", LOG_INS, signed_out)
    assert signed_out == []


def test_double_click_on_log_in_signs_in(person: Person, app: ExampleApp) -> None:
    """Both clicks send the CSRF token of the visitor's session."""
    signed_out, other_pages = [], 0
    for number, gap in enumerate(GAPS_MS):
        user = f"twice-{number}"
        person.log_in(user, again_after_ms=gap)
        page = person.text
        other_pages += "Signed in" not in page
        if person.user != user:
            signed_out.append(f"{user}, {gap} ms: {page}")
        person.jar = []
        person.look()
    _report(app, "double clicks on log in", DOUBLE_CLICKS, signed_out)
    print(f"{app.name}: {person.sent} forms sent; {other_pages} showed an error page")
    assert signed_out == []


def test_double_click_on_log_out_signs_out(person: Person, app: ExampleApp) -> None:
    broken = []
    for number, gap in enumerate(GAPS_MS):
        user = f"leaves-{number}"
        person.log_in(user)
        if person.user == user:
            person.press("Log out", again_after_ms=gap)
            if person.user is not None:
                broken.append(f"{user}, {gap} ms, is signed in: {person.text}")
        else:
            broken.append(f"{user}: {person.text}")
        person.jar = []
        person.look()
    _report(app, "double clicks on log out", DOUBLE_CLICKS, broken)
    print(f"{app.name}: {person.sent - DOUBLE_CLICKS} requests of these double clicks")
    assert broken == []


def test_every_regenerate_brings_a_new_token(person: Person) -> None:
    """Even if the grace period of the former token is not over yet."""
    person.log_in("elevated")
    tokens = set()
    for _ in range(4):
        tokens.add(person.token)
        person.regenerate()
        assert person.user == "elevated"
    assert len(tokens) == 4


def test_app_that_points_at_another_stage_signs_nobody_out(
    person: Person, app: ExampleApp, stack: LocalStack, second_stage: str, tmp_path: Path
) -> None:
    """One instance of the app has the wrong URL. It gets the same cookies, which ignore ports.

    In Django, visitors and users have the same cookie. In its case, the
    test therefore turns off sessions for visitors in the wrong instance.
    """
    environment = {**_environment(stack, app.name), "SESSIONS_URL": second_stage}
    signed_out = []
    with serving(app.name, environment, tmp_path / "log", visitors=app.name != "django") as wrong:
        person.poll(wrong.origin, "/who?write")
        for number in range(DOUBLE_CLICKS):
            user = f"misrouted-{number}"
            person.log_in(user)
            person.look(wrong.origin)
            assert "Signed in" not in person.text
            person.look()
            if person.user != user:
                signed_out.append(f"{user}: {person.text}")
            person.jar = []
            person.look()
        assert not wrong.failures
    _report(app, "visits to another stage", DOUBLE_CLICKS, signed_out)
    assert signed_out == []


def test_nobody_is_taken_for_a_thief(
    regenerated: Regenerated, chromium: Browser, app: ExampleApp, stack: LocalStack
) -> None:
    """All grace periods are over, so using a former token would now count as a theft."""
    time.sleep(max(0, regenerated.at + _GRACE_SECONDS + 2 - time.monotonic()))
    signed_out, without_new_token = [], []
    with closing(Person(chromium, app)) as person:
        for user, jar in regenerated.jars.items():
            person.jar = jar
            token = person.token
            person.look()
            if person.user != user:
                signed_out.append(user)
                continue
            person.regenerate()
            if person.user != user:
                signed_out.append(f"{user}, who regenerated again")
            if person.token == token:
                without_new_token.append(user)
    _report(
        app,
        "users with a regenerated token, after the grace period",
        len(regenerated.jars),
        signed_out,
    )
    thefts = _thefts(stack, app.name)
    print(f"{app.name}: {len(thefts)} sessions in the trail ended as stolen")
    assert (signed_out, without_new_token, thefts) == ([], [], [])


def _report(app: ExampleApp, attempts: str, count: int, failures: list[str]) -> None:
    print(f"\n{app.name}: {count} {attempts}, {len(failures)} broken")


def _environment(stack: LocalStack, name: str) -> dict[str, str]:
    return stack.environment(stack.credentials(name, "execute-api:Invoke"))


def _thefts(stack: LocalStack, name: str) -> list[str]:
    """Search the whole trail. Return this app's sessions that ended because a token was reused.

    They are no longer in the table of sessions, because the local AWS's TTL takes only a second.
    """
    # Events are recorded in order, so the trail is complete once it has this session's event.
    with stack.sessions(stack.credentials(name, "execute-api:Invoke")) as sessions:
        last = sessions.create("last").session.session_id
        eventually(lambda: list(sessions.events(session_id=last)))
    pages = stack.client("dynamodb").get_paginator("scan")
    return [
        item["SessionId"]["S"]
        for page in pages.paginate(TableName=stack.outputs["AuditTableName"])
        for item in page["Items"]
        if item.get("Reason") == {"S": "token_reuse"} and item["Actor"]["S"].endswith(f"/{name}")
    ]
