"""The result of every call without faults, and the exception for every error."""

from __future__ import annotations

import gc
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import yaml
from botocore.credentials import Credentials

from serverless_sessions import (
    Client,
    DataTooLarge,
    InvalidRequest,
    InvalidToken,
    NotAllowed,
    NotAnonymous,
    NoToken,
    PendingExpiry,
    RotationInGrace,
    RouteNotFound,
    SessionNotFound,
    Sessions,
    SessionsError,
    Unavailable,
    VersionMismatch,
    errors,
)
from serverless_sessions._core import calls
from serverless_sessions._core.client_details import normalize
from serverless_sessions.serve.gateway import Reply
from tests.support import service as faults
from tests.support.functions import function
from tests.support.service import Service
from tests.support.template import ROOT

UNKNOWN_ID = "A" * 12


@pytest.mark.parametrize("session_id", [7, None, b"abcdefghijkl"])
def test_session_id_is_a_string(sessions: Sessions, service: Service, session_id: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: sessions.get(session_id),
        lambda: sessions.change(session_id, {}),
        lambda: sessions.replace(session_id, {}),
        lambda: sessions.update(session_id, lambda data: data),
        lambda: sessions.renew(session_id),
        lambda: sessions.rotate(session_id),
        lambda: sessions.authenticate(session_id, methods=["otp"]),
        lambda: sessions.revoke(session_id),
        lambda: sessions.pending(session_id),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="session_id is a string, not"):
            call()
    assert service.calls == []


def test_rule_about_several_fields_is_in_the_message(sessions: Sessions) -> None:
    with pytest.raises(InvalidRequest, match="either session_id or user_id"):
        list(sessions.events())


def test_a_session_lives_from_log_in_to_log_out(sessions: Sessions) -> None:
    issued = sessions.create("ada", data={"cart": [1]}, ttl_seconds=600)
    session = issued.session
    assert (session.user_id, session.data, session.version) == ("ada", {"cart": [1]}, 1)
    assert session.expires_at == session.created_at + 600

    assert sessions.verify(issued.token) == session
    assert sessions.get(session.session_id) == session

    changed = sessions.change(session.session_id, {"cart": [1, 2], "seen": True})
    assert (changed.data, changed.version) == ({"cart": [1, 2], "seen": True}, 2)
    assert sessions.change(session.session_id, {"cart": None}).data == {"seen": True}
    assert sessions.replace(session.session_id, {"a": 1}).data == {"a": 1}

    assert sessions.renew(session.session_id, ttl_seconds=60).ttl_seconds == 60
    rotated = sessions.rotate(session.session_id)
    assert rotated.token != issued.token
    assert sessions.verify(rotated.token) == rotated.session

    sessions.revoke(session.session_id)
    assert sessions.verify(rotated.token) is None
    with pytest.raises(SessionNotFound):
        sessions.get(session.session_id)


def test_malformed_token_makes_no_call(sessions: Sessions, service: Service) -> None:
    for text in ("", "nonsense", "A" * 40, f"{UNKNOWN_ID}.{'B' * 27}\n", "Ä" * 40):
        assert sessions.verify(text) is None
    assert service.calls == []


def test_malformed_session_id_makes_no_call(sessions: Sessions, service: Service) -> None:
    """It must not change the path of the request either."""
    sessions.revoke("../sessions")
    for call in (sessions.get, sessions.renew, sessions.rotate):
        with pytest.raises(SessionNotFound):
            call("../events?user_id=ada")
    assert service.calls == []


def test_repr_contains_no_token_and_no_data(sessions: Sessions) -> None:
    issued = sessions.create("ada", data={"card": "4111"})
    for text in (repr(issued), repr(issued.session)):
        assert issued.token.partition(".")[2] not in text
        assert "4111" not in text


def test_values_are_returned_as_they_were_sent(sessions: Sessions) -> None:
    """DynamoDB has one type for numbers. An integer is returned as int, even if sent as a float."""
    data = {
        "ints": [0, 1, -1, 10**37],
        "floats": [0.1, 1e-7, -2.5, 1e-100, 123456.789],
        "decimals": [Decimal("0.1000000000000000000001"), Decimal("12345678901234567890.5")],
        "others": [True, False, None, "", "é\U0001f600", [], {}, [[]], {"a": {"b": None}}],
    }
    created = sessions.create("ada", data=data | {"whole": [1.0, 1e20, Decimal("1E+2")]}).session
    read = sessions.get(created.session_id)
    for session in (created, read):
        assert session.data
        # The text is compared, because 1 equals True and 1.0.
        expected = data | {"whole": [1, 10**20, 100]}
        assert repr(sorted(session.data.items())) == repr(sorted(expected.items()))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), {1, 2}])
def test_value_that_is_not_json_is_not_sent(
    sessions: Sessions, service: Service, value: Any
) -> None:
    with pytest.raises((TypeError, ValueError)):
        sessions.create("ada", data={"value": value})
    assert service.calls == []


def test_visitor_has_no_user_but_a_last_client(sessions: Sessions, service: Service) -> None:
    issued = sessions.create(client=Client("192.0.2.1"))
    assert issued.session.user_id is None
    assert issued.session.last_client == Client()
    service.sdk.update_item(
        TableName=service.table,
        Key={"SessionId": {"S": issued.session.session_id}},
        UpdateExpression="SET RenewedAt = RenewedAt - :long",
        ExpressionAttributeValues={":long": {"N": "1000"}},
    )
    verified = sessions.verify(issued.token, client=Client("[2001:db8::1]:443", "Firefox"))
    assert verified
    assert verified.client == Client("192.0.2.1")
    assert verified.last_client == Client("2001:db8::1", "Firefox")


def test_client_details_are_adjusted_to_the_rules(sessions: Sessions) -> None:
    """Invalid details of a client must never prevent a log-in."""
    agent = "\x00Mozilla\ud800\n" + "\U0001f600" * 600
    issued = sessions.create("ada", client=Client("2001:db8::1%eth0, 10.0.0.1", agent))
    assert issued.session.client == Client("2001:db8::1", "Mozilla" + "\U0001f600" * 505)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 , 10.0.0.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[fe80::1%en0]", "fe80::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("unknown", None),
        ("_hidden", None),
        ("999.1.1.1", None),
        ("", None),
    ],
)
def test_address_is_normalized_or_omitted(address: str, expected: str | None) -> None:
    assert normalize(Client(ip=address)) == ({"ip": expected} if expected else {})


def test_updates_of_eight_threads_all_count(sessions: Sessions) -> None:
    session_id = sessions.create("ada", data={"count": 0}).session.session_id

    def add_one(_: int) -> None:
        def count(data: dict[str, Any]) -> None:
            data["count"] += 1

        sessions.update(session_id, count)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add_one, range(16)))
    assert sessions.get(session_id).data == {"count": 16}


def test_update_sends_only_what_changed(sessions: Sessions, service: Service) -> None:
    created = sessions.create("ada", data={"big": "x" * 1000, "one": 1, "gone": 2}).session
    service.plan()
    session = sessions.update(
        created.session_id, lambda data: {"big": data["big"], "one": True, "new": 0}
    )
    assert session.data == {"big": "x" * 1000, "one": True, "new": 0}
    assert json.loads(service.bodies[-1]) == {"data": {"one": True, "new": 0, "gone": None}}

    service.plan()
    assert sessions.update(created.session_id, lambda data: None) == session
    assert len(service.calls) == 1


def test_update_can_set_null_and_many_keys(sessions: Sessions) -> None:
    """Changes that `change` cannot express are sent with `replace`."""
    session_id = sessions.create("ada", data={"a": 1}).session.session_id
    assert sessions.update(session_id, lambda data: data | {"b": None}).data == {"a": 1, "b": None}
    many = {f"k{i}": i for i in range(101)}
    assert sessions.update(session_id, lambda data: many).data == many


def test_change_requires_its_version(sessions: Sessions) -> None:
    session = sessions.create("ada", data={"a": 1}).session
    sessions.change(session.session_id, {"a": 2}, version=1)
    with pytest.raises(VersionMismatch):
        sessions.change(session.session_id, {"a": 3}, version=1)
    with pytest.raises(VersionMismatch):
        sessions.replace(session.session_id, {}, version=1)


def test_lists_and_sign_out_go_through_all_pages(
    sessions: Sessions, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serverless_sessions._core.operations._PAGE", 2)
    created = [sessions.create("a/b &c=é").session.session_id for _ in range(5)]
    listed = list(sessions.list("a/b &c=é"))
    assert sorted(session.session_id for session in listed) == sorted(created)
    assert all(session.data is None for session in listed)
    assert sessions.revoke_all("a/b &c=é", keep=created[0]) == 4
    assert [session.session_id for session in sessions.list("a/b &c=é")] == created[:1]


def test_sign_out_continues_until_it_is_complete(sessions: Sessions, service: Service) -> None:
    """A call ends early if its time is over. The client then continues from the cursor."""
    for _ in range(3):
        sessions.create("ada")
    service.plan(signed_out(2, "here"), faults.gateway(429, "Too Many Requests"), signed_out(5))
    assert sessions.revoke_all("ada") == 7
    assert [call.partition("cursor=")[2] for call in service.calls] == ["", "here", "here"]

    service.plan(always=signed_out(0, "here"))
    with pytest.raises(Unavailable):
        sessions.revoke_all("ada")


def signed_out(revoked: int, next_cursor: str | None = None) -> faults.Fault:
    """Answer that `revoked` sessions have ended. With a cursor, some sessions are left."""
    answer = {"revoked": revoked, "complete": not next_cursor, "next_cursor": next_cursor}
    return lambda call: call.send(Reply(200, {}, json.dumps(answer).encode()))


def test_events_are_paged_in_either_order(
    sessions: Sessions, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serverless_sessions._core.operations._PAGE", 2)
    session_id = sessions.create("ada").session.session_id
    for second in range(5):
        event: dict[str, Any] = {
            "SessionId": {"S": session_id},
            "EventId": {"S": f"{1_795_000_000 + second}#{second:040}"},
            "Type": {"S": "updated"},
            "UserId": {"S": "ada"},
            "At": {"N": str(1_795_000_000 + second)},
            "RecordedAt": {"N": str(1_795_000_000 + second)},
            "Changed": {"L": [{"S": "cart"}]},
        }
        service.sdk.put_item(TableName=service.audit_table, Item=event)

    newest = list(sessions.events(session_id=session_id))
    assert [event.at for event in newest] == [1_795_000_000 + second for second in (4, 3, 2, 1, 0)]
    assert newest[0].changed == ("cart",)
    assert list(sessions.events(session_id=session_id, newest_first=False)) == newest[::-1]
    between = sessions.events(user_id="ada", since=1_795_000_001, until=1_795_000_003)
    assert list(between) == newest[2:4]
    with pytest.raises(InvalidRequest):
        list(sessions.events())


@pytest.mark.parametrize(("prompt_expiry", "expected_by"), [(False, None), (True, 1_795_000_120)])
def test_pending_expiry_is_returned(
    sessions: Sessions,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    prompt_expiry: bool,
    expected_by: int | None,
) -> None:
    monkeypatch.setattr(function("session_api"), "prompt_expiry", prompt_expiry)
    session = sessions.create("ada").session
    assert sessions.pending(session.session_id) is None
    service.sdk.update_item(
        TableName=service.table,
        Key={"SessionId": {"S": session.session_id}},
        UpdateExpression="SET ExpirationTime = :past, CreatedAt = :earlier",
        ExpressionAttributeValues={":past": {"N": "1795000000"}, ":earlier": {"N": "1794998200"}},
    )
    assert sessions.pending(session.session_id) == PendingExpiry(1_795_000_000, "idle", expected_by)


def test_answer_of_a_service_that_expects_nothing_promises_nothing() -> None:
    """A service from before prompt expiry has no such member."""
    assert PendingExpiry.from_json({"at": 7, "cause": "idle"}) == PendingExpiry(7, "idle", None)


def test_rotation_with_the_users_token(sessions: Sessions) -> None:
    """The newest token can be rotated at any time, the one before it never."""
    issued = sessions.create("ada")
    session_id = issued.session.session_id
    first = sessions.rotate(session_id, token=issued.token)
    second = sessions.rotate(session_id, token=first.token)

    assert len({issued.token, first.token, second.token}) == 3
    family = slice(13, 25)
    assert issued.token[family] == first.token[family] == second.token[family]
    with pytest.raises(RotationInGrace):
        sessions.rotate(session_id, token=first.token)
    assert sessions.verify(second.token)
    assert sessions.verify(first.token), "requests in progress may still have it"
    for bad in (f"{session_id}.{'B' * 27}", "malformed", f"{UNKNOWN_ID}.{'B' * 27}"):
        with pytest.raises(InvalidToken):
            sessions.rotate(session_id, token=bad)
    assert sessions.verify(second.token)


def test_token_can_be_inspected_without_consequences(
    sessions: Sessions, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = sessions.create("ada")
    before = service.items()
    assert sessions.inspect(issued.token) == issued.session
    assert service.items() == before
    rotated = sessions.rotate(issued.session.session_id, token=issued.token)
    before = service.items()
    assert sessions.inspect(rotated.token) == rotated.session
    assert sessions.inspect(issued.token) is None
    assert sessions.inspect("malformed") is None
    assert service.items() == before, "the first use of the token is not recorded"


def test_visitors_session_can_have_a_last_window(sessions: Sessions) -> None:
    visitor, user = sessions.create(), sessions.create("ada")

    last = sessions.renew(visitor.session.session_id, ttl_seconds=60, final=True)

    assert last.expires_at == last.absolute_expires_at == last.renewed_at + 60
    again = sessions.renew(visitor.session.session_id, ttl_seconds=600)
    assert again.expires_at == last.expires_at
    with pytest.raises(NotAnonymous):
        sessions.renew(user.session.session_id, ttl_seconds=60, final=True)


def test_errors_say_what_is_wrong(sessions: Sessions, service: Service) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        sessions.create("ada", ttl_seconds=0)
    assert invalid.value.pointers == ("/ttl_seconds",)
    assert f"(request {invalid.value.request_id})" in str(invalid.value)
    assert invalid.value.status == 422

    issued = sessions.create("ada", data={"a": 1})
    sessions.rotate(issued.session.session_id)
    with pytest.raises(RotationInGrace):
        sessions.rotate(issued.session.session_id)
    with pytest.raises(DataTooLarge):
        sessions.create("ada", data={"a": "x" * 66_000})
    service.sdk.update_item(
        TableName=service.table,
        Key={"SessionId": {"S": issued.session.session_id}},
        UpdateExpression="REMOVE TokenHash",
    )
    with pytest.raises(NoToken):
        sessions.rotate(issued.session.session_id)


def test_every_code_of_the_contract_has_a_class() -> None:
    contract = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    codes = contract["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    for code in codes:
        problem = Reply(418, {}, json.dumps({"code": code, "detail": "d"}).encode())
        failure = calls.find_failure(calls.Answer(problem.status, {}, problem.body))
        assert failure is not None
        assert type(failure.error) is not SessionsError, code
        assert failure.error.code == code
    exported = {kind.code for kind in vars(errors).values() if hasattr(kind, "code")} - {None}
    assert exported == set(codes)


def test_errors_of_api_gateway_have_their_own_classes(
    connect: Callable[..., Sessions], service: Service
) -> None:
    forger = connect(credentials=Credentials("testing", "wrong"))
    with pytest.raises(NotAllowed):
        list(forger.list("ada"))
    sessions = connect()
    session_id = sessions.create("ada").session.session_id
    service.plan(faults.gateway(404, "Not Found"))
    with pytest.raises(RouteNotFound):
        sessions.get(session_id)
    service.plan(always=faults.gateway(500, None))
    with pytest.raises(Unavailable):
        sessions.get(session_id)


def test_connections_are_reused_without_nagles_algorithm(
    service: Service, sessions: Sessions
) -> None:
    """With Nagle's algorithm, every body would wait 40 ms for the headers' acknowledgement."""
    issued = sessions.create("ada")
    for _ in range(5):
        sessions.verify(issued.token)
    assert service.connections == 1
    [connection] = [item for item in gc.get_objects() if _is_connected_to(item, service)]
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def _is_connected_to(item: object, service: Service) -> bool:
    # `isinstance` alone would evaluate Django's lazy objects.
    if not issubclass(type(item), socket.socket) or not isinstance(item, socket.socket):
        return False
    if item.fileno() < 0 or item.family != socket.AF_INET:
        return False
    with suppress(OSError):
        return bool(service.url.endswith(f":{item.getpeername()[1]}"))
    return False
