"""Signing a user out everywhere, or everywhere else."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb.errors import TransientError
from sessions.errors import SessionNotFound
from sessions.store import SessionStore
from tests.support.api import BY_OTHER, NOW, Answer, Api
from tests.support.seam import seam

OTHER = "AAAAAAAAAAAA"


def sign_out(api: Api, user_id: str = "ada", **query: str) -> Answer:
    return api("DELETE", "/sessions", query={"user_id": user_id, **query})


def done(revoked: int) -> dict[str, object]:
    return {"revoked": revoked, "complete": True, "next_cursor": None}


def live(api: Api, user_id: str = "ada") -> set[str]:
    answer = api("GET", "/sessions", query={"user_id": user_id, "limit": 100})
    return {item["session_id"] for item in answer.json["items"]}


def test_all_sessions_of_the_user_end_and_no_one_elses(api: Api, stored: Any) -> None:
    ids = [api.create() for _ in range(3)]
    foreign = api.create("eve")

    answer = sign_out(api, reason="password.changed")

    assert (answer.status, answer.json) == (200, done(3))
    assert live(api) == set()
    assert live(api, "eve") == {foreign}
    for session_id in ids:
        assert stored(session_id)["RevokedReason"] == {"S": "password.changed"}


def test_one_session_may_stay(api: Api, stored: Any) -> None:
    """This is a sign-out everywhere else."""
    kept, gone, _ = (api.create() for _ in range(3))

    assert sign_out(api, **{"except": kept}).json == done(2)
    assert live(api) == {kept}
    assert stored(gone)["RevokedReason"] == {"S": "logout"}


def test_exception_of_another_user_is_ignored(api: Api) -> None:
    api.create()
    foreign = api.create("eve")

    assert sign_out(api, **{"except": foreign}).json["revoked"] == 1
    assert live(api, "eve") == {foreign}


def test_dead_sessions_do_not_count_and_stay_as_they_are(api: Api, stored: Any) -> None:
    revoked, expired, _ = api.create(), api.create(ttl_seconds=1), api.create()
    api("DELETE", f"/sessions/{revoked}", query={"reason": "first"})
    api.clock.now += 1 + 60
    before = stored(revoked), stored(expired)

    assert sign_out(api).json == done(1)
    assert api.requests.count("UpdateItem") == 1
    assert (stored(revoked), stored(expired)) == before


def test_item_without_an_expiration_time_does_not_stop_the_sign_out(api: Api, tables: Any) -> None:
    """No write of the API stores a string. Like TTL, the sign-out ignores such an item."""
    broken, _ = api.create(), api.create()
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": broken}},
        UpdateExpression="SET ExpirationTime = :text",
        ExpressionAttributeValues={":text": {"S": "soon"}},
    )

    assert sign_out(api).json == done(1)


def test_session_that_has_just_expired_is_ended_too(api: Api, other: SessionStore) -> None:
    """A renewal in progress may still see it as live, and must not make it live again."""
    session_id = api.create(ttl_seconds=10)
    api.clock.now += 10 + 59

    assert sign_out(api).json == done(1)

    api.clock.now = NOW + 9
    with pytest.raises(SessionNotFound):
        other.renew(session_id, by=BY_OTHER)


def test_user_without_sessions_is_signed_out_already(api: Api) -> None:
    assert sign_out(api, "nobody").json == done(0)
    assert api.requests == ["Query", "Query"]


def test_page_is_one_query_one_batch_and_an_update_for_each_live_one(api: Api) -> None:
    """A second read of the index then finds recent sessions that the index did not show before."""
    for _ in range(3):
        api.create()
        api.clock.now += 60

    sign_out(api)

    first, second = ["Query", "BatchGetItem"] + ["UpdateItem"] * 3, ["Query", "BatchGetItem"]
    assert api.requests == first + second
    keys = [
        request["RequestItems"]["sessions"]["Keys"]
        for name, request in seam.calls
        if "Batch" in name
    ]
    assert [len(batch) for batch in keys] == [3, 1]


def test_second_read_of_the_index_finds_new_sessions(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session was created a moment before and is not in the index at the first read.

    The second read covers the time since the begin of the first one, no matter how long that took.
    """
    hidden, _ = api.create(), api.create()
    query = seam.client.query
    queries: list[Any] = []

    def lag(**parameters: Any) -> Any:
        answer = query(**parameters)
        if not queries:
            answer["Items"] = [i for i in answer["Items"] if i["SessionId"]["S"] != hidden]
            api.clock.now += 300
        queries.append(parameters)
        return answer

    monkeypatch.setattr(seam.client, "query", lag)

    assert sign_out(api).json == done(2)
    assert len(queries) == 2


def test_many_pages(api: Api) -> None:
    for _ in range(205):
        api.create()

    assert sign_out(api).json == done(205)
    assert live(api) == set()


def test_sign_out_that_runs_out_of_time_is_incomplete(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sessions that were ended are counted, and the caller sends the call again."""
    for _ in range(5):
        api.create()
    clock = [0.0]
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])
    monkeypatch.setattr("sessions.user_sessions._PARALLEL_WRITES", 1)

    def take_time() -> None:
        if api.requests.count("UpdateItem") == 2:
            clock[0] = 21

    seam.after = take_time

    answer = sign_out(api)

    assert (answer.json["revoked"], answer.json["complete"]) == (2, False)
    assert len(live(api)) == 3
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("seconds", "requests"),
    [
        (6, ["Query", "BatchGetItem", "UpdateItem", "Query"]),
        (8, ["Query", "BatchGetItem", "UpdateItem"]),
        (21, ["Query"]),
    ],
)
def test_no_request_begins_once_time_has_run_out(
    api: Api, monkeypatch: pytest.MonkeyPatch, seconds: int, requests: list[str]
) -> None:
    """Even with a slow DynamoDB, the answer must be sent before API Gateway gives up."""
    api.create()
    clock = [0.0]
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])

    def take_time() -> None:
        clock[0] += seconds

    seam.after = take_time

    answer = sign_out(api)

    assert api.requests == requests
    assert answer.json["revoked"] == requests.count("UpdateItem")
    assert not answer.json["complete"]


def test_keys_that_stay_throttled_end_with_the_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create()
    clock = [0.0]
    tries: list[float] = []

    def refuse(RequestItems: Any) -> dict[str, Any]:  # noqa: N803
        tries.append(clock[0])
        clock[0] += 7
        return {"Responses": {}, "UnprocessedKeys": RequestItems}

    monkeypatch.setattr("clock.monotonic", lambda: clock[0])
    monkeypatch.setattr("clock.sleep", lambda _: None)
    monkeypatch.setattr(seam.client, "batch_get_item", refuse)

    assert not sign_out(api).json["complete"]
    assert tries == [0, 7, 14]

    tries.clear()
    clock[0] = 0
    assert api("GET", "/sessions", query={"user_id": "ada"}).status == 503
    assert tries == [0, 7]


def test_slow_list_stays_short(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead entries fill the page.

    A slow table only leaves time for one round, and the answer has a cursor.
    """
    live_one = api.create()
    api.clock.now += 1
    for _ in range(3):
        api("DELETE", f"/sessions/{api.create()}")
    clock = [0.0]
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])

    def take_time() -> None:
        clock[0] += 6

    seam.after = take_time
    page = api("GET", "/sessions", query={"user_id": "ada", "limit": 1}).json
    assert api.requests == ["Query", "BatchGetItem"]
    seam.reset(seam.client)

    assert page["items"] == []
    assert page["next_cursor"]
    assert live(api) == {live_one}


def test_session_that_ended_meanwhile_is_not_counted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody logs out between the read and the write."""
    ids = [api.create() for _ in range(2)]
    store = api.handler.sessions
    revoke = store.revoke

    def race(session_id: str, **options: Any) -> None:
        if session_id == ids[0]:
            revoke(session_id, **options | {"by": BY_OTHER, "reason": "logout"})
        revoke(session_id, **options)

    monkeypatch.setattr(store, "revoke", race)

    assert sign_out(api).json == done(1)


@pytest.mark.parametrize("operation", ["query", "batch_get_item", "update_item"])
@pytest.mark.parametrize("successes", [0, 1, 2])
def test_sign_out_that_is_throttled_goes_on_from_its_cursor(
    api: Api, monkeypatch: pytest.MonkeyPatch, operation: str, successes: int
) -> None:
    """Sessions that were ended stay ended. Only a call without any progress is a failure."""
    monkeypatch.setattr("sessions.user_sessions._BATCH", 1)
    monkeypatch.setattr("sessions.user_sessions._PARALLEL_WRITES", 1)
    ids = {api.create() for _ in range(3)}
    send, sent = getattr(seam.client, operation), list[Any]()

    def throttle(**request: Any) -> Any:
        sent.append(request)
        if len(sent) > successes:
            raise TransientError("throttled")
        return send(**request)

    with monkeypatch.context() as throttled:
        throttled.setattr(seam.client, operation, throttle)
        answer = sign_out(api)
    gone = len(ids - live(api))

    if not gone:
        assert answer.status == 503
        assert sign_out(api).json == done(3)
        return
    assert answer.status == 200
    assert (answer.json["revoked"], answer.json["complete"]) == (gone, False)
    assert sign_out(api, cursor=answer.json["next_cursor"]).json == done(3 - gone)
    assert live(api) == set()
