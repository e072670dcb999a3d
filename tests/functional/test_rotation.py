"""Rotations: who may rotate, which tokens are valid afterwards, and when a token counts as
stolen.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from audit.classify import classify
from dynamodb.errors import TransientError
from sessions.errors import Unavailable
from sessions.rotation import Rotation
from sessions.store import SessionStore
from sessions.token import Token
from tests.support.api import BY_OTHER, NOW, Api
from tests.support.functions import ROLE, lambda_context
from tests.support.seam import seam
from tests.support.tokens import (
    SECRET,
    digest,
    family_of,
    id_of,
    is_authorized,
    own_secret,
    rotate,
    successor,
    token_of,
    verify,
)


def use(api: Api, token: str) -> None:
    assert verify(api, token).status == 200


def lost(api: Api, token: str, **options: Any) -> str:
    """Return a token whose answer was lost, after the end of its grace period."""
    new = successor(api, token, **options)
    api.clock.now += 30
    return new


# Which tokens of a session are valid.


@pytest.mark.parametrize("after", [0, 29, 30, 31, 1700])
def test_former_token_is_good_while_the_newest_is_unseen(api: Api, after: int) -> None:
    """The answer with the newest token may have been lost."""
    former = api.log_in()
    successor(api, former)
    api.clock.now += after

    assert verify(api, former, renew=False).status == 200
    assert verify(api, former, renew=False).status == 200
    assert api.requests == ["GetItem"]


@pytest.mark.parametrize("grace_seconds", [1, 30])
def test_grace_of_the_former_token_begins_when_the_newest_is_seen(
    api: Api, stored: Any, grace_seconds: int
) -> None:
    """This does not depend on the time since the rotation."""
    former = api.log_in()
    newest = successor(api, former, grace_seconds=grace_seconds)
    api.clock.now += 600
    use(api, newest)
    assert stored(id_of(former))["PreviousTokenUntil"] == {"N": str(api.clock.now + grace_seconds)}

    api.clock.now += grace_seconds - 1
    use(api, former)
    use(api, newest)
    api.clock.now += 1
    assert verify(api, former).status == 401


def test_former_token_after_its_grace_ends_the_session(api: Api, stored: Any) -> None:
    """Either the user or a thief has the newest token, and the service cannot know which of
    them.
    """
    former = api.log_in()
    newest = successor(api, former, grace_seconds=5)
    use(api, newest)
    api.clock.now += 5

    answer = verify(api, former, renew=False)

    assert (answer.status, answer.json["code"]) == (401, "invalid_token")
    assert api.requests == ["GetItem", "UpdateItem"]
    item = stored(id_of(former))
    assert item["RevokedReason"] == {"S": "token_reuse"}
    assert not {name for name in item if "Token" in name or "Hash" in name or name == "Data"}
    assert verify(api, newest).status == 401
    assert verify(api, former).status == 401
    assert api.requests == ["GetItem"]


@pytest.mark.parametrize(("after", "ends"), [(0, False), (29, False), (30, True)])
def test_retired_token_is_refused_and_later_ends_the_session(
    api: Api, stored: Any, after: int, ends: bool
) -> None:
    """A request that was in progress during two rotations is not from a thief."""
    retired = api.log_in()
    former = successor(api, retired)
    newest = successor(api, former)
    api.clock.now += after

    assert verify(api, retired).status == 401

    assert api.requests == ["GetItem", "UpdateItem"][: 1 + ends]
    assert ("RevokedAt" in stored(id_of(retired))) is ends
    assert verify(api, newest).status == (401 if ends else 200)


def test_token_older_than_all_that_are_known_ends_the_session(api: Api, stored: Any) -> None:
    """Its family shows that it was a token of this session, no matter how many rotations there were
    since.
    """
    oldest = api.log_in()
    newest = oldest
    for _ in range(3):
        newest = successor(api, newest)
    assert family_of(newest) == family_of(oldest)

    assert verify(api, oldest).status == 401

    assert stored(id_of(oldest))["RevokedReason"] == {"S": "token_reuse"}
    assert verify(api, newest).status == 401


def test_thief_who_keeps_rotating_is_noticed_when_the_user_comes_back(api: Api) -> None:
    """The thief rotates before any grace period ends."""
    user = api.log_in()
    thief = user
    for _ in range(20):
        api.clock.now += 28
        thief = successor(api, thief)
        use(api, thief)

    assert verify(api, user).status == 401
    assert verify(api, thief).status == 401


def test_secret_of_an_unknown_family_ends_nothing(api: Api) -> None:
    """Otherwise anybody could end a session with its id, which is in logs."""
    token = api.log_in()

    assert verify(api, f"{id_of(token)}.{SECRET}").status == 401
    assert api.requests == ["GetItem"]
    use(api, token)


def test_token_of_a_former_family_ends_nothing(api: Api) -> None:
    """Each rotation without a token begins a new family."""
    oldest = api.log_in()
    for _ in range(3):
        newest = token_of(rotate(api, id_of(oldest), grace_seconds=0))
    api.clock.now += 600

    assert verify(api, oldest).status == 401
    assert api.requests == ["GetItem"]
    use(api, newest)


def test_family_alone_proves_nothing(api: Api, stored: Any) -> None:
    """It ends the session, because somebody who knows the family had a token before."""
    token = api.log_in()

    assert verify(api, f"{id_of(token)}.{family_of(token)}{'x' * 15}").status == 401
    assert stored(id_of(token))["RevokedReason"] == {"S": "token_reuse"}


@pytest.mark.parametrize("present", [True, False])
def test_former_token_without_a_grace_is_refused_at_once(
    api: Api, stored: Any, present: bool
) -> None:
    """It does not count as a theft during the configured grace period, because a request with it
    may be in progress.
    """
    former = api.log_in()
    options: dict[str, Any] = {"token": former} if present else {}
    newest = token_of(rotate(api, id_of(former), grace_seconds=0, **options))
    item = stored(id_of(former))
    assert "PreviousTokenGrace" not in item
    assert item["PreviousTokenUntil"] == {"N": str(NOW)}
    assert item["RetiredTokenUntil"] == {"N": str(NOW + 30)}

    api.clock.now += 29
    assert verify(api, former).status == 401
    assert api.requests == ["GetItem"]
    use(api, newest)
    assert api.requests == ["GetItem"]
    api.clock.now += 1
    assert verify(api, former).status == 401
    assert api.requests == ["GetItem", "UpdateItem"]
    assert verify(api, newest).status == 401


def test_neither_of_the_two_last_tokens_is_stolen_right_after_rotations_without_a_grace(
    api: Api,
) -> None:
    """Requests with both of them may be in progress."""
    first = api.log_in()
    second = successor(api, first, grace_seconds=0)
    third = successor(api, second, grace_seconds=0)
    api.clock.now += 29

    for token in (first, second):
        assert verify(api, token).status == 401
        assert api.requests == ["GetItem"]
    use(api, third)


def test_former_token_without_an_end_of_its_grace_verifies_nothing(api: Api, tables: Any) -> None:
    former = api.log_in()
    use(api, successor(api, former))
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": id_of(former)}},
        UpdateExpression="REMOVE PreviousTokenUntil",
    )

    assert verify(api, former).status == 401


# A rotation for the owner of a token.


def test_rotation_changes_only_the_token(api: Api, stored: Any) -> None:
    """It neither extends the session nor increments its version."""
    token = api.log_in(data={"a": 1})
    session_id = id_of(token)
    before = api("GET", f"/sessions/{session_id}").json
    api.clock.now += 60

    answer = rotate(api, session_id, token=token)

    assert api.requests == ["UpdateItem"]
    assert answer.headers["etag"] == '"v1"'
    assert answer.json == before | {"token": answer.json["token"]}
    assert api("GET", f"/sessions/{session_id}").json == before
    item = stored(session_id)
    assert item["PreviousTokenUntil"] == item["RetiredTokenUntil"] == {"N": str(NOW + 90)}
    assert item["PreviousTokenGrace"] == {"N": "30"}


def test_rotation_for_a_token_keeps_its_family(api: Api) -> None:
    token = api.log_in()

    new = successor(api, token)

    assert family_of(new) == family_of(token)
    assert new[25:] != token[25:]


def test_rotation_without_a_token_begins_a_family(api: Api) -> None:
    token = api.log_in()

    assert family_of(token_of(rotate(api, id_of(token)))) != family_of(token)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("grace_seconds", [0, 30])
def test_newest_token_can_always_be_rotated(
    api: Api, stored: Any, grace_seconds: int, seen: bool
) -> None:
    """This is true during a grace period, too: each change of privileges needs its own token."""
    first = api.log_in()
    second = successor(api, first)
    if seen:
        use(api, second)
    api.clock.now += 1
    before = stored(id_of(first))

    third = successor(api, second, grace_seconds=grace_seconds)

    assert api.requests == ["UpdateItem"]
    item = stored(id_of(first))
    assert item["PreviousTokenHash"] == before["TokenHash"]
    assert item["RetiredTokenHash"] == before["PreviousTokenHash"]
    assert item["RetiredTokenUntil"] == {"N": str(NOW + 1 + 30)}
    assert verify(api, first).status == 401
    assert verify(api, second).status == (200 if grace_seconds else 401)
    use(api, third)


def test_double_click_brings_one_new_token(api: Api, stored: Any) -> None:
    """The second request presents the token that the first request has just replaced."""
    token = api.log_in()
    new = successor(api, token)
    before = stored(id_of(token))

    answer = rotate(api, id_of(token), token=token)

    assert (answer.status, answer.json["code"]) == (409, "rotation_in_grace")
    assert api.requests == ["UpdateItem"]
    assert stored(id_of(token)) == before
    use(api, token)
    use(api, new)


@pytest.mark.parametrize("after", [0, 29, 30, 600])
def test_former_token_is_not_rotated_once_the_newest_is_seen(
    api: Api, stored: Any, after: int
) -> None:
    """It is only valid for its grace period. An invalid token is a 401."""
    token = api.log_in()
    use(api, successor(api, token))
    before = stored(id_of(token))
    api.clock.now += after

    answer = rotate(api, id_of(token), token=token)

    expected = (409, "rotation_in_grace") if after < 30 else (401, "invalid_token")
    assert (answer.status, answer.json["code"]) == expected
    assert stored(id_of(token)) == before


@pytest.mark.parametrize("grace_seconds", [0, 9])
def test_newest_token_that_was_lost_is_replaced(api: Api, stored: Any, grace_seconds: int) -> None:
    """A rotation for the owner of the former token replaces it, with a second request."""
    token = api.log_in()
    gone = lost(api, token)
    before = stored(id_of(token))

    new = successor(api, token, grace_seconds=grace_seconds)

    assert api.requests == ["UpdateItem", "UpdateItem"]
    now = NOW + 30
    item = stored(id_of(token))
    assert item["PreviousTokenHash"] == before["PreviousTokenHash"]
    assert item["RetiredTokenHash"] == before["TokenHash"]
    assert item["PreviousTokenUntil"] == {"N": str(now + grace_seconds)}
    assert item["RetiredTokenUntil"] == {"N": str(now + (grace_seconds or 30))}
    assert item.get("PreviousTokenGrace") == ({"N": "9"} if grace_seconds else None)
    assert family_of(new) == family_of(token)
    assert verify(api, token).status == (200 if grace_seconds else 401)
    assert verify(api, gone).status == 401
    assert api.requests == ["GetItem"]
    use(api, new)
    api.clock.now += grace_seconds or 30
    assert verify(api, gone).status == 401
    assert verify(api, new).status == 401


def test_answers_can_be_lost_again_and_again(api: Api) -> None:
    token = api.log_in()
    for _ in range(4):
        lost(api, token)
        use(api, token)

    use(api, successor(api, token))


def test_use_of_a_replaced_lost_token_is_a_theft(api: Api, stored: Any) -> None:
    """Somebody else has received it."""
    token = api.log_in()
    gone = lost(api, token)
    successor(api, token, grace_seconds=5)
    api.clock.now += 5

    assert verify(api, gone).status == 401
    assert stored(id_of(token))["RevokedReason"] == {"S": "token_reuse"}


@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param(lambda api, token, newest: verify(api, newest), id="seen"),
        pytest.param(lambda api, token, newest: successor(api, newest), id="rotated"),
        pytest.param(lambda api, token, newest: successor(api, token), id="replaced"),
    ],
)
def test_newest_token_is_replaced_only_as_it_was_read(
    api: Api, stored: Any, meanwhile: Callable[[Api, str, str], object]
) -> None:
    """Another request uses or rotates the token between the two requests of the replacement."""
    token = api.log_in()
    newest = lost(api, token)
    after: list[Any] = []

    def interfere() -> None:
        if len(seam.calls) == 2:
            calls = seam.calls[:]
            seam.before = lambda: None
            meanwhile(api, token, newest)
            after.append(stored(id_of(token)))
            seam.calls[:] = calls

    seam.before = interfere

    answer = rotate(api, id_of(token), token=token)

    assert answer.status in (401, 409)
    assert answer.json["code"] in ("invalid_token", "rotation_in_grace")
    assert after == [stored(id_of(token))]


@pytest.mark.parametrize("grace_seconds", [0, 30])
def test_bad_token_is_not_rotated_and_ends_nothing(
    api: Api, stored: Any, grace_seconds: int
) -> None:
    """This includes tokens that count as stolen for `verify`."""
    retired = api.log_in()
    session_id = id_of(retired)
    former = successor(api, retired)
    newest = successor(api, former)
    use(api, newest)
    api.clock.now += 30
    before = stored(session_id)

    for token in (
        retired,
        former,
        f"{session_id}.{SECRET}",
        f"{session_id}.{family_of(newest)}{'x' * 15}",
    ):
        answer = rotate(api, session_id, token=token, grace_seconds=grace_seconds)
        assert (answer.status, answer.json["code"]) == (401, "invalid_token")
        assert api.requests == ["UpdateItem"]
    assert stored(session_id) == before
    use(api, newest)


def test_dead_session_is_404_whatever_token_is_presented(api: Api) -> None:
    token = api.log_in()
    api("DELETE", f"/sessions/{id_of(token)}")

    assert rotate(api, id_of(token), token=token).status == 404
    assert rotate(api, id_of(token), token=f"{id_of(token)}.{SECRET}").status == 404


@pytest.mark.parametrize(
    "presented",
    [
        lambda _: "",
        lambda _: "x",
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: token + "\n",
        lambda token: f"{'Z' * 12}.{token.partition('.')[2]}",
    ],
)
def test_malformed_or_foreign_token_is_401_without_a_request(
    api: Api, presented: Callable[[str], str]
) -> None:
    token = api.log_in()

    answer = rotate(api, id_of(token), token=presented(token))

    assert (answer.status, answer.json["code"]) == (401, "invalid_token")
    assert api.requests == []


def test_token_of_another_session_is_401(api: Api) -> None:
    token, other = api.log_in(), api.log_in()

    assert rotate(api, id_of(token), token=other).status == 401
    assert api.requests == []
    use(api, token)
    use(api, other)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"token": "x", "family_sha256": digest("f")}, "/family_sha256"),
        (
            {"token": "x", "token_sha256": digest("s"), "family_sha256": digest("f")},
            "/family_sha256",
        ),
        ({"token_sha256": digest("s")}, ""),
        ({"family_sha256": digest("f")}, ""),
        ({"token_sha256": "x", "family_sha256": digest("f")}, "/token_sha256"),
        ({"token_sha256": digest("s"), "family_sha256": "x"}, "/family_sha256"),
        ({"token": "x", "token_sha256": digest("s")[:-1] + "B"}, "/token_sha256"),
        ({"token": 7}, "/token"),
        ({"token": None}, "/token"),
    ],
)
def test_wrong_fields_of_a_rotation_are_named(api: Api, fields: Any, pointer: str) -> None:
    answer = rotate(api, api.create(), **fields)

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == pointer
    assert api.requests == []


# A rotation without a token.


def test_rotation_without_a_token_waits_until_the_newest_was_used(api: Api, stored: Any) -> None:
    """It also waits for the grace period after that, so that it does not replace the last
    rotation's token.
    """
    token = api.log_in()
    session_id = id_of(token)
    new = successor(api, token)
    before = stored(session_id)
    api.clock.now += 600

    answer = rotate(api, session_id)
    assert (answer.status, answer.json["code"]) == (409, "rotation_in_grace")
    assert api.requests == ["UpdateItem"]
    assert stored(session_id) == before

    use(api, new)
    api.clock.now += 29
    assert rotate(api, session_id).json["code"] == "rotation_in_grace"
    api.clock.now += 1
    assert rotate(api, session_id).status == 200


@pytest.mark.parametrize("seen", [True, False])
def test_rotation_without_a_grace_always_succeeds(api: Api, seen: bool) -> None:
    """This is for a change of privileges, for example."""
    token = api.log_in()
    first = token_of(rotate(api, id_of(token)))
    if seen:
        use(api, first)

    second = token_of(rotate(api, id_of(token), grace_seconds=0))

    use(api, second)
    for old in (token, first):
        assert verify(api, old).status == 401
        assert api.requests == ["GetItem"]
    use(api, second)


@pytest.mark.parametrize("present", [True, False])
def test_session_without_a_token_can_not_be_rotated(api: Api, tables: Any, present: bool) -> None:
    """This includes a session that had a token before."""
    token = api.log_in()
    session_id = id_of(token)
    rotate(api, session_id)
    tables.client.update_item(
        TableName=tables.sessions,
        Key={"SessionId": {"S": session_id}},
        UpdateExpression="REMOVE TokenHash",
    )

    for body in ({}, {"grace_seconds": 0}):
        answer = rotate(api, session_id, **body, **({"token": token} if present else {}))
        assert (answer.status, answer.json["code"]) == (409, "no_token")
    assert verify(api, f"{session_id}.{SECRET}").status == 401


# The same rotation again.


@pytest.mark.parametrize(("grace_seconds", "after"), [(0, 0), (0, 600), (30, 0), (30, 600)])
def test_rotation_for_a_token_can_be_repeated(
    api: Api, stored: Any, grace_seconds: int, after: int
) -> None:
    """Its answer was lost, so the call presents the former token again."""
    token = api.log_in()
    session_id = id_of(token)
    own = own_secret(session_id, family=family_of(token))
    body = {"token": token, "token_sha256": own.token_sha256, "grace_seconds": grace_seconds}
    first = rotate(api, session_id, **body)
    assert first.status == 200
    before = stored(session_id)
    api.clock.now += after

    for _ in range(2):
        again = rotate(api, session_id, **body)
        assert (again.status, again.json) == (200, first.json)
        assert "token" not in again.json
        assert api.requests == ["UpdateItem"]

    assert stored(session_id) == before
    assert before["FamilyHash"] == {"B": Token(session_id, own.token[13:]).hashes.family}
    use(api, own.token)


def test_replacement_of_a_lost_token_can_be_repeated(api: Api, stored: Any) -> None:
    token = api.log_in()
    session_id = id_of(token)
    lost(api, token)
    own = own_secret(session_id, family=family_of(token))
    first = rotate(api, session_id, token=token, token_sha256=own.token_sha256)
    before = stored(session_id)

    again = rotate(api, session_id, token=token, token_sha256=own.token_sha256)

    assert (first.status, again.status, again.json) == (200, 200, first.json)
    assert api.requests == ["UpdateItem"]
    assert stored(session_id) == before
    use(api, own.token)


def test_rotation_is_repeated_after_it_became_the_former_one(api: Api, stored: Any) -> None:
    """Its token is still valid. The token that it was made for has been retired."""
    token = api.log_in()
    session_id = id_of(token)
    own = own_secret(session_id, family=family_of(token))
    body = {"token": token, "token_sha256": own.token_sha256}
    rotate(api, session_id, **body)
    successor(api, own.token)
    before = stored(session_id)

    assert rotate(api, session_id, **body).status == 200
    assert stored(session_id) == before
    use(api, own.token)


def test_rotation_is_repeated_though_a_new_family_has_begun(api: Api, stored: Any) -> None:
    """The hash decides, because only the caller can know it."""
    token = api.log_in()
    session_id = id_of(token)
    own = own_secret(session_id, family=family_of(token))
    body = {"token": token, "token_sha256": own.token_sha256}
    rotate(api, session_id, **body)
    use(api, own.token)
    api.clock.now += 30
    rotate(api, session_id)
    before = stored(session_id)

    assert rotate(api, session_id, **body).status == 200
    assert stored(session_id) == before
    use(api, own.token)


@pytest.mark.parametrize("after", [0, 600])
@pytest.mark.parametrize("present", [True, False])
def test_retired_hash_is_superseded(api: Api, stored: Any, after: int, present: bool) -> None:
    """It never becomes the newest one again, and presenting its former token ends nothing."""
    token = api.log_in()
    session_id = id_of(token)
    own = own_secret(session_id, family=family_of(token))
    body = {"token": token, "token_sha256": own.token_sha256}
    rotate(api, session_id, **body)
    newest = own.token
    for _ in range(2):
        options: dict[str, Any] = {"token": newest} if present else {}
        newest = token_of(rotate(api, session_id, grace_seconds=0, **options))
    before = stored(session_id)
    api.clock.now += after

    answer = rotate(api, session_id, **body)

    assert (answer.status, answer.json["code"]) == (409, "token_superseded")
    assert stored(session_id) == before
    use(api, newest)


@pytest.mark.parametrize("slot", ["newest", "former", "retired"])
def test_hash_of_a_known_token_is_not_a_new_token(api: Api, stored: Any, slot: str) -> None:
    """No presented token makes one of the session's tokens the newest one again."""
    tokens = {"retired": api.log_in()}
    session_id = id_of(tokens["retired"])
    tokens["former"] = successor(api, tokens["retired"])
    tokens["newest"] = successor(api, tokens["former"])
    before = stored(session_id)

    for presented in (tokens["newest"], tokens["former"], None):
        options: dict[str, Any] = {"token": presented} if presented else {}
        options["token_sha256"] = digest(tokens[slot].partition(".")[2])
        if not presented:
            options |= {"family_sha256": digest(family_of(tokens[slot])), "grace_seconds": 0}
        answer = rotate(api, session_id, **options)
        assert answer.status == (409 if slot == "retired" else 200)
        assert stored(session_id) == before


# A stolen token.


def test_theft_that_verify_notices_is_on_record(api: Api, stored: Any) -> None:
    former = api.log_in()
    use(api, successor(api, former))
    api.clock.now += 30
    old = stored(id_of(former))

    api("POST", "/sessions/verify", {"token": former}, request_id="the-one", actor="backend")

    event = recorded(old, stored(id_of(former)), api.clock.now)
    assert (event.type, event.reason, event.at) == ("revoked", "token_reuse", NOW + 30)
    assert (event.actor, event.request_id) == ("backend", "the-one")


def test_theft_that_the_authorizer_notices_is_on_record(
    api: Api, authorizer: ModuleType, stored: Any
) -> None:
    """The event has the authorizer's role and the request id of its function."""
    former = api.log_in()
    newest = successor(api, former)
    use(api, newest)
    api.clock.now += 30
    old = stored(id_of(former))
    seam.calls.clear()

    assert not is_authorized(authorizer, former)

    assert api.requests == ["GetItem", "UpdateItem"]
    event = recorded(old, stored(id_of(former)), api.clock.now)
    assert (event.type, event.reason, event.user_id) == ("revoked", "token_reuse", "ada")
    assert (event.actor, event.request_id) == (ROLE, lambda_context().aws_request_id)
    assert not is_authorized(authorizer, newest)
    assert verify(api, newest).status == 401


def recorded(old: Any, new: Any, at: int) -> Any:
    change = {
        "ApproximateCreationDateTime": at,
        "SequenceNumber": "1",
        "Keys": {"SessionId": old["SessionId"]},
        "OldImage": old,
        "NewImage": new,
    }
    return classify({"eventName": "MODIFY", "dynamodb": change}, not_before=0)


def test_theft_is_refused_by_an_error_while_its_session_can_not_be_ended(
    api: Api, authorizer: ModuleType, stored: Any
) -> None:
    """API Gateway refuses the request because its authorizer fails.

    The next request ends the session.
    """
    former = api.log_in()
    use(api, successor(api, former))
    api.clock.now += 30
    before = stored(id_of(former))

    def fail() -> None:
        if seam.calls[-1][0] == "UpdateItem":
            raise TransientError("ThrottlingException")

    seam.before = fail
    with pytest.raises(Unavailable):
        is_authorized(authorizer, former)
    assert verify(api, former).status == 503
    assert stored(id_of(former)) == before

    seam.before = lambda: None
    assert not is_authorized(authorizer, former)
    assert "RevokedAt" in stored(id_of(former))


@pytest.mark.parametrize("door", ["verify", "authorizer"])
def test_stolen_token_of_an_ended_session_is_a_bad_token(
    api: Api, authorizer: ModuleType, other: SessionStore, stored: Any, door: str
) -> None:
    """It is refused like any other, although there is no session left to end."""
    former = api.log_in()
    use(api, successor(api, former))
    api.clock.now += 30

    def end() -> None:
        seam.after = lambda: None
        other.revoke(id_of(former), reason="first", by=BY_OTHER)

    seam.after = end

    if door == "verify":
        assert verify(api, former).status == 401
    else:
        assert not is_authorized(authorizer, former)
    assert stored(id_of(former))["RevokedReason"] == {"S": "first"}


def test_token_that_is_rotated_away_before_it_is_marked_is_no_theft(
    api: Api, other: SessionStore, stored: Any
) -> None:
    """The request began before the rotation."""
    token = successor(api, api.log_in())
    session_id = id_of(token)
    new = Token.issue(session_id)

    def rotate_away() -> None:
        seam.after = lambda: None
        rotation = Rotation(new.hashes, None, grace_seconds=0, retired_seconds=1)
        other.rotate(session_id, rotation, by=BY_OTHER)
        api.clock.now += 600

    seam.after = rotate_away

    assert verify(api, token).status == 401
    assert "RevokedAt" not in stored(session_id)
    use(api, str(new))
