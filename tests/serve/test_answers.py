"""What the embedded service answers over HTTP, apart from what the functions answer."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from serverless_sessions import DirectReader, NotAllowed, Sessions, Unavailable
from tests.support.caller import Caller
from tests.support.embedded import Embedded, embedded_service
from tests.support.tables import sdk

SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=ada/20261126/us-east-1/execute-api/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
}


@pytest.fixture
def connection(embedded: Embedded) -> Iterator[HTTPConnection]:
    url = urlsplit(embedded.url)
    with closing(HTTPConnection(str(url.hostname), url.port)) as connection:
        yield connection


def sessions_of(embedded: Embedded, **options: Any) -> Sessions:
    known: dict[str, Any] = {"region": embedded.region, "credentials": embedded.credentials}
    return Sessions(embedded.url, **(known | options))


def send(
    connection: HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> HTTPResponse:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, names)
    return connection.getresponse()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/sessions?user_id=ada", SIGNED, 200),
        ("/sessions?user_id=ada", {}, 403),
        ("/sessions?user_id=ada", {"Authorization": "Bearer x"}, 403),
        ("//sessions?user_id=ada", SIGNED, 200),
        ("/nothing", SIGNED, 404),
        ("/nothing", {}, 404),
        ("/sessions/verify/x", SIGNED, 404),
        ("/sessions?user_id=ada", SIGNED | {"X-Long": "x" * 10_000}, 431),
        ("/sessions?user_id=ada", SIGNED | {"Content-Length": "20000000"}, 413),
        ("/sessions?user_id=ada", SIGNED | {"Transfer-Encoding": "chunked"}, 411),
        ("/sessions?user_id=ada", SIGNED | {"Content-Length": "x"}, 400),
        # What a page in a browser could send, also with a host name of its own.
        ("/sessions?user_id=ada", SIGNED | {"Origin": "https://example.com"}, 403),
        ("/sessions?user_id=ada", SIGNED | {"Origin": "null"}, 403),
        ("/sessions?user_id=ada", SIGNED | {"Host": "example.com"}, 421),
        ("/_control/reset", {"Host": "example.com", "X-Sessions-Control": "1"}, 421),
        ("/_control/reset", {}, 403),
        ("/_control/reset", {"X-Sessions-Control": "1"}, 404),
    ],
)
def test_answers_of_the_server_itself(
    connection: HTTPConnection, path: str, headers: dict[str, str], status: int
) -> None:
    """Those of API Gateway, and refusals of what may come from a page in a browser."""
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()

    assert answer.status == status
    assert json.loads(answer.read())


def test_a_page_can_neither_reset_nor_read_anything(
    embedded: Embedded, connection: HTTPConnection
) -> None:
    """A page of any site can send a form to this port, but not with this header."""
    form = {"Content-Type": "text/plain", "Origin": "https://example.com"}
    assert send(connection, "POST", "/_control/reset", b"{}", **form).status == 403
    connection.close()
    assert (
        send(connection, "POST", "/_control/reset", b"{}", Content_Type="text/plain").status == 403
    )


def test_a_connection_is_kept(embedded: Embedded, connection: HTTPConnection) -> None:
    """Also after an answer without a body, and after an error."""
    connection.connect()
    first = connection.sock
    for method, path, status in (
        ("DELETE", "/sessions/AAAAAAAAAAAA", 204),
        ("GET", "/sessions/AAAAAAAAAAAA", 404),
        ("GET", "/sessions?user_id=ada", 200),
    ):
        connection.request(method, path, headers=SIGNED)
        answer = connection.getresponse()
        assert answer.status == status
        answer.read()
    assert connection.sock is first


def test_a_connection_of_http_1_0_is_closed(embedded: Embedded) -> None:
    url = urlsplit(embedded.url)
    with socket.create_connection((url.hostname, url.port), 60) as client:
        client.sendall(f"GET /nothing HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_the_access_key_names_the_actor(embedded: Embedded) -> None:
    with sessions_of(embedded, credentials=Credentials("web-shop", "any")) as sessions:
        session_id = sessions.create("ada").session.session_id
        embedded.control("clock")
        [created] = sessions.events(session_id=session_id)
    assert created.actor == "arn:aws:iam::000000000000:user/web-shop"


def test_an_access_key_that_can_be_no_name_is_refused(embedded: Embedded) -> None:
    with (
        sessions_of(embedded, credentials=Credentials("a:b", "any")) as sessions,
        pytest.raises(NotAllowed),
    ):
        sessions.create("ada")


def test_a_direct_reader_reads_the_table(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API does not answer any more, so the session comes from the table."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", embedded.url)
    reader = DirectReader(embedded.table)
    with sessions_of(embedded, reader=reader, verify_deadline_seconds=60) as sessions:
        issued = sessions.create("ada", data={"theme": "dark"})
        assert sessions.verify(issued.token)
        embedded.control("faults", kind="refused")

        session = sessions.verify(issued.token)
        assert session
        assert session.data == {"theme": "dark"}

        embedded.control("clock", advance=1801)
        with pytest.raises(Unavailable):
            sessions.verify(issued.token)


def test_only_reads_of_an_item_are_allowed(embedded: Embedded) -> None:
    client = sdk(embedded.url)
    key = {"SessionId": {"S": "AAAAAAAAAAAA"}}
    read = client.get_item(TableName=embedded.table, Key=key, ConsistentRead=True)
    assert "Item" not in read
    with pytest.raises(ClientError, match="AccessDeniedException"):
        client.delete_item(TableName=embedded.table, Key=key)
    with pytest.raises(ClientError, match="ValidationException"):
        client.get_item(TableName=embedded.table, Key=key)
    with pytest.raises(ClientError, match="ValidationException"):
        client.get_item(TableName="absent", Key=key, ConsistentRead=True)
    with pytest.raises(ClientError, match="ValidationException"):
        client.get_item(TableName=embedded.table, Key={"SessionId": {"S": ""}}, ConsistentRead=True)


def test_a_kill_switch_is_the_policy() -> None:
    not_before = int(time.time()) - 5
    with embedded_service("--not-before", str(not_before)) as embedded:
        call = Caller(embedded.url, embedded.credentials)
        token = call("POST", "/sessions", {"user_id": "ada"}).json["token"]
        answer = call("POST", "/sessions/verify", {"token": token})
    assert answer.status == 200
    assert answer.headers["sessions-policy"] == f"not_before={not_before}, renewal_fraction=0.1"


def test_data_that_is_no_text_reaches_the_function(embedded: Embedded) -> None:
    call = Caller(embedded.url, embedded.credentials)
    answer = call(
        "POST", "/sessions", b'{"user_id": "\xff"}', headers={"Content-Type": "application/json"}
    )
    assert (answer.status, answer.json["code"]) == (400, "invalid_json")


def test_a_client_that_goes_away_is_no_trouble(embedded: Embedded) -> None:
    url = urlsplit(embedded.url)
    with socket.create_connection((url.hostname, url.port)) as client:
        client.sendall(b"POST /sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12")
    embedded.control("clock")
