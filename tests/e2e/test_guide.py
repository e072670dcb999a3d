"""Runs every snippet of docs/integrating/ and of the README against the deployed stack."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from botocore.credentials import Credentials
from fastapi import FastAPI
from flask import Flask

from local.stack import ACCOUNT, REGION, ROOT, LocalStack
from serverless_sessions import AsyncSessions, Client, SessionNotFound, Unavailable
from serverless_sessions._core.token import Token
from serverless_sessions.flask import ServerlessSessions
from serverless_sessions.starlette import SessionMiddleware
from tests.support.caller import Caller
from tests.support.waiting import eventually

# In the order in which their snippets build on one another.
PAGES = (
    "index",
    "django",
    "flask",
    "starlette",
    "python",
    "http",
    "sessions",
    "requests",
    "permissions",
)
GUIDE = "\n".join((ROOT / f"docs/integrating/{page}.md").read_text() for page in PAGES)
README = (ROOT / "README.md").read_text()


def snippets(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def keys(stack: LocalStack) -> Credentials:
    return stack.credentials("guide", "execute-api:Invoke")


@pytest.fixture
def guide(
    stack: LocalStack, keys: Credentials, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimpleNamespace]:
    """The names that the Python snippets define."""
    for name, value in stack.environment(keys).items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    exec(compile(snippets("python"), "docs/integrating", "exec"), names)  # noqa: S102
    # The deadlines of the guide's own client are too short for a busy machine.
    with stack.sessions(keys) as names["sessions"]:
        yield SimpleNamespace(**names)


def token_of(cookie: str) -> str:
    match = re.fullmatch("__Host-session=([^;]+); Path=/; Secure; HttpOnly; SameSite=Lax", cookie)
    assert match, cookie
    return match[1]


def test_every_snippet_is_run() -> None:
    """A code block in another language would not be run."""
    assert set(re.findall(r"^```(\w+)$", GUIDE, re.MULTILINE)) == {"python", "bash", "json"}


def test_python_snippets(guide: SimpleNamespace) -> None:
    """One user's log-in, changes and log-out call all snippets."""
    begin = int(time.time())

    token = token_of(guide.log_in("guided", "203.0.113.7", "Firefox/150.0"))
    elsewhere = token_of(guide.log_in("guided", "203.0.113.8", "Safari/20.0"))
    session = guide.current_session(token)
    assert session.user_id == "guided"
    assert session.client == Client("203.0.113.7", "Firefox/150.0")
    signed_in = {other.session_id for other in guide.where_signed_in("guided")}
    assert {text.partition(".")[0] for text in (token, elsewhere)} <= signed_in

    elevated = token_of(guide.elevate(session.session_id, token))
    assert guide.elevate(session.session_id, token) is None
    assert guide.current_session(elevated).session_id == session.session_id
    guide.add_to_cart(session.session_id, "tea")
    assert guide.add_to_cart(session.session_id, "milk").data == {"cart": ["tea", "milk"]}
    assert guide.sign_out_elsewhere("guided", session.session_id) >= 1
    assert guide.current_session(elsewhere) is None
    assert guide.current_session(elevated)
    assert guide.log_out(session.session_id).endswith("; Max-Age=0")
    assert guide.current_session(elevated) is None
    assert guide.current_session("nonsense") is None
    with pytest.raises(SessionNotFound):
        guide.elevate(session.session_id, elevated)

    def trail_is_complete() -> bool:
        types = [type for _, type, _ in guide.history("guided", begin)]
        return types.count("created") == types.count("revoked") >= 2 and "rotated" in types

    eventually(trail_is_complete)


def test_sensitive_action_needs_a_recent_proof(guide: SimpleNamespace) -> None:
    token = token_of(guide.log_in("payer", "203.0.113.7", "Firefox/150.0"))
    session = guide.current_session(token)
    assert not guide.may_pay_out(session)

    token = guide.second_factor_passed(session, token)

    assert guide.may_pay_out(guide.current_session(token))
    acting = guide.current_session(guide.look_at_the_app_as("payer", "grace"))
    assert (acting.user_id, acting.impersonator.id) == ("payer", "grace")
    assert not guide.may_pay_out(acting)


def test_visitor_keeps_the_data_at_log_in(guide: SimpleNamespace) -> None:
    visitor = guide.sessions.create(data={"cart": ["tea"]}).session

    issued = guide.sign_in(visitor, "shopper")

    assert (issued.session.user_id, issued.session.data) == ("shopper", {"cart": ["tea"]})
    former = guide.sessions.get(visitor.session_id)
    assert former.absolute_expires_at == former.renewed_at + 60


def test_device_of_another_user_is_not_signed_out(guide: SimpleNamespace) -> None:
    session_id = guide.sessions.create("owner").session.session_id

    assert not guide.sign_out_device("stranger", session_id)
    assert guide.sessions.get(session_id)
    assert guide.sign_out_device("owner", session_id)
    assert not guide.sign_out_device("owner", session_id)


def test_async_snippet(guide: SimpleNamespace) -> None:
    guide.log_in("browses", "203.0.113.7", "Firefox/150.0")

    async def browsers() -> list[str]:
        async with guide.async_sessions:
            names: list[str] = await guide.browsers("browses")
            return names

    def answered() -> list[str]:
        with suppress(Unavailable):
            return asyncio.run(browsers())
        return []

    assert set(eventually(answered)) == {"Firefox/150.0"}


def test_reader_snippet(guide: SimpleNamespace, stack: LocalStack) -> None:
    token = guide.sessions.create("read").token

    def verified() -> Any:
        with guide.with_reader(stack.outputs["SessionsTableName"]) as client, suppress(Unavailable):
            return client.verify(token)

    assert eventually(verified).user_id == "read"


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl"
)
def test_bash_snippets(stack: LocalStack, keys: Credentials, tmp_path: Path) -> None:
    """The script ends at the first answer that is not a success."""
    (tmp_path / ".curlrc").write_text("retry = 20\n")  # curl waits for `Retry-After` after a 503
    script = "set -euo pipefail\n" + snippets("bash") + '\necho "token=$token"'

    done = subprocess.run(
        ["bash", "-c", script],  # noqa: S607
        env={
            **stack.environment(keys),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "CURL_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    assert '"user_id":"grace"' in done.stdout
    assert '"theme":"dark"' in done.stdout
    assert '"complete":true' in done.stdout
    assert Token.parse(done.stdout.rpartition("token=")[2].strip())


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_commands_of_the_readme(stack: LocalStack, keys: Credentials, tmp_path: Path) -> None:
    """A newcomer copies them. curl before version 8 signs a query in the order of the URL."""
    (tmp_path / ".curlrc").write_text("retry = 20\nsilent\n")
    create, trail = re.findall(r"^\$ ((?:.*\\\n)*.*)", README, re.MULTILINE)

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],  # noqa: S607
            env={
                **stack.environment(keys),
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "CURL_HOME": str(tmp_path),
                "COLUMNS": "200",
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    created = json.loads(run(create))

    assert Token.parse(created["token"])

    def expired() -> str | None:
        lines = [line for line in run(trail).splitlines() if created["session_id"] in line]
        assert "\tcreated\t" in lines[0]
        return lines[1] if lines[1:] else None

    assert "\texpired\t" in eventually(expired)


def test_python_snippets_of_the_readme(
    stack: LocalStack, keys: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stack.environment(keys).items():
        monkeypatch.setenv(name, value)
    # tests/examples/test_app_tests.py runs the first one.
    _, django, flask, starlette = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    names: dict[str, Any] = {"os": os, "Flask": Flask, "ServerlessSessions": ServerlessSessions}
    names |= {"FastAPI": FastAPI, "SessionMiddleware": SessionMiddleware}
    names |= {"AsyncSessions": AsyncSessions}

    for snippet in (django, flask, starlette):
        exec(compile(snippet, "README.md", "exec"), names)  # noqa: S102

    assert find_spec(names["SESSION_ENGINE"])
    assert find_spec(names["MIDDLEWARE"][0].rpartition(".")[0])


def policies() -> list[dict[str, Any]]:
    blocks = re.findall(r"^```json\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    return [json.loads(block) for block in blocks]


def routes() -> set[str]:
    """Return the routes as resources of a policy, such as "API/GET/sessions/*"."""
    contract = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    return {
        f"API/{method.upper()}{re.sub('{.*?}', '*', path)}"
        for path, methods in contract["paths"].items()
        for method in methods
    }


def test_policy_of_a_reader_allows_one_action() -> None:
    reader, *_ = policies()

    assert reader["Action"] == "dynamodb:GetItem"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_policy_allows_the_routes_that_it_names_and_no_other(
    stack: LocalStack, number: int
) -> None:
    policy = policies()[number]
    named = policy["Resource"] if isinstance(policy["Resource"], list) else [policy["Resource"]]
    api = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{stack.url.split('/')[-2]}/$default"
    keys = stack.credentials(f"policy-{number}")
    stack.client("iam").put_user_policy(
        UserName=f"policy-{number}",
        PolicyName="guide",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [policy]},
        ).replace("API/", f"{api}/"),
    )
    call = Caller(stack.url, keys)

    allowed = set()
    for route in routes():
        _, method, path = route.split("/", 2)
        answer = call(method, f"/{path}".replace("*", "A" * 12), {"x": 1})
        if answer.status != 403:
            allowed.add(route)

    assert allowed == set(named)
