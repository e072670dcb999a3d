"""Promises hold between two requests: with different clocks, other writers and lost answers."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from io import StringIO
from runpy import run_path
from types import ModuleType
from typing import Any

import pytest

from audit.event import UNKNOWN_SESSION
from dynamodb.errors import RequestRefused, TransientError
from sessions.errors import SessionNotFound
from sessions.rotation import Rotation
from sessions.store import SessionStore
from sessions.table import Writer
from sessions.token import Token
from tests.support.api import BY_OTHER, NOW, Answer, Api
from tests.support.backend import ON_DYNAMODB_LOCAL
from tests.support.seam import seam
from tests.support.tokens import id_of, is_authorized, own_secret, rotate, token_of, verify


def _by(request_id: str) -> Writer:
    return Writer(actor="other", request_id=request_id)


def once_after(operation: str, act: Callable[[], object]) -> None:
    """Call `act` once, after the next request with this operation."""

    def after() -> None:
        if seam.calls[-1][0] == operation:
            seam.after = lambda: None
            act()

    seam.after = after


def fail_writes(error: Exception) -> None:
    """From now on, every write fails before DynamoDB receives it."""

    def before() -> None:
        if seam.calls[-1][0] == "UpdateItem":
            raise error

    seam.before = before


# A log-out in the minute after an idle expiry.


@pytest.mark.parametrize("late", [0, 1, 59])
def test_log_out_just_after_the_expiry_is_final(
    api: Api, other: SessionStore, stored: Any, late: int
) -> None:
    """A renewal in progress may have an older `:now`, or a clock that is behind."""
    session_id = api.create(ttl_seconds=10)
    api.clock.now = NOW + 10 + late

    assert api("DELETE", f"/sessions/{session_id}").status == 204

    assert stored(session_id)["RevokedAt"] == {"N": str(NOW + 10 + late)}
    api.clock.now = NOW + 9
    with pytest.raises(SessionNotFound):
        other.renew(session_id, by=BY_OTHER)


def test_log_out_a_minute_after_the_expiry_leaves_the_item_alone(api: Api, stored: Any) -> None:
    """No renewal can be in progress any more, and the trail must show that the session expired."""
    session_id = api.create(ttl_seconds=10)
    before = stored(session_id)
    api.clock.now = NOW + 10 + 60

    assert api("DELETE", f"/sessions/{session_id}").status == 204
    assert stored(session_id) == before


# `verify`, and the token at the moment of its renewal.


def rotation(token: Token, grace_seconds: int = 0, *, of: str | None = None) -> Rotation:
    """Return a rotation by another caller, to `token`.

    With `of`, it is made for the owner of this token.
    """
    presented = Token.parse(of) if of else None
    return Rotation(token.hashes, presented, grace_seconds, retired_seconds=30)


@pytest.mark.parametrize("grace_seconds", [0, 9])
def test_token_that_is_rotated_away_before_its_renewal_renews_nothing(
    api: Api, other: SessionStore, stored: Any, grace_seconds: int
) -> None:
    """This is not a theft either, because the request began before the rotation."""
    token = api.log_in()
    session_id = token.partition(".")[0]
    api.clock.now += 600
    new = Token.issue(session_id)

    def rotate_away() -> None:
        other.rotate(session_id, rotation(new, grace_seconds), by=BY_OTHER)
        if grace_seconds:
            # The new token is used, and the grace period passes.
            other.verify(new, renew=False, renewal_fraction=1, client={}, by=_by("use"))
            api.clock.now += 600

    once_after("GetItem", rotate_away)

    assert verify(api, token).status == 401
    assert api.requests == ["GetItem", "UpdateItem"]
    assert stored(session_id)["ExpirationTime"] == {"N": str(NOW + 1800)}
    assert verify(api, str(new)).status == 200


def test_former_token_still_renews(api: Api) -> None:
    token = api.log_in()
    rotate(api, id_of(token), token=token)
    api.clock.now += 600

    assert verify(api, token).json["expires_at"] == NOW + 600 + 1800
    assert api.requests == ["GetItem", "UpdateItem"]


def test_token_that_became_the_former_one_before_its_renewal_is_still_good(
    api: Api, other: SessionStore, stored: Any
) -> None:
    """The answer has the session after the rotation. The next request renews it."""
    token = api.log_in()
    session_id = id_of(token)
    api.clock.now += 600
    new = Token.issue(session_id)
    once_after("GetItem", lambda: other.rotate(session_id, rotation(new, 9), by=BY_OTHER))

    assert verify(api, token).status == 200
    assert api.requests == ["GetItem", "UpdateItem"]
    assert stored(session_id)["RequestId"] == {"S": "other"}
    assert verify(api, token).json["expires_at"] == NOW + 600 + 1800


@pytest.mark.parametrize("window", [100, 900])
def test_window_that_changes_before_the_renewal_is_kept(
    api: Api, other: SessionStore, stored: Any, window: int
) -> None:
    """The window decides whether to renew and until when, so the session must be read again."""
    token = api.log_in(ttl_seconds=600)
    session_id = token.partition(".")[0]
    api.clock.now += 300
    once_after("GetItem", lambda: other.renew(session_id, ttl_seconds=window, by=BY_OTHER))

    answer = verify(api, token)

    assert (answer.status, answer.json["expires_at"]) == (200, NOW + 300 + window)
    assert stored(session_id)["ExpirationTime"] == {"N": str(NOW + 300 + window)}
    assert stored(session_id)["RequestId"] == {"S": "other"}


# A lost answer to `create` or `rotate`.


SESSION = "n2qXk8bVQ0mF"
_HASH = own_secret().token_sha256


def create_own(api: Api, letter: str = "s", **fields: Any) -> Answer:
    own = own_secret(SESSION, letter)
    body = {"user_id": "ada", "session_id": SESSION, **own.both, **fields}
    return api("POST", "/sessions", body)


def test_creation_with_an_own_secret_can_be_repeated(api: Api) -> None:
    token = own_secret(SESSION).token
    first = create_own(api, data={"a": 1})
    assert first.status == 201
    assert "token" not in first.json
    api("PATCH", f"/sessions/{SESSION}", {"data": {"b": 2}})
    api.clock.now += 60

    again = create_own(api, data={"a": 1})

    assert (again.status, again.headers["etag"]) == (201, '"v2"')
    assert again.json == first.json | {"data": {"a": 1, "b": 2}, "version": 2}
    assert verify(api, token).status == 200


@pytest.mark.parametrize("after", [0, 29, 30])
@pytest.mark.parametrize("seen", [True, False])
def test_creation_is_repeated_while_its_secret_verifies(api: Api, after: int, seen: bool) -> None:
    """After a rotation, the secret only proves something as the former one."""
    create_own(api)
    newest = token_of(rotate(api, SESSION))
    if seen:
        verify(api, newest)
    api.clock.now += after

    answer = create_own(api)

    if seen and after == 30:
        assert (answer.status, answer.json["code"]) == (409, "session_exists")
    else:
        assert answer.status == 201
    assert verify(api, newest).status == 200


@pytest.mark.parametrize(
    "end",
    [
        lambda api: api("DELETE", f"/sessions/{SESSION}"),
        lambda api: setattr(api.clock, "now", NOW + 1800),
    ],
)
def test_creation_of_an_ended_session_is_refused(api: Api, stored: Any, end: Any) -> None:
    create_own(api)
    end(api)
    before = stored(SESSION)

    assert create_own(api).json["code"] == "session_exists"
    assert stored(SESSION) == before


@pytest.mark.parametrize("user_id", ["ada", None])
def test_creation_is_repeated_for_the_same_user_only(
    api: Api, stored: Any, user_id: str | None
) -> None:
    """A creation without a user is only repeated without a user."""
    first = create_own(api, user_id=user_id)
    before = stored(SESSION)

    assert create_own(api, user_id=user_id).json == first.json
    for other in {"ada", "eve", None} - {user_id}:
        assert create_own(api, user_id=other).json["code"] == "session_exists"
    assert stored(SESSION) == before


@pytest.mark.parametrize(
    "fields",
    [{"user_id": "eve"}, {"letter": "t"}, {"letter": "t", **own_secret(family="g" * 12).both}],
)
def test_foreign_session_is_not_answered(api: Api, stored: Any, fields: Any) -> None:
    """A different secret or a different user does not get the session."""
    create_own(api)
    before = stored(SESSION)

    assert create_own(api, **fields).json["code"] == "session_exists"
    assert stored(SESSION) == before


@pytest.mark.parametrize(("grace_seconds", "after"), [(0, 0), (30, 0), (30, 30)])
def test_rotation_with_an_own_secret_can_be_repeated(
    api: Api, stored: Any, grace_seconds: int, after: int
) -> None:
    """The rotation is made once: the former token stays the former one, and the end of its grace
    period does not change.
    """
    session_id = api.create()
    own = own_secret(session_id)
    first = rotate(api, session_id, **own.both, grace_seconds=grace_seconds)
    before = stored(session_id)
    api.clock.now += after

    for _ in range(2):
        answer = rotate(api, session_id, **own.both, grace_seconds=grace_seconds)
        assert (answer.status, answer.json) == (200, first.json)
        assert "token" not in answer.json

    assert stored(session_id) == before
    assert verify(api, own.token).status == 200


@pytest.mark.parametrize(("after", "status"), [(29, 200), (30, 409)])
@pytest.mark.parametrize("grace_seconds", [0, 30])
def test_superseded_rotation_never_takes_effect_again(
    api: Api, stored: Any, grace_seconds: int, after: int, status: int
) -> None:
    """During its own grace period it is answered. It never ends the session."""
    session_id = api.create()
    own = own_secret(session_id)
    rotate(api, session_id, **own.both, grace_seconds=0)
    verify(api, own.token)
    newest = token_of(rotate(api, session_id))
    verify(api, newest)
    before = stored(session_id)
    api.clock.now += after

    answer = rotate(api, session_id, **own.both, grace_seconds=grace_seconds)

    assert answer.status == status
    if status == 409:
        assert answer.json["code"] == "token_superseded"
    assert stored(session_id) == before
    assert verify(api, newest).status == 200


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"session_id": SESSION}, ""),
        (own_secret().both, ""),
        ({"token_sha256": _HASH}, ""),
        ({"family_sha256": _HASH}, ""),
        ({"session_id": SESSION, "token_sha256": _HASH}, ""),
        ({"session_id": SESSION, "family_sha256": _HASH}, ""),
        (own_secret().both | {"session_id": "x"}, "/session_id"),
        (own_secret().both | {"session_id": "A" * 22}, "/session_id"),
        (own_secret().both | {"session_id": UNKNOWN_SESSION}, "/session_id"),
        *(
            ({"session_id": SESSION, **own_secret().both, name: value}, f"/{name}")
            for name in ("token_sha256", "family_sha256")
            for value in ("x" * 42, "A" * 44, "A" * 42 + "B", "+" * 43, 1)
        ),
    ],
)
def test_wrong_secrets_are_named(api: Api, fields: Any, pointer: str) -> None:
    answer = api("POST", "/sessions", {"user_id": "ada", **fields})

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == pointer
    assert api.requests == []


def test_request_id_counts_only_with_its_effect(api: Api, stored: Any) -> None:
    """If two calls have the same id, the second one is not made, and does not count as made."""
    api("POST", "/sessions", {"user_id": "ada"}, request_id="one")
    [session_id] = {request["Item"]["SessionId"]["S"] for _, request in seam.calls}
    path, before = f"/sessions/{session_id}", stored(session_id)
    api.clock.now += 1

    for method, suffix, body in (
        ("PATCH", "", {"data": {"a": 1}}),
        ("PUT", "", {"data": {"a": 1}}),
        ("POST", "/renew", None),
        ("POST", "/renew", {"ttl_seconds": 60}),
        ("POST", "/rotate", None),
        ("DELETE", "", None),
    ):
        assert api(method, path + suffix, body, request_id="one").status == 503

    assert stored(session_id) == before


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_request_id_of_a_revocation_shows_no_change_of_data(
    api: Api, stored: Any, method: str
) -> None:
    session_id = api.create()
    path = f"/sessions/{session_id}"
    api("DELETE", path, request_id="one")
    before = stored(session_id)

    assert api(method, path, {"data": {"a": 1}}, request_id="one").status == 503
    assert stored(session_id) == before


# A renewal fails.


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (TransientError("ThrottlingException"), "ThrottlingException"),
        (RequestRefused("AccessDeniedException", "", {}), "AccessDeniedException"),
        (RequestRefused("ValidationException", "Item size to update", {}), "DocumentTooLarge"),
    ],
)
def test_proven_token_is_answered_though_its_renewal_fails(
    api: Api, stored: Any, logged: StringIO, failure: Exception, cause: str
) -> None:
    """The token is valid even if a write fails. The log has the failure."""
    token = api.log_in()
    before = stored(token.partition(".")[0])
    api.clock.now += 600
    fail_writes(failure)

    answer = api("POST", "/sessions/verify", {"token": token}, request_id="the-one")

    assert (answer.status, answer.json["expires_at"]) == (200, NOW + 1800)
    [line] = map(json.loads, logged.getvalue().splitlines())
    assert (line["level"], line["message"], line["cause"]) == (
        "WARNING",
        "renewal or first use not written",
        cause,
    )
    assert line["api_request_id"] == "the-one"
    assert stored(token.partition(".")[0]) == before


def test_session_that_expires_while_its_renewal_fails_is_503(api: Api) -> None:
    """The renewal may have happened, so neither answer would be certain."""
    token = api.log_in(ttl_seconds=10)
    api.clock.now += 9

    def time_out() -> None:
        if seam.calls[-1][0] == "UpdateItem":
            api.clock.now += 1
            raise TransientError("TimeoutError")

    seam.before = time_out

    assert verify(api, token).status == 503


@ON_DYNAMODB_LOCAL
def test_full_item_says_so_and_can_be_revoked(api: Api, stored: Any) -> None:
    """Changes can fill an item up to DynamoDB's 400 KB. Then a longer ARN does not fit."""
    session_id, size = api.create(), 65_000
    while size:
        key = f"k{len(stored(session_id)['Data']['M'])}"
        answer = api("PATCH", f"/sessions/{session_id}", {"data": {key: "x" * size}})
        if answer.status == 413:
            size //= 2
    path, longer = f"/sessions/{session_id}", f"arn:aws:iam::111122223333:user/{'o' * 64}"

    for suffix in ("/renew", "/rotate"):
        answer = api("POST", path + suffix, actor=longer)
        assert (answer.status, answer.json["code"]) == (413, "data_too_large")
    assert api("DELETE", path, actor=longer).status == 204
    assert stored(session_id)["RevokedReason"] == {"S": "logout"}


# Each request reads the clock.


def test_renewal_by_verify_uses_the_time_of_its_write(api: Api, stored: Any) -> None:
    token = api.log_in()
    api.clock.now += 600
    once_after("GetItem", lambda: setattr(api.clock, "now", api.clock.now + 5))

    assert verify(api, token).json["renewed_at"] == NOW + 605


@pytest.mark.parametrize(
    ("operation", "method", "path", "query"),
    [
        ("GetItem", "GET", "/sessions/{}", ""),
        ("GetItem", "POST", "/sessions/verify", ""),
        ("BatchGetItem", "GET", "/sessions", "user_id=ada"),
    ],
)
def test_session_that_expires_while_it_is_read_is_not_answered(
    api: Api, operation: str, method: str, path: str, query: str
) -> None:
    token = api.log_in(ttl_seconds=10)
    api.clock.now = NOW + 9
    once_after(operation, lambda: setattr(api.clock, "now", NOW + 10))
    body = {"token": token, "renew": False} if method == "POST" else None

    answer = api(method, path.format(token.partition(".")[0]), body, query=query)

    assert api.clock.now == NOW + 10
    assert answer.status in (401, 404) or answer.json["items"] == []


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [("PATCH", "", {"data": {"a": 1}}), ("POST", "/rotate", None), ("POST", "/renew", None)],
)
def test_refused_write_is_explained_with_the_time_of_the_refusal(
    api: Api, stored: Any, method: str, suffix: str, body: Any
) -> None:
    """A session that expires in the meantime is absent, no matter what else made the write fail."""
    session_id = api.create(ttl_seconds=10, absolute_ttl_seconds=12)
    rotate(api, session_id)
    before = stored(session_id)
    api.clock.now = NOW + 9
    seam.before = lambda: setattr(api.clock, "now", NOW + 10)

    answer = api(method, f"/sessions/{session_id}{suffix}", body, headers={"if-match": '"v7"'})

    assert answer.status == 404
    assert stored(session_id) == before


def test_refused_renewal_of_verify_is_explained_with_the_time_of_the_refusal(
    api: Api, other: SessionStore
) -> None:
    token = api.log_in(ttl_seconds=10)
    session_id = token.partition(".")[0]
    api.clock.now = NOW + 9

    def shorten() -> None:
        other.renew(session_id, ttl_seconds=1, by=BY_OTHER)
        seam.before = lambda: setattr(api.clock, "now", NOW + 10)

    once_after("GetItem", shorten)

    assert verify(api, token).status == 401
    assert api.requests == ["GetItem", "UpdateItem"]


@pytest.mark.parametrize(
    ("fields", "after", "window", "expires"),
    [
        ({}, 60, 10, NOW + 70),
        ({}, 60, 7200, NOW + 60 + 7200),
        ({}, 60, 34_560_000, NOW + 86_400),
        ({"absolute_ttl_seconds": 3600}, 60, 7200, NOW + 3600),
        ({"absolute_ttl_seconds": 3600}, 600, 3000, NOW + 3600),
        ({"absolute_ttl_seconds": 3600}, 600, 3001, NOW + 3600),
        ({"absolute_ttl_seconds": 3600}, 600, 2999, NOW + 3599),
    ],
)
def test_renewal_may_change_the_window(
    api: Api, stored: Any, fields: Any, after: int, window: int, expires: int
) -> None:
    """The new window begins now and is stored. The absolute end does not change."""
    session_id = api.create(**fields)
    api.clock.now += after

    answer = api("POST", f"/sessions/{session_id}/renew", {"ttl_seconds": window})

    item = stored(session_id)
    assert (answer.status, answer.json["expires_at"]) == (200, expires)
    assert answer.json["ttl_seconds"] == window
    absolute = int(item["AbsoluteExpirationTime"]["N"])
    assert int(item["RenewableUntil"]["N"]) == absolute - window
    assert absolute == NOW + fields.get("absolute_ttl_seconds", 86_400)
    assert len(api.requests) <= 2


@pytest.mark.parametrize("ttl_seconds", [0, -1, 34_560_001, 1.5, "9"])
def test_wrong_window_is_422(api: Api, ttl_seconds: Any) -> None:
    session_id = api.create()

    answer = api("POST", f"/sessions/{session_id}/renew", {"ttl_seconds": ttl_seconds})

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/ttl_seconds"


@pytest.mark.parametrize("window", [60, 995, 996])
def test_window_is_changed_though_a_later_clock_renewed(
    api: Api, other: SessionStore, stored: Any, window: int
) -> None:
    """The caller's window is used. Only the time is that of the later renewal."""
    session_id = api.create(ttl_seconds=600, absolute_ttl_seconds=1000)
    api.clock.now += 5
    other.renew(session_id, by=BY_OTHER)
    api.clock.now -= 5

    answer = api("POST", f"/sessions/{session_id}/renew", {"ttl_seconds": window})

    assert (answer.status, answer.json["expires_at"]) == (200, NOW + min(5 + window, 1000))
    assert api.requests == ["UpdateItem", "UpdateItem"]


def test_window_that_shrinks_between_the_two_requests_of_a_renewal_is_used(
    api: Api, other: SessionStore
) -> None:
    """At the first request, the absolute end limits the renewal.

    At the second request, the shorter window does.
    """
    session_id = api.create(ttl_seconds=600, absolute_ttl_seconds=1000)
    api.clock.now = NOW + 500

    def shrink() -> None:
        if len(seam.calls) == 2:
            other.renew(session_id, ttl_seconds=10, by=BY_OTHER)

    seam.before = shrink

    assert api("POST", f"/sessions/{session_id}/renew").json["expires_at"] == NOW + 510
    assert api.requests == ["UpdateItem"] * 3


def test_renewal_that_other_renewals_always_overtake_is_503(api: Api, other: SessionStore) -> None:
    """Each of the others has a clock that is further ahead. The number of attempts is limited."""
    session_id = api.create(ttl_seconds=600)
    seconds = itertools.count(1)

    def meddle() -> None:
        ahead = next(seconds)
        api.clock.now += ahead
        other.renew(session_id, by=Writer(actor="other", request_id=f"other-{ahead}"))
        api.clock.now -= ahead

    seam.before = meddle

    assert api("POST", f"/sessions/{session_id}/renew", {"ttl_seconds": 20}).status == 503
    assert api.requests == ["UpdateItem"] * 4


@pytest.mark.parametrize(("method", "suffix"), [("POST", "/renew"), ("POST", "/rotate")])
def test_item_without_data_is_left_alone(
    api: Api, tables: Any, stored: Any, method: str, suffix: str
) -> None:
    """No API call writes such an item, so it is not a session, and no write changes it."""
    session_id = api.create()
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": session_id}},
        UpdateExpression="REMOVE #data",
        ExpressionAttributeNames={"#data": "Data"},
    )
    before = stored(session_id)

    assert api(method, f"/sessions/{session_id}{suffix}").status == 404
    assert stored(session_id) == before


# Signing out everywhere continues from a cursor.


def test_sign_out_goes_on_from_its_cursor(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call processes some pages. Only a page that was not finished is processed again."""
    for _ in range(230):
        api.create()
        api.clock.now += 1
    clock = [0.0]
    monkeypatch.setattr("clock.monotonic", lambda: clock[0])

    def take_time() -> None:
        clock[0] += 0.15

    seam.after = take_time
    revoked, calls, pages, query = 0, 0, [], {"user_id": "ada", "reason": "stolen"}
    while True:
        clock[0] = 0
        answer = api("DELETE", "/sessions", query=query).json
        revoked, calls = revoked + answer["revoked"], calls + 1
        pages += [request for name, request in seam.calls if name == "Query"]
        if answer["complete"]:
            break
        query["cursor"] = answer["next_cursor"]

    assert (revoked, calls) == (230, 2)
    assert answer["next_cursor"] is None
    assert api("GET", "/sessions", query={"user_id": "ada"}).json["items"] == []
    starts = [json.dumps(page.get("ExclusiveStartKey")) for page in pages]
    assert (
        len(starts) - len(set(starts)) <= 2
    )  # the page that was in progress, and the second read of the index


def test_cursor_of_a_sign_out_is_good_for_the_same_call_only(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create()
    clock = [0.0]
    with monkeypatch.context() as slow:
        slow.setattr("clock.monotonic", lambda: clock[0])
        slow.setattr(seam, "after", lambda: clock.append(clock.pop() + 21))
        cursor = api("DELETE", "/sessions", query={"user_id": "ada"}).json["next_cursor"]

    def status(cursor: str, **query: str) -> int:
        return api("DELETE", "/sessions", query={"user_id": "ada", "cursor": cursor} | query).status

    assert status(cursor, user_id="eve") == 422
    assert status(cursor, reason="other") == 422
    assert status(cursor, **{"except": SESSION}) == 422
    assert status(cursor) == 200
    position, digest = json.loads(base64.urlsafe_b64decode(cursor))
    for forged, expected in (
        ([NOW, True, [SESSION, str(NOW - 60)]], 200),
        ([NOW, True, [SESSION, str(NOW - 61)]], 422),
        ([NOW, True, [SESSION, "-1"]], 422),
        ([NOW, 1, None], 422),
        ([-1, True, None], 422),
        ([10**10, True, None], 422),
        ([NOW, True], 422),
        ([NOW, True, None, 1], 422),
        (position[:1], 422),
    ):
        text = base64.urlsafe_b64encode(json.dumps([forged, digest]).encode()).decode()
        assert status(text) == expected


# The kill switch, `not_before`.


@pytest.fixture
def not_before(api: Api, authorizer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> int:
    """Raise `not_before` to a minute after the creation of the first sessions, as a deployment
    does.
    """
    moment = NOW + 60
    for store in (api.handler.sessions, api.handler.user_sessions):
        monkeypatch.setattr(store, "_not_before", moment)
    monkeypatch.setattr(authorizer.table, "_not_before", moment)
    return moment


def assert_dead(api: Api, authorizer: ModuleType, token: str, stored: Any) -> None:
    """Assert that every read and write treats the session as dead, and that its item does not
    change.
    """
    session_id = token.partition(".")[0]
    path, before = f"/sessions/{session_id}", stored(session_id)

    assert api("GET", path).status == 404
    assert verify(api, token).status == 401
    assert not is_authorized(authorizer, token)
    assert api("PATCH", path, {"data": {"a": 1}}).status == 404
    assert api("PUT", path, {"data": {}}).status == 404
    assert api("POST", f"{path}/renew").status == 404
    assert api("POST", f"{path}/renew", {"ttl_seconds": 60}).status == 404
    assert api("POST", f"{path}/rotate", {"grace_seconds": 0}).status == 404
    assert api("POST", f"{path}/rotate", {"token": token}).status == 404
    assert api("GET", "/sessions", query={"user_id": "ada"}).json["items"] == []
    assert stored(session_id) == before


def test_sessions_from_before_the_switch_are_dead(
    api: Api, authorizer: ModuleType, not_before: int, stored: Any
) -> None:
    token = api.log_in()
    api.clock.now = not_before + 600

    assert_dead(api, authorizer, token, stored)


def test_reused_token_from_before_the_switch_ends_nothing(
    api: Api, authorizer: ModuleType, other: SessionStore, not_before: int, stored: Any
) -> None:
    """Its session is already dead, and the item does not change."""
    former = api.log_in()
    session_id = former.partition(".")[0]
    other.rotate(session_id, rotation(Token.issue(session_id)), by=BY_OTHER)
    api.clock.now = not_before

    assert_dead(api, authorizer, former, stored)


@pytest.mark.parametrize("change", ["SET RevokedAt = CreatedAt", "REMOVE CreatedAt"])
def test_session_with_a_doubtful_item_is_dead(
    api: Api, authorizer: ModuleType, tables: Any, stored: Any, change: str
) -> None:
    """The item may have been edited by hand: it has `RevokedAt`, or no valid time of creation."""
    token = api.log_in()
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": token.partition(".")[0]}},
        UpdateExpression=change,
    )

    assert_dead(api, authorizer, token, stored)


@pytest.mark.parametrize("query", [None, {"user_id": "ada"}])
def test_sessions_from_before_the_switch_can_be_ended(
    api: Api, not_before: int, stored: Any, query: Any
) -> None:
    session_id = api.create()
    api.clock.now = not_before

    path = "/sessions" if query else f"/sessions/{session_id}"
    assert api("DELETE", path, query=query or "").status in (200, 204)
    assert "RevokedAt" in stored(session_id)


def test_sessions_from_the_switch_on_live(
    api: Api, authorizer: ModuleType, not_before: int
) -> None:
    api.clock.now = not_before
    token = api.log_in()

    assert verify(api, token).status == 200
    assert api("POST", f"/sessions/{token.partition('.')[0]}/renew").status == 200
    assert is_authorized(authorizer, token)
    assert len(api("GET", "/sessions", query={"user_id": "ada"}).json["items"]) == 1


def test_own_secret_brings_no_session_back_from_before_the_switch(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_own(api)
    monkeypatch.setattr(api.handler.sessions, "_not_before", NOW + 1)

    assert create_own(api).json["code"] == "session_exists"


def test_verify_returns_the_policy(api: Api) -> None:
    """Clients need it if they read the table themselves."""
    answer = verify(api, api.log_in())

    assert answer.headers["sessions-policy"] == "not_before=0, renewal_fraction=0.1"


@pytest.mark.parametrize(
    ("setting", "spelled"),
    [(0.00001, "0.00001"), (0.1234567, "0.1234567"), (5e-17, "0.00000000000000005")],
)
def test_policy_has_the_format_of_the_contract(
    api: Api, monkeypatch: pytest.MonkeyPatch, setting: float, spelled: str
) -> None:
    """The number has no exponent, which `str` uses for small numbers, and all digits of the
    setting.
    """
    monkeypatch.setenv("RENEWAL_FRACTION", str(setting))
    monkeypatch.setattr(api.handler, "policy", run_path(api.handler.__file__ or "")["policy"])

    answer = verify(api, api.log_in())  # checked against the contract

    assert answer.headers["sessions-policy"] == f"not_before=0, renewal_fraction={spelled}"
