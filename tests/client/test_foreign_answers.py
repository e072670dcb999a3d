"""Whatever answers in place of the service, a call raises one of the package's own exceptions.

A proxy, a maintenance page or a service of another version can answer anything. The tests run the
plans of the calls directly, and so cover both clients.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from serverless_sessions import (
    DirectReader,
    OutcomeUnknown,
    Session,
    Sessions,
    SessionsError,
    Unavailable,
    UnexpectedAnswer,
)
from serverless_sessions._core import clock
from serverless_sessions._core.calls import Answer, Deadline, NoAnswer, Plan, Request
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.token import Token
from serverless_sessions.serve.gateway import Reply
from tests.support.service import Call, Service

TOKEN = Token("A" * 12, "B" * 27)
SESSION: dict[str, Any] = {
    "session_id": TOKEN.session_id,
    "user_id": "ada",
    "created_at": 1_795_000_000,
    "renewed_at": 1_795_000_000,
    "expires_at": 1_795_001_800,
    "absolute_expires_at": 1_795_086_400,
    "ttl_seconds": 1800,
    "version": 1,
    "data": {"a": 1},
    "client": {"ip": "192.0.2.1", "user_agent": "Firefox"},
    "last_client": {},
    "authenticated_at": 1_794_990_000,
    "methods": ["pwd"],
    "impersonator": {"id": "grace", "reason": "support"},
}
SUMMARY = {name: value for name, value in SESSION.items() if name != "data"}
EVENT: dict[str, Any] = {
    "event_id": f"1795000000#{1:040}",
    "type": "updated",
    "session_id": TOKEN.session_id,
    "user_id": None,
    "at": 1_795_000_000,
    "recorded_at": 1_795_000_000,
    "actor": "arn:aws:iam::111122223333:user/backend",
    "request_id": "request-1",
    "changed": ["cart"],
    "changed_count": 10,
    "methods": ["pwd"],
    "impersonator": {"id": "grace"},
}
OPERATIONS = Operations(
    "http://localhost",
    "us-east-1",
    deadline_seconds=60.0,
    verify_deadline_seconds=60.0,
    sign_out_deadline_seconds=60.0,
    reader=None,
)
# A change that a foreign answer leaves in doubt is an `OutcomeUnknown` with the same reason.
UNEXPECTED = (UnexpectedAnswer, OutcomeUnknown)
# By the name of a call: its plan, the status of its success, and the service's answer to it.
CALLS: dict[str, tuple[Callable[[], Plan[object]], int, Any]] = {
    "create": (
        lambda: OPERATIONS.create(
            "ada",
            data=Secret(None),
            ttl_seconds=None,
            absolute_ttl_seconds=None,
            client=None,
            token=TOKEN,
        ),
        201,
        SESSION,
    ),
    "verify": (
        lambda: OPERATIONS.verify(Secret(TOKEN.text), renew=True, client=None),
        200,
        SESSION,
    ),
    "inspect": (lambda: OPERATIONS.inspect(Secret(TOKEN.text)), 200, SESSION),
    "get": (lambda: OPERATIONS.get(TOKEN.session_id), 200, SESSION),
    "change": (
        lambda: OPERATIONS.change(TOKEN.session_id, Secret({"a": 1}), version=None),
        200,
        SESSION,
    ),
    "change a version": (
        lambda: OPERATIONS.change(TOKEN.session_id, Secret({"a": 1}), version=7),
        200,
        SESSION,
    ),
    "replace": (
        lambda: OPERATIONS.replace(TOKEN.session_id, Secret({}), version=None),
        200,
        SESSION,
    ),
    "update": (
        lambda: OPERATIONS.update(TOKEN.session_id, lambda data: {"a": 2}),
        200,
        SESSION,
    ),
    "renew": (lambda: OPERATIONS.renew(TOKEN.session_id, ttl_seconds=None), 200, SESSION),
    "rotate": (
        lambda: OPERATIONS.rotate(TOKEN.session_id, token=Secret(TOKEN.text), grace_seconds=None),
        200,
        SESSION,
    ),
    "authenticate": (
        lambda: OPERATIONS.authenticate(
            TOKEN.session_id, methods=["otp"], token=Secret(TOKEN.text), grace_seconds=None
        ),
        200,
        SESSION,
    ),
    "revoke": (lambda: OPERATIONS.revoke(TOKEN.session_id, reason="logout"), 204, None),
    "revoke_all": (
        lambda: OPERATIONS.revoke_all("ada", keep=None, reason="logout"),
        200,
        {"revoked": 3, "complete": True, "next_cursor": None},
    ),
    "list": (
        lambda: OPERATIONS.list_page("ada", None),
        200,
        {"items": [SUMMARY], "next_cursor": None},
    ),
    "events": (
        lambda: OPERATIONS.events_page({"user_id": "ada"}, None),
        200,
        {"items": [EVENT], "next_cursor": None},
    ),
    "pending": (
        lambda: OPERATIONS.pending(TOKEN.session_id),
        200,
        {"pending": {"at": 1_795_000_000, "cause": "idle", "expected_by": 1_795_000_120}},
    ),
}
ALL_CALLS = pytest.mark.parametrize("name", CALLS)

FOREIGN_VALUES: list[Any] = [None, True, 7, 1.5, "text", [], [1], [None], {}, {"a": 1}]
MAINTENANCE = {"status": "maintenance"}
FOREIGN_DOCUMENTS: list[Any] = [
    *FOREIGN_VALUES,
    MAINTENANCE,
    {"message": "Hello"},
    {"items": [{}], "next_cursor": None},
    {"errors": [{"code": "unknown"}]},
    [SESSION],
    {"data": SESSION},
]
NO_DOCUMENTS = [
    b"",
    b" ",
    b"<!doctype html><title>Maintenance</title>",
    b"\xff\xfe{",
    b"{",
    b'{"a":',
    b"[" * 100_000,
    b"1e999999999",
    b'{"a":1e99999999999999999999}',
    b'{"revoked":' + b"9" * 5000 + b',"complete":true}',
]
# What the service reads as members of a problem document.
PROBLEMS: list[dict[str, Any]] = [
    {name: value}
    for name in ("type", "title", "status", "detail", "instance", "code", "errors", "message")
    for value in [
        *FOREIGN_VALUES,
        [{"pointer": 7, "detail": None}],
        [{"pointer": "/a"}, 7, {"pointer": "/b", "detail": "d"}],
    ]
]


def run(plan: Plan[object], answer: Answer | NoAnswer) -> object:
    """Answer every request of the plan alike, and return the plan's result."""
    outcome: Any = None
    while True:
        try:
            step = plan.send(outcome)
        except StopIteration as done:
            return done.value
        outcome = answer if isinstance(step, Request) else None


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def mutations(document: Any) -> Iterator[Any]:
    """Yield copies of a document in which one member is missing or has another type."""
    for path in paths(document):
        parent = copy.deepcopy(document)
        container = parent
        for key in path[:-1]:
            container = container[key]
        original = container[path[-1]]
        for value in FOREIGN_VALUES:
            if type(value) is not type(original):
                container[path[-1]] = value
                yield copy.deepcopy(parent)
        if isinstance(container, dict):
            del container[path[-1]]
            yield parent


def paths(document: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys: Any = ()
    if isinstance(document, dict):
        keys = document
    elif isinstance(document, list):
        keys = range(len(document))
    for key in keys:
        # The session's data may be any JSON object.
        yield (*prefix, key)
        if key != "data":
            yield from paths(document[key], (*prefix, key))


# Members that the service may leave out or set to null.
OPTIONAL = {
    *("ip", "user_agent", "changed", "changed_count", "expected_by"),
    *("authenticated_at", "methods", "impersonator", "reason"),
}
NULLABLE = {"user_id", "next_cursor", "pending", "actor", "request_id"} | OPTIONAL


def is_harmless(valid: Any, document: Any) -> bool:
    """Whether the mutation of the valid answer is an answer that the service could give."""
    if isinstance(valid, dict) and isinstance(document, dict):
        missing = valid.keys() - document.keys()
        return missing <= OPTIONAL and all(
            (document[name] is None and name in NULLABLE)
            or (name == "user_id" and isinstance(document[name], str))
            or (name == "next_cursor" and isinstance(document[name], str))
            or (name == "data" and isinstance(document[name], dict))
            or is_harmless(valid[name], document[name])
            for name in valid.keys() - missing
        )
    if isinstance(valid, list) and isinstance(document, list) and len(valid) == len(document):
        return all(map(is_harmless, valid, document))
    return type(valid) is type(document) and bool(valid == document)


@ALL_CALLS
def test_answer_of_the_service_is_taken(name: str) -> None:
    """The other tests would prove nothing if this failed."""
    make, status, valid = CALLS[name]
    run(make(), Answer(status, {}, b"" if valid is None else encode(valid)))


@ALL_CALLS
def test_foreign_document_is_no_success(name: str) -> None:
    make, status, _ = CALLS[name]
    bodies = [*map(encode, FOREIGN_DOCUMENTS), *NO_DOCUMENTS]
    for success in {200, 201, 202, 204, 206, status}:
        for body in bodies:
            if (success, status) == (204, 204):
                continue  # the whole answer is the status; a 204 has no body
            with pytest.raises(UNEXPECTED, match="not the service") as raised:
                run(make(), Answer(success, {}, body))
            assert raised.value.status == success


@ALL_CALLS
def test_answer_that_lacks_a_member_is_no_success(name: str) -> None:
    make, status, valid = CALLS[name]
    for document in mutations(valid):
        answer = Answer(status, {}, encode(document))
        if is_harmless(valid, document):
            run(make(), answer)
        else:
            with pytest.raises(UNEXPECTED, match="not the service"):
                run(make(), answer)


@ALL_CALLS
def test_success_has_the_status_of_the_contract(name: str) -> None:
    """`revoke` takes 204 alone for a log-out: a 200 comes from something else."""
    make, status, valid = CALLS[name]
    for other in {200, 201, 202, 203, 204, 205, 206, 226} - {status}:
        with pytest.raises(UNEXPECTED, match="not the service"):
            run(make(), Answer(other, {}, encode(valid if valid is not None else MAINTENANCE)))


@ALL_CALLS
def test_foreign_error_is_an_error_of_the_package(name: str) -> None:
    make, _, _ = CALLS[name]
    bodies = [*map(encode, [*FOREIGN_DOCUMENTS, *PROBLEMS]), *NO_DOCUMENTS]
    for status in (302, 400, 401, 404, 418, 429, 503):
        for body in bodies:
            with pytest.raises(SessionsError) as raised:
                run(make(), Answer(status, {}, body))
            assert type(raised.value) is not SessionsError
            assert isinstance(str(raised.value), str)
            if status >= 500:
                assert isinstance(raised.value, Unavailable)


def test_readable_part_of_an_error_is_kept() -> None:
    problem = {
        "code": "invalid_request",
        "detail": 7,
        "message": "wrong",
        "errors": [{"pointer": "/a"}, 7, {"pointer": "/b", "detail": "must be a number"}],
    }
    make, _, _ = CALLS["renew"]
    with pytest.raises(SessionsError) as raised:
        run(make(), Answer(422, {"apigw-requestid": "r-1"}, encode(problem)))
    assert str(raised.value) == "wrong; /b: must be a number (request r-1)"


@pytest.mark.parametrize(
    "name", ["create", "verify", "inspect", "get", "change", "renew", "rotate", "authenticate"]
)
def test_session_of_somebody_else_is_no_answer(name: str) -> None:
    """A cache or a confused proxy could return another call's answer."""
    make, status, valid = CALLS[name]
    with pytest.raises(UNEXPECTED, match="not the service"):
        run(make(), Answer(status, {}, encode(valid | {"session_id": "C" * 12})))


def test_list_that_does_not_go_on_ends() -> None:
    page = {"items": [SUMMARY], "next_cursor": "same"}
    with pytest.raises(UNEXPECTED, match="not the service"):
        run(OPERATIONS.list_page("ada", "same"), Answer(200, {}, encode(page)))


def test_members_of_a_newer_service_are_ignored() -> None:
    newer: Mapping[str, Any] = {
        **SESSION,
        "client": {"ip": "192.0.2.1", "device": "phone"},
        "colour": ["red"],
    }
    make, status, _ = CALLS["verify"]
    assert run(make(), Answer(status, {}, encode(newer)))
    event = EVENT | {"type": "invented", "new": {"a": 1}}
    make, status, _ = CALLS["events"]
    assert run(make(), Answer(status, {}, encode({"items": [event], "next_cursor": None})))


def test_reader_leaves_foreign_answers_to_the_api() -> None:
    """A `DirectReader` reads the table, and what answers there may be foreign as well."""
    attributes = {"S": "text", "N": "7", "M": {}, "L": [], "B": "AA==", "BOOL": True, "NULL": True}
    item = {
        "SessionId": {"S": TOKEN.session_id},
        "UserId": {"S": "ada"},
        **{
            name: {"N": "1795000000"}
            for name in ("CreatedAt", "RenewedAt", "ExpirationTime", "AbsoluteExpirationTime")
        },
        **{name: {"N": "1800"} for name in ("TtlSeconds", "Version", "RenewableUntil")},
        "Data": {"M": {"a": {"L": [{"N": "1"}]}}},
        "Client": {"M": {"ip": {"S": "192.0.2.1"}}},
        "TokenHash": {"B": base64.b64encode(TOKEN.hash).decode()},
    }
    date = {"date": "Wed, 18 Nov 2026 10:40:00 GMT"}
    others = [*FOREIGN_VALUES, *({kind: value} for kind, value in attributes.items())]
    bodies = [*map(encode, FOREIGN_DOCUMENTS), *NO_DOCUMENTS]
    bodies += [encode({"Item": item | {name: other}}) for name in item for other in others]
    bodies += [
        encode({"Item": item | {"Data": {"M": {"a": {"N": number}}}}})
        for number in ("1e999999999", "1e99999999999999999999", "x", "", 7)
    ]
    for body in bodies:
        reader = DirectReader("table")
        reader.learn("not_before=0, renewal_fraction=0.1", clock.time())
        plan = reader.read(TOKEN, "us-east-1", Deadline(60.0), renew=True)
        session = run(plan, Answer(200, date, body))
        assert session is None or isinstance(session, Session)
    for header in ("", "Wed", "Wed, 99 Nov 2026 10:40:00 GMT", "Wed, 18 Nov 99999 10:40:00 GMT"):
        plan = reader.read(TOKEN, "us-east-1", Deadline(60.0), renew=True)
        assert run(plan, Answer(200, {"date": header}, encode({"Item": item}))) is None


def test_maintenance_page_is_no_log_out(sessions: Sessions, service: Service) -> None:
    """Through a real socket, with either client."""
    session_id = sessions.create("ada").session.session_id

    def maintain(call: Call) -> None:
        call.send(Reply(200, {"Content-Type": "application/json"}, encode(MAINTENANCE)))

    service.plan(always=maintain)
    with pytest.raises(UnexpectedAnswer, match="not the service"):
        sessions.revoke(session_id)
    service.plan()
    assert sessions.get(session_id)
