"""Values that no request can be made of are refused with a sentence, before anything is sent."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
from botocore.credentials import Credentials
from click.testing import CliRunner

from serverless_sessions import DirectReader, Sessions
from serverless_sessions.cli.commands import main
from tests.support.stand_in import stand_in

GOOD = Credentials("testing", "testing")
BAD_URLS = [
    "",
    "sessions.example.com",
    "sessions.example.com/stage",
    "//sessions.example.com",
    "ftp://sessions.example.com",
    "file:///etc/passwd",
    " https://sessions.example.com",
    "https://sessions.example.com ",
    "https://sessions.example.com\n",
    "\x00https://sessions.example.com",
    "https://sessions.exa mple.com",
    "https://",
    "https:///stage",
    "https:sessions.example.com",
    "https://:443",
    "https://sessions..example.com",
    f"https://{'a' * 64}.example.com",
    "https://sitzungen.bücher.example",
    "https://sessions.example.com:port",
    "https://sessions.example.com:99999",
    "https://sessions.example.com:0",
    "https://[::1",
    "https://user:hidden@sessions.example.com",
    "https://sessions.example.com?hidden=1",
    "https://sessions.example.com/#hidden",
]


def is_one_sentence(error: pytest.ExceptionInfo[ValueError]) -> bool:
    text = str(error.value)
    return bool(text) and "\n" not in text and "hidden" not in text


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_cannot_be_one(connect_to: Callable[..., Sessions], url: str) -> None:
    with pytest.raises(ValueError, match="the URL of the service") as refused:
        connect_to(url, region="us-east-1", credentials=GOOD)
    assert is_one_sentence(refused)


def test_a_url_that_is_missing(connect_to: Callable[..., Sessions]) -> None:
    """This is what `os.environ.get` returns."""
    with pytest.raises(ValueError, match="the URL of the service is missing"):
        connect_to(None, region="us-east-1", credentials=GOOD)


@pytest.mark.parametrize("url", [each for each in BAD_URLS if each])
def test_an_endpoint_that_cannot_be_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="the endpoint of DynamoDB") as refused:
        DirectReader("Sessions", endpoint=url)
    assert is_one_sentence(refused)
    if "\x00" not in url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
        with pytest.raises(ValueError, match="the endpoint of DynamoDB"):
            DirectReader("Sessions")


@pytest.mark.parametrize(
    "url",
    [
        "https://a1b2c3.execute-api.eu-west-1.amazonaws.com",
        "https://sessions.example.com/stage/",
        "http://127.0.0.1:8080",
        "http://[::1]:8080/",
        "https://xn--bcher-kva.example",
        "http://local_stack:4566",
    ],
)
def test_a_url_that_can_be_one(connect_to: Callable[..., Sessions], url: str) -> None:
    connect_to(url, region="us-east-1", credentials=GOOD)


@pytest.mark.parametrize("region", ["eu-west-1 ", "eu-west-1\n", "eu/west", "Europe"])
def test_a_region_that_cannot_be_one(connect_to: Callable[..., Sessions], region: str) -> None:
    with pytest.raises(ValueError, match="AWS region"):
        connect_to("https://sessions.example.com", region=region, credentials=GOOD)
    with pytest.raises(ValueError, match="AWS region"):
        DirectReader("Sessions", region=region)


@pytest.mark.parametrize(
    ("credentials", "name"),
    [
        (Credentials("AKIA\nhidden", "secret"), "access key"),
        (Credentials("AKIA", "hidden\n"), "secret key"),
        (Credentials("AKIA", "secret", "hidden\r\nX-Evil: 1"), "session token"),
        (Credentials("AKIÄ", "hidden"), "access key"),
        (Credentials("", "hidden"), "access key"),
    ],
)
def test_keys_that_cannot_be_some(
    connect_to: Callable[..., Sessions], credentials: Credentials, name: str
) -> None:
    with pytest.raises(ValueError, match=name) as refused:
        connect_to("https://sessions.example.com", region="us-east-1", credentials=credentials)
    assert is_one_sentence(refused)
    frames = [frame for frame, _ in traceback.walk_tb(refused.tb)][1:]
    assert "hidden" not in str([frame.f_locals for frame in frames])


CALLS: dict[str, Callable[[Sessions, str], object]] = {
    "create": lambda sessions, user_id: sessions.create(user_id),
    "list": lambda sessions, user_id: list(sessions.list(user_id)),
    "revoke_all": lambda sessions, user_id: sessions.revoke_all(user_id),
    "events": lambda sessions, user_id: list(sessions.events(user_id=user_id)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_user_id_with_a_lone_surrogate(
    connect_to: Callable[..., Sessions], call: Callable[[Sessions, str], object]
) -> None:
    with stand_in() as api:
        sessions = connect_to(api.url, region="us-east-1", credentials=GOOD)
        with pytest.raises(ValueError, match="user_id contains a lone surrogate") as refused:
            call(sessions, "hidden\ud800")
        assert is_one_sentence(refused)
        assert api.requests == []


def test_the_command_line_says_the_sentence() -> None:
    done = CliRunner().invoke(main, ["--url", "ftp://sessions", "list", "ada"])
    assert done.exit_code == 2
    assert "Error: the URL of the service 'ftp://sessions' does not start" in done.stderr
