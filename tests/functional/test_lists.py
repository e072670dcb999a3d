"""Lists of a user's live sessions, page by page."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sessions.errors import Unavailable
from tests.support.api import NOW, THROUGH_BOTH, Api
from tests.support.backend import ON_BOTH, ON_DYNAMODB_LOCAL
from tests.support.functions import sample
from tests.support.seam import seam

# The two clients differ most in queries and batches.
pytestmark = ON_BOTH


def create_in_turn(api: Api, count: int, **fields: Any) -> list[str]:
    """Create sessions at intervals of a second. Return their ids, newest first."""
    ids = []
    for _ in range(count):
        ids.append(api.create(**fields))
        api.clock.now += 1
    return ids[::-1]


def pages(api: Api, **query: Any) -> list[list[str]]:
    """Return the session ids of each page, following `next_cursor` to the end."""
    ids_by_page: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = api("GET", "/sessions", query={"user_id": "ada", **query, **cursor}).json
        ids_by_page.append([item["session_id"] for item in answer["items"]])
        if answer["next_cursor"] is None:
            return ids_by_page
        cursor = {"cursor": answer["next_cursor"]}


def test_list_is_newest_first_and_without_data(api: Api) -> None:
    ids = create_in_turn(api, 3, data={"a": 1}, client={"ip": "203.0.113.7"})
    api.create("eve")

    answer = api.send(sample("api_list_sessions"))

    assert answer.status == 200
    assert [item["session_id"] for item in answer.json["items"]] == ids
    assert answer.json["next_cursor"] is None
    one = api("GET", f"/sessions/{ids[0]}").json
    del one["data"]
    assert answer.json["items"][0] == one


def test_unknown_user_has_an_empty_list(api: Api) -> None:
    answer = api("GET", "/sessions", query={"user_id": "nobody"})

    assert answer.json == {"items": [], "next_cursor": None}
    assert api.requests == ["Query"]


@pytest.mark.parametrize("user_id", ["auth0|1", "a/b@c", "a b+c&d=e", "😀", "a,b", "%41"])
def test_user_ids_of_any_kind_can_be_listed(api: Api, user_id: str) -> None:
    session_id = api.create(user_id)

    answer = api("GET", "/sessions", query={"user_id": user_id})

    assert [item["session_id"] for item in answer.json["items"]] == [session_id]


@THROUGH_BOTH
def test_pages_contain_the_whole_list(api: Api) -> None:
    ids = create_in_turn(api, 7)

    assert sum(pages(api, limit=3), []) == ids
    assert [len(page) for page in pages(api, limit=3)] == [3, 3, 1]


def test_page_has_25_sessions_by_default(api: Api) -> None:
    create_in_turn(api, 26)

    assert [len(page) for page in pages(api)] == [25, 1]


def test_limit_may_change_from_page_to_page(api: Api) -> None:
    ids = create_in_turn(api, 4)
    cursor = api("GET", "/sessions", query={"user_id": "ada", "limit": 1}).json["next_cursor"]

    answer = api("GET", "/sessions", query={"user_id": "ada", "limit": 50, "cursor": cursor})

    assert [item["session_id"] for item in answer.json["items"]] == ids[1:]


def test_dead_sessions_never_show(api: Api) -> None:
    """The index still contains the expired session and the revoked one."""
    kept = api.create()
    revoked = api.create()
    expired = api.create(ttl_seconds=1)
    api("DELETE", f"/sessions/{revoked}")
    api.clock.now += 1

    assert pages(api) == [[kept]]
    assert expired not in sum(pages(api, limit=1), [])


def test_page_with_dead_entries_is_filled_up_for_a_few_rounds(api: Api) -> None:
    """Two live sessions behind three dead ones still make a page of two."""
    live = create_in_turn(api, 3)
    for session_id in create_in_turn(api, 3):
        api("DELETE", f"/sessions/{session_id}")

    answer = api("GET", "/sessions", query={"user_id": "ada", "limit": 2})

    assert [item["session_id"] for item in answer.json["items"]] == live[:2]
    assert api.requests == ["Query", "BatchGetItem"] * 3


def test_page_may_be_short_while_a_cursor_is_set(api: Api) -> None:
    """The effort is limited: after four rounds of dead entries, the caller has to ask for the next
    page.
    """
    [oldest] = create_in_turn(api, 1)
    for session_id in create_in_turn(api, 5):
        api("DELETE", f"/sessions/{session_id}")

    assert pages(api, limit=1)[:2] == [[], [oldest]]
    api("GET", "/sessions", query={"user_id": "ada", "limit": 1})
    assert api.requests == ["Query", "BatchGetItem"] * 4


def test_page_stays_short_when_its_time_is_over(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow table is not an outage. The sessions that were read are returned with a cursor."""
    [oldest] = create_in_turn(api, 1)
    for session_id in create_in_turn(api, 2):
        api("DELETE", f"/sessions/{session_id}")
    clock = [0.0]

    def be_slow() -> None:
        clock[0] += 6

    seam.before = be_slow
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])

    first = api("GET", "/sessions", query={"user_id": "ada", "limit": 1})
    assert (first.status, first.json["items"]) == (200, [])
    assert api.requests == ["Query", "BatchGetItem"]

    seam.before = lambda: None
    cursor = first.json["next_cursor"]
    rest = api("GET", "/sessions", query={"user_id": "ada", "limit": 1, "cursor": cursor})
    assert [session["session_id"] for session in rest.json["items"]] == [oldest]


def test_malformed_item_does_not_break_the_list(api: Api, tables: Any) -> None:
    kept = api.create()
    tables.client.put_item(
        TableName=tables.sessions,
        Item={
            "SessionId": {"S": "by hand"},
            "UserId": {"S": "ada"},
            "CreatedAt": {"N": "1"},
            "ExpirationTime": {"N": "9999999999"},
        },
    )

    assert pages(api) == [[kept]]


# boto3 cannot read such numbers, and moto uses it.
@ON_DYNAMODB_LOCAL
@pytest.mark.parametrize(
    "created_at", [f"{NOW - 5}.5", f"{NOW}000", "-1", "0.001", "9E125", f"1.{'2' * 37}E-130"]
)
@pytest.mark.parametrize("session_id", ["AAAAAAAAAAAA", "by hand"])
def test_malformed_item_at_the_end_of_a_page_breaks_nothing(
    api: Api, tables: Any, monkeypatch: pytest.MonkeyPatch, created_at: str, session_id: str
) -> None:
    """The index has an entry for it, and the next page begins after this entry."""
    monkeypatch.setattr("sessions.user_sessions._BATCH", 1)
    kept = {api.create() for _ in range(2)}
    tables.client.put_item(
        TableName=tables.sessions,
        Item={
            "SessionId": {"S": session_id},
            "UserId": {"S": "ada"},
            "CreatedAt": {"N": created_at},
            "ExpirationTime": {"N": str(NOW + 900)},
            "Data": {"M": {}},
        },
    )

    listed = [session_id for page in pages(api, limit=1) for session_id in page]
    assert sorted(listed) == sorted(kept)
    revoke, calls = api.handler.sessions.revoke, list[str]()

    def refuse_every_second(session_id: str, **options: Any) -> None:
        calls.append(session_id)
        if len(calls) % 2 == 0:
            raise Unavailable("throttled")
        revoke(session_id, **options)

    monkeypatch.setattr(api.handler.sessions, "revoke", refuse_every_second)
    answer, query = {"complete": False, "next_cursor": ""}, {"user_id": "ada"}
    while not answer["complete"]:
        answer = api("DELETE", "/sessions", query=query).json
        query["cursor"] = answer["next_cursor"]
    assert kept <= set(calls)
    assert pages(api) == [[]]


def forged(position: Any, digest: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([position, digest]).encode()).decode()


def test_cursor_is_good_for_its_own_query_only(api: Api) -> None:
    create_in_turn(api, 2)
    cursor = api("GET", "/sessions", query={"user_id": "ada", "limit": 1}).json["next_cursor"]
    (session_id, created_at), digest = json.loads(base64.urlsafe_b64decode(cursor))

    def status(cursor: str, user_id: str = "ada") -> int:
        return api("GET", "/sessions", query={"user_id": user_id, "cursor": cursor}).status

    assert status(cursor) == 200
    assert status(forged([session_id, created_at], digest)) == 200
    assert status(cursor, user_id="eve") == 422
    assert status(cursor[:-4]) == 422
    assert status("=" + cursor) == 422
    assert status(forged([session_id, created_at], "x")) == 422
    assert status(forged([7, created_at], digest)) == 422
    assert status(forged([session_id, int(created_at)], digest)) == 422
    for number in (
        "-1",
        "-1E-130",
        "-1E125",
        "",
        "x",
        "NaN",
        "Infinity",
        "1E999",
        "1E126",
        "1" * 39,
        " 1",
        "1\n",
        "٣",
    ):
        assert status(forged([session_id, number], digest)) == 422, number
    assert status(forged(["", created_at], digest)) == 422
    assert status(forged([session_id], digest)) == 422
    assert status(forged(None, digest)) == 422
    assert status(base64.urlsafe_b64encode(b"\xff").decode()) == 422
    assert status(base64.urlsafe_b64encode(b'[["\xff",1],"x"]').decode()) == 422
    assert status(base64.urlsafe_b64encode(b"[" * 5000).decode()) == 422
