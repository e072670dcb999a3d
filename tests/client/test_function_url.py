"""The client through the function URL, for which requests are signed differently."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask

from serverless_sessions import AsyncSessions, SessionNotFound, Sessions
from serverless_sessions._core.signing import find_region, region_of, service_of
from serverless_sessions.cli.commands import main
from serverless_sessions.errors import NotAllowed, RouteNotFound
from serverless_sessions.flask import ServerlessSessions
from serverless_sessions.serve.gateway import Reply
from tests.support.service import Call, Service, gateway

HOST = "abcdefghijklmnopqrstuvwxyz012345.lambda-url"


@pytest.mark.parametrize(
    ("url", "aws_service", "region"),
    [
        (f"https://{HOST}.eu-west-1.on.aws/", "lambda", "eu-west-1"),
        (f"https://{HOST}.us-gov-west-1.on.aws", "lambda", "us-gov-west-1"),
        (f"https://{HOST}.cn-north-1.on.amazonwebservices.com.cn/", "lambda", "cn-north-1"),
        ("http://127.0.0.1:4566/_aws/lambda-url/abc/", "lambda", None),
        ("http://127.0.0.1:4566/_aws/execute-api/abc/default", "execute-api", None),
        ("https://abc.execute-api.eu-west-1.amazonaws.com", "execute-api", "eu-west-1"),
        ("https://lambda-url.example.com/auth", "execute-api", None),
    ],
)
def test_url_names_the_service_and_the_region(
    url: str, aws_service: str, region: str | None
) -> None:
    assert service_of(url) == aws_service
    assert region_of(url) == region
    if region:
        assert find_region(url, None) == region


@pytest.fixture
def sessions(connect_to: Callable[..., Sessions], service: Service) -> Sessions:
    return connect_to(service.function_url, region=service.region, credentials=service.credentials)


def test_session_lives_through_the_function_url(sessions: Sessions) -> None:
    """The signature is that of the service `lambda`, and the URL has a slash at its end."""
    issued = sessions.create("ada", data={"cart": [1]})
    session_id = issued.session.session_id

    assert sessions.verify(issued.token) == issued.session
    assert sessions.change(session_id, {"cart": [1, 2]}).data == {"cart": [1, 2]}
    assert [session.session_id for session in sessions.list("ada")] == [session_id]
    assert list(sessions.events(user_id="a/b c")) == []
    sessions.revoke(session_id)
    with pytest.raises(SessionNotFound):
        sessions.get(session_id)


def test_adapter_and_async_client_call_the_function_url(service: Service) -> None:
    """The console uses the async client."""
    options: dict[str, Any] = {"region": service.region, "credentials": service.credentials}
    app = Flask("shop")
    app.config["SERVERLESS_SESSIONS"] = {"url": service.function_url, **options}
    server_sessions, browser = ServerlessSessions(app), app.test_client()
    with app.app_context(), server_sessions.sessions:
        with browser.session_transaction() as values:
            values["_user_id"] = "ada"
        with browser.session_transaction() as values:
            assert values["_user_id"] == "ada"

    async def users() -> list[str | None]:
        async with AsyncSessions(service.function_url, **options) as sessions:
            return [session.user_id async for session in sessions.list("ada")]

    assert asyncio.run(users()) == ["ada"]
    assert all(" /_aws/lambda-url/" in call for call in service.calls)


def refused(call: Call) -> None:
    headers = {"Content-Type": "application/json", "x-amzn-RequestId": "request-403"}
    call.send(Reply(403, headers, b'{"Message":"Forbidden"}'))


def test_refusal_of_lambda_has_its_message_and_its_id(sessions: Sessions, service: Service) -> None:
    """Lambda writes `Message`, and API Gateway `message`."""
    service.plan(refused)

    with pytest.raises(NotAllowed, match=r"^Forbidden \(request request-403\)$"):
        sessions.get("A" * 12)


def test_url_without_a_function_is_no_session_that_is_absent(
    sessions: Sessions, service: Service
) -> None:
    service.plan(gateway(404, None))

    with pytest.raises(RouteNotFound):
        sessions.get("A" * 12)


def test_command_line_calls_the_function_url(
    sessions: Sessions, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = sessions.create("ada").session.session_id
    monkeypatch.setenv("SESSIONS_URL", service.function_url)
    run = CliRunner().invoke

    assert session_id in run(main, ["list", "ada"]).stdout

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    done = run(main, ["list", "ada"])
    assert done.exit_code == 4
    assert "lambda:InvokeFunctionUrl and lambda:InvokeFunction" in done.stderr
