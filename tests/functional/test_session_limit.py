"""A limit for the sessions of a user: a creation ends the oldest sessions beyond it."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from audit.classify import classify
from dynamodb.errors import RequestRefused, TransientError
from sessions.store import SessionStore
from tests.support.api import BY_OTHER, NOW, Api
from tests.support.functions import sample
from tests.support.seam import seam
from tests.support.tokens import own_secret

BACKEND = "arn:aws:iam::111122223333:user/backend"


def live(api: Api, user_id: str = "ada") -> list[str]:
    """Return the ids of the user's live sessions, newest first."""
    page = api("GET", "/sessions", query={"user_id": user_id, "limit": 100}).json
    assert page["next_cursor"] is None
    return [item["session_id"] for item in page["items"]]


def create_some(api: Api, count: int) -> list[str]:
    """Create sessions, one a second, and return their ids, newest first."""
    ids = []
    for _ in range(count):
        ids.append(api.create())
        api.clock.now += 1
    return ids[::-1]


def create_with_id(api: Api, session_id: str, **fields: Any) -> str:
    own = own_secret(session_id).both
    return str(
        api(
            "POST", "/sessions", {"user_id": "ada", "session_id": session_id, **own, **fields}
        ).json["session_id"]
    )


def put_impersonator(tables: Any, *session_ids: str) -> None:
    for session_id in session_ids:
        tables.client.update_item(
            TableName=tables.sessions,
            Key={"SessionId": {"S": session_id}},
            UpdateExpression="SET Impersonator = :who",
            ConditionExpression="attribute_exists(SessionId)",
            ExpressionAttributeValues={
                ":who": {"M": {"id": {"S": "agent"}, "reason": {"S": "ticket-1"}}}
            },
        )


def hide_from_index(monkeypatch: pytest.MonkeyPatch, *session_ids: str) -> None:
    """Make the index as it was before these sessions were created."""
    query = seam.client.query

    def lag(**request: Any) -> Any:
        answer = query(**request)
        answer["Items"] = [i for i in answer["Items"] if i["SessionId"]["S"] not in session_ids]
        return answer

    monkeypatch.setattr(seam.client, "query", lag)


def test_oldest_sessions_end_and_the_newest_stay(api: Api, stored: Any) -> None:
    second, third, fourth = create_some(api, 3)

    answer = api("POST", "/sessions", {"user_id": "ada", "max_sessions": 2}, request_id="log-in")

    assert answer.status == 201
    assert api.requests == ["PutItem", "Query", "BatchGetItem", "UpdateItem", "UpdateItem"]
    assert live(api) == [answer.json["session_id"], second]
    for session_id in (third, fourth):
        item = stored(session_id)
        assert item["RevokedReason"] == {"S": "session_limit"}
        assert (item["Actor"], item["RequestId"]) == ({"S": BACKEND}, {"S": "log-in"})
        assert "TokenHash" not in item


def test_limit_that_is_not_reached_ends_nothing(api: Api) -> None:
    create_some(api, 2)

    api.create(max_sessions=3)

    assert api.requests == ["PutItem", "Query", "BatchGetItem"]
    assert len(live(api)) == 3


def test_sessions_of_other_users_neither_count_nor_end(api: Api) -> None:
    foreign, own = api.create("eve"), api.create()

    new = api.create(max_sessions=2)

    assert set(live(api)) == {new, own}
    assert live(api, "eve") == [foreign]


def test_without_a_limit_a_creation_is_one_request(api: Api) -> None:
    create_some(api, 3)

    api.create()

    assert api.requests == ["PutItem"]


def test_setting_applies_to_every_creation_for_a_user(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, *_ = create_some(api, 3)
    monkeypatch.setattr(api.handler, "max_sessions_per_user", 2)

    assert set(live(api)) > {newest}, "the setting itself ends nothing"
    new = api.create()
    assert live(api) == [new, newest]

    api.create(None)
    assert api.requests == ["PutItem"]


@pytest.mark.parametrize(("requested", "left"), [(1, 1), (2, 2), (3, 2), (100, 2)])
def test_creation_can_only_lower_the_limit_of_the_setting(
    api: Api, monkeypatch: pytest.MonkeyPatch, requested: int, left: int
) -> None:
    create_some(api, 3)
    monkeypatch.setattr(api.handler, "max_sessions_per_user", 2)

    api.create(max_sessions=requested)

    assert len(live(api)) == left


def test_sessions_that_have_ended_do_not_count(
    api: Api, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index shows them until TTL removes them."""
    former = api.create()
    api.clock.now += 1
    oldest = api.create()
    revoked, expired, broken = api.create(), api.create(ttl_seconds=1), api.create()
    api("DELETE", f"/sessions/{revoked}")
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": broken}},
        UpdateExpression="SET ExpirationTime = :text",
        ExpressionAttributeValues={":text": {"S": "soon"}},
    )
    api.clock.now += 1
    monkeypatch.setattr(api.handler.user_sessions, "_not_before", NOW + 1)

    new = api.create(max_sessions=2)

    assert api.requests == ["PutItem", "Query", "BatchGetItem"]
    monkeypatch.undo()
    monkeypatch.setattr("clock.time", lambda: api.clock.now)
    assert live(api) == [new, oldest, former]
    assert expired not in live(api)


def test_new_session_counts_before_the_index_shows_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, *_ = create_some(api, 3)
    new = "zzzzzzzzzzzz"
    hide_from_index(monkeypatch, new)

    create_with_id(api, new, max_sessions=2)

    monkeypatch.undo()
    monkeypatch.setattr("clock.time", lambda: api.clock.now)
    assert live(api) == [new, newest]


def test_new_session_of_a_late_clock_stays_until_the_next_creation(api: Api) -> None:
    """Two sessions rank before it, so for now there is one session more than the limit."""
    api.clock.now += 1
    second, first = create_some(api, 2)
    api.clock.now = NOW

    late = api.create(max_sessions=2)

    assert live(api) == [second, first, late]
    api.clock.now = NOW + 10
    new = api.create(max_sessions=2)
    assert live(api) == [new, second]


@pytest.mark.parametrize(
    ("new", "left"),
    [
        ("DDDDDDDDDDDD", {"DDDDDDDDDDDD", "CCCCCCCCCCCC"}),
        ("BBBBBBBBBBBB", {"CCCCCCCCCCCC", "BBBBBBBBBBBB"}),
        ("0AAAAAAAAAAA", {"CCCCCCCCCCCC", "AAAAAAAAAAAA", "0AAAAAAAAAAA"}),
    ],
)
def test_sessions_of_one_second_rank_by_their_ids(api: Api, new: str, left: set[str]) -> None:
    """So all creations of a second agree on which sessions end, in whatever order they run."""
    for letter in "AC":
        create_with_id(api, letter * 12)

    create_with_id(api, new, max_sessions=2)

    assert set(live(api)) == left


def test_repeated_creation_enforces_the_limit_too(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the first attempt may have been lost before the limit was enforced."""
    create_some(api, 2)
    with monkeypatch.context() as patch:
        patch.setattr(api.handler.user_sessions, "enforce_limit", lambda *_, **__: None)
        create_with_id(api, "zzzzzzzzzzzz", max_sessions=1)
    assert len(live(api)) == 3

    create_with_id(api, "zzzzzzzzzzzz", max_sessions=1)

    assert live(api) == ["zzzzzzzzzzzz"]


def test_repeated_creation_of_a_session_that_is_not_the_newest_any_more(api: Api) -> None:
    """A repeated creation is answered with its session, so it does not end it."""
    create_with_id(api, "AAAAAAAAAAAA", max_sessions=1)
    api.clock.now += 1
    newest = api.create()

    create_with_id(api, "AAAAAAAAAAAA", max_sessions=1)

    assert live(api) == [newest, "AAAAAAAAAAAA"]


@pytest.mark.parametrize(("dead", "pages"), [(1, 1), (6, 1), (8, 2), (27, 4)])
def test_dead_entries_hide_no_session(
    api: Api, monkeypatch: pytest.MonkeyPatch, dead: int, pages: int
) -> None:
    """The index is read to its end, page by page."""
    monkeypatch.setattr("sessions.user_sessions._BATCH", 10)
    create_some(api, 2)
    for _ in range(dead):
        api("DELETE", f"/sessions/{api.create()}")
    api.clock.now += 1

    new = api.create(max_sessions=1)

    assert api.requests.count("Query") == pages
    assert live(api) == [new]


@pytest.mark.parametrize("most", [1, 3, 12])
def test_sessions_of_all_pages_end(api: Api, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Those of one second are in any order in the index, also across its pages."""
    monkeypatch.setattr("sessions.user_sessions._BATCH", 5)
    ids = [api.create() for _ in range(22)]
    api.clock.now += 1

    new = api.create(max_sessions=most)

    assert live(api)[0] == new
    assert set(live(api)) == {new, *sorted(ids)[len(ids) - most + 1 :]}


def test_impersonated_sessions_neither_count_nor_end(api: Api, tables: Any) -> None:
    """In them, somebody else acts as the user."""
    second, first, impersonated, oldest = create_some(api, 4)
    newest_of_all = api.create()
    put_impersonator(tables, impersonated, newest_of_all)
    api.clock.now += 1

    new = api.create(max_sessions=2)

    assert live(api) == [new, newest_of_all, second, impersonated], (first, oldest)


REFUSED = RequestRefused("AccessDeniedException", "ada is not authorized", {})


@pytest.mark.parametrize(
    ("operation", "failure"),
    [
        ("Query", TransientError("ThrottlingException")),
        ("BatchGetItem", TransientError("TimeoutError")),
        ("UpdateItem", TransientError("ThrottlingException")),
        ("Query", REFUSED),
        ("UpdateItem", REFUSED),
    ],
)
def test_failure_fails_no_creation(
    api: Api, logged: StringIO, operation: str, failure: Exception
) -> None:
    """The log has its cause, and neither ids of sessions nor of users."""
    [former] = create_some(api, 1)

    def fail() -> None:
        if seam.calls[-1][0] == operation:
            raise failure

    seam.before = fail
    new = api.create(max_sessions=1)

    assert api.requests[-1] == operation
    seam.reset(seam.client)
    assert live(api) == [new, former]
    line = logged.getvalue()
    assert "session limit not enforced" in line
    assert str(failure) in line
    assert former not in line
    assert "ada" not in line


@pytest.mark.parametrize(
    ("seconds", "requests"),
    [
        (2.1, ["PutItem", "Query"]),
        (1.1, ["PutItem", "Query", "BatchGetItem"]),
        (0.7, ["PutItem", "Query", "BatchGetItem", "UpdateItem"]),
    ],
)
def test_no_request_begins_after_two_seconds(
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    logged: StringIO,
    seconds: float,
    requests: list[str],
) -> None:
    """A slow DynamoDB must not make a log-in slow. The next creation ends what is left over."""
    newest, *_ = create_some(api, 3)
    clock = [0.0]
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])
    monkeypatch.setattr("sessions.user_sessions._PARALLEL_WRITES", 1)

    def take_time() -> None:
        if api.requests[-1] != "PutItem":
            clock[0] += seconds

    seam.after = take_time
    api.create(max_sessions=1)

    assert api.requests == requests
    assert "session limit not enforced" in logged.getvalue()
    seam.reset(seam.client)
    new = api.create(max_sessions=1)
    assert new in live(api)
    assert len(live(api)) <= 2, "both creations are of one second"
    assert newest not in live(api)


def test_session_that_ends_at_the_same_time_is_no_failure(
    api: Api, other: SessionStore, logged: StringIO
) -> None:
    [former] = create_some(api, 1)

    def log_out() -> None:
        if seam.calls[-1][0] == "UpdateItem":
            other.revoke(former, reason="logout", by=BY_OTHER)

    seam.before = log_out
    new = api.create(max_sessions=1)

    assert live(api) == [new]
    assert logged.getvalue() == ""


@pytest.mark.parametrize("max_sessions", [0, -1, 101, 10**20, 1.5, "1", None, True])
def test_wrong_limits_are_named(api: Api, max_sessions: Any) -> None:
    answer = api("POST", "/sessions", {"user_id": "ada", "max_sessions": max_sessions})

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/max_sessions"
    assert api.requests == []


@pytest.mark.parametrize("body", [{}, {"user_id": None}])
def test_limit_requires_a_user(api: Api, body: dict[str, Any]) -> None:
    """An anonymous session is in no index."""
    answer = api("POST", "/sessions", body | {"max_sessions": 3})

    assert answer.status == 422
    assert answer.json["errors"] == [{"pointer": "/max_sessions", "detail": "requires user_id"}]


@pytest.mark.parametrize("max_sessions", [1, 100])
def test_limits_may_be_one_to_a_hundred(api: Api, max_sessions: int) -> None:
    assert api("POST", "/sessions", {"user_id": "a", "max_sessions": max_sessions}).status == 201


@pytest.mark.parametrize("path", ["/sessions", "/sessions/AAAAAAAAAAAA"])
def test_callers_cannot_use_the_reason(api: Api, path: str) -> None:
    """Only the service itself can say that a limit has ended a session."""
    query = {"reason": "session_limit"} | ({"user_id": "ada"} if path == "/sessions" else {})

    answer = api("DELETE", path, query=query)

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/reason"


def test_trail_says_that_the_limit_ended_the_session() -> None:
    [record] = sample("stream_revoked")["Records"]
    record["dynamodb"]["NewImage"]["RevokedReason"] = {"S": "session_limit"}

    event = classify(record, not_before=0)

    assert (event.type, event.reason) == ("revoked", "session_limit")
