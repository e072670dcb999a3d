"""Nobody is signed out by accident, however the requests of one browser overlap."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser

from local.stack import ROOT, LocalStack, cdk, execute_api_url
from serverless_sessions import Sessions
from tests.browser.example_app import ExampleApp, Person, serving
from tests.browser.second_stage import STACK
from tests.e2e.conftest import eventually

LOG_INS = int(os.environ.get("LOG_INS", "50"))
DOUBLE_CLICKS = int(os.environ.get("DOUBLE_CLICKS", "20"))
# The second click comes while the first one's request is at the app, or after its answer.
GAPS_MS = [round(100 * number / DOUBLE_CLICKS) for number in range(DOUBLE_CLICKS)]
_GRACE_SECONDS: int = json.loads((ROOT / "cdk.json").read_text())["context"]["settings"][
    "rotation_grace_seconds"
]
_SECOND_API_ID = "5e551046"

NewPerson = Callable[[ExampleApp], Person]


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
    """The URL of another deployment of the service, which knows no token of the first one."""
    outputs = cdk(
        *(stack, ROOT, "deploy", STACK, "--tags", f"ms-custom-id={_SECOND_API_ID}"),
        *("--app", f"{sys.executable} -m tests.browser.second_stage"),
    )
    return execute_api_url(stack.endpoint, outputs["ApiUrl"])


@pytest.fixture(scope="module")
def new_person(chromium: Browser) -> Iterator[NewPerson]:
    people: list[Person] = []

    def new_person(app: ExampleApp) -> Person:
        people.append(Person(chromium, app))
        return people[-1]

    yield new_person
    for person in people:
        person.close()


@pytest.fixture
def person(chromium: Browser, app: ExampleApp) -> Iterator[Person]:
    """Somebody with two tabs that poll: one reads the session, the other one writes, too."""
    with closing(Person(chromium, app)) as person:
        person.poll(app.origin, "/who")
        person.poll(app.origin, "/who?write")
        person.look()
        yield person


class Regenerated(NamedTuple):
    """The jars of people who pressed twice, by name, and when the last of them did so."""

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
            assert person.user == user
            person.regenerate(again_after_ms=gap)
            if person.user != user:
                signed_out.append(f"{user}, {gap} ms: {person.text}")
            jars[user] = person.jar
            person.jar = []
        print(f"{app.name}: regenerate pressed twice: {person.sent} forms by {len(jars)} people")
    return Regenerated(jars, signed_out, time.monotonic())


def test_double_click_on_regenerate_leaves_the_user_signed_in(regenerated: Regenerated) -> None:
    assert regenerated.signed_out == []


def test_log_in_beside_polls(person: Person, app: ExampleApp) -> None:
    """The polls that are under way were sent with the cookie of the visitor's session."""
    signed_out = []
    for number in range(LOG_INS):
        user = f"polled-{number}"
        assert person.jar, "the visitor has a session"
        person.log_in(user)
        shown, found = person.text, person.user
        if found != user:
            signed_out.append(f"{user} is {found}; after the log-in: {shown}")
            person.jar = []
            person.look()
        else:
            person.press("Log out")
            assert person.user is None
            person.look()
    print(f"{app.name}: {LOG_INS} log-ins beside polls, signed out: {len(signed_out)}")
    assert signed_out == []


def test_double_click_on_log_in(person: Person, app: ExampleApp) -> None:
    signed_out, refused = [], 0
    for number, gap in enumerate(GAPS_MS):
        user = f"twice-{number}"
        person.log_in(user, again_after_ms=gap)
        shown, found = person.text, person.user
        refused += "Signed in" not in shown
        if found != user:
            signed_out.append(f"{user}, {gap} ms, is {found}; after the log-in: {shown}")
        person.jar = []
        person.look()
    print(
        f"{app.name}: log in pressed twice: {person.sent} forms by {DOUBLE_CLICKS} people,"
        f" another page: {refused}, signed out: {len(signed_out)}"
    )
    assert signed_out == []


def test_double_click_on_log_out(person: Person, app: ExampleApp) -> None:
    broken = []
    for number, gap in enumerate(GAPS_MS):
        user = f"leaves-{number}"
        person.log_in(user)
        if person.user == user:
            person.look()
            person.press("Log out", again_after_ms=gap)
            if (found := person.user) is not None:
                broken.append(f"{user}, {gap} ms, is {found}: {person.text}")
        else:
            broken.append(f"{user} is signed out: {person.text}")
        person.jar = []
        person.look()
    print(
        f"{app.name}: log out pressed twice: {person.sent - DOUBLE_CLICKS} forms by {DOUBLE_CLICKS}"
        f" people, broken: {len(broken)}"
    )
    assert broken == []


def test_each_regenerate_brings_a_new_token(person: Person) -> None:
    """The grace of the one before may run."""
    person.log_in("elevated")
    tokens = []
    for _ in range(4):
        tokens.append(person.token)
        person.regenerate()
        assert person.user == "elevated"
    assert len(set(tokens)) == 4


def test_app_that_points_at_another_stage(
    person: Person,
    app: ExampleApp,
    stack: LocalStack,
    second_stage: str,
    tmp_path: Path,
) -> None:
    """Its other instances point at the right one. Cookies ignore ports, so all share the jar.

    Django's visitors share the name of their cookie with users. There the other instance makes no
    sessions for visitors.
    """
    environment = {**_environment(stack, app.name), "SESSIONS_URL": second_stage}
    signed_out = []
    with serving(app.name, environment, tmp_path / "log", visitors=app.name != "django") as other:
        person.poll(other.origin, "/who?write")
        for number in range(DOUBLE_CLICKS):
            user = f"astray-{number}"
            person.log_in(user)
            person.look(other.origin)
            assert "Signed in" not in person.text
            person.look()
            if person.user != user:
                signed_out.append(f"{user}: {person.text}")
            person.jar = []
            person.look()
        assert not other.failures
    print(f"{app.name}: {DOUBLE_CLICKS} visits to another stage, signed out: {len(signed_out)}")
    assert signed_out == []


def test_nobody_is_a_thief(
    regenerated: Regenerated,
    new_person: NewPerson,
    app: ExampleApp,
    stack: LocalStack,
) -> None:
    """The grace of each rotation is over by now, and with it what excuses a former token."""
    time.sleep(max(0, regenerated.at + _GRACE_SECONDS + 2 - time.monotonic()))
    person, signed_out, kept = new_person(app), [], []
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
            kept.append(user)
    thefts = _thefts(stack, app.name)
    print(
        f"{app.name}: after the grace, of {len(regenerated.jars)} people signed out:"
        f" {len(signed_out)}, without a new token: {len(kept)}; thefts of all: {len(thefts)}"
    )
    assert (signed_out, kept, thefts) == ([], [], [])


def _environment(stack: LocalStack, name: str) -> dict[str, str]:
    return stack.environment(stack.credentials(name, "execute-api:Invoke"))


def _thefts(stack: LocalStack, name: str) -> list[str]:
    """Sessions that a reused token ended by way of this app, from the whole trail."""
    # The trail comes in order: what happened before this session is there once this one is.
    keys = stack.credentials(name, "execute-api:Invoke")
    with Sessions(stack.url, region="us-east-1", credentials=keys) as sessions:
        last = sessions.create("the-last").session.session_id
        eventually(lambda: list(sessions.events(session_id=last)))
    pages = stack.client("dynamodb").get_paginator("scan")
    return [
        item["SessionId"]["S"]
        for page in pages.paginate(TableName=stack.outputs["AuditTableName"])
        for item in page["Items"]
        if item.get("Reason") == {"S": "token_reuse"} and item["Actor"]["S"].endswith(f"/{name}")
    ]
