"""The verdict on a token, for every state of a session."""

from __future__ import annotations

import hmac
from itertools import product
from typing import Any

import pytest

from sessions import token as module
from sessions.token import Hashes, Token, Verdict, judge

NOW = 1_795_435_200
SESSION = "n2qXk8bVQ0mF"
NEWEST = Token.issue(SESSION)
FORMER, RETIRED, OLDER = (NEWEST.successor() for _ in range(3))
FOREIGN = Token.issue(SESSION)


def item(**changes: Any) -> dict[str, Any]:
    """Return a session whose token was rotated twice. None removes an attribute."""
    attributes = {
        "ExpirationTime": NOW + 1800,
        "AbsoluteExpirationTime": NOW + 86_400,
        "RenewableUntil": NOW + 84_600,
        "TtlSeconds": 1800,
        "CreatedAt": NOW - 600,
        "RenewedAt": NOW,
        "Version": 1,
        "TokenHash": NEWEST.hashes.secret,
        "FamilyHash": NEWEST.hashes.family,
        "PreviousTokenHash": FORMER.hashes.secret,
        "PreviousTokenUntil": NOW + 10,
        "PreviousTokenGrace": None,
        "RetiredTokenHash": RETIRED.hashes.secret,
        "RetiredTokenUntil": NOW + 10,
    } | changes
    return {
        name: {"B": value} if isinstance(value, bytes) else {"N": str(value)}
        for name, value in attributes.items()
        if value is not None
    }


def verdict(token: Token, now: int = NOW, not_before: int = 0, **changes: Any) -> Verdict:
    return judge(token.hashes, item(**changes), now, not_before)


@pytest.mark.parametrize("unseen", [True, False])
@pytest.mark.parametrize("former_until", [-1, 0, 1])
@pytest.mark.parametrize("retired_until", [-1, 0, 1])
@pytest.mark.parametrize("of_family", [True, False])
def test_every_verdict(
    unseen: bool, former_until: int, retired_until: int, of_family: bool
) -> None:
    """A token is valid before its time, but not at it.

    If a rotation began a new family, the tokens whose hashes are stored still count.
    """
    state: dict[str, Any] = {
        "FamilyHash": (NEWEST if of_family else Token.issue(SESSION)).hashes.family,
        "PreviousTokenUntil": NOW + former_until,
        "PreviousTokenGrace": 30 if unseen else None,
        "RetiredTokenUntil": NOW + retired_until,
    }
    late = Verdict.REFUSED if retired_until > 0 else Verdict.REUSED

    assert verdict(NEWEST, **state) is Verdict.NEWEST
    former = Verdict.FORMER if unseen or former_until > 0 else late
    assert verdict(FORMER, **state) is former
    assert verdict(RETIRED, **state) is late
    assert verdict(OLDER, **state) is (Verdict.REUSED if of_family else Verdict.REFUSED)
    assert verdict(FOREIGN, **state) is Verdict.REFUSED


@pytest.mark.parametrize("token", [NEWEST, FORMER, RETIRED, OLDER, FOREIGN])
@pytest.mark.parametrize(
    ("now", "not_before", "changes"),
    [
        (NOW + 1800, 0, {}),
        (NOW, NOW - 599, {}),
        (NOW, 0, {"RevokedAt": NOW}),
        (NOW, 0, {"ExpirationTime": None}),
        (NOW, 0, {"CreatedAt": None}),
    ],
)
def test_dead_session_refuses_every_token_and_calls_none_stolen(
    token: Token, now: int, not_before: int, changes: Any
) -> None:
    """There is no session left to end."""
    assert verdict(token, now, not_before, **changes) is Verdict.REFUSED


def test_session_that_was_never_rotated_has_one_token() -> None:
    names = [name for name in item() if name.startswith(("Previous", "Retired"))]
    fresh: dict[str, Any] = dict.fromkeys(names)

    assert verdict(NEWEST, **fresh) is Verdict.NEWEST
    assert verdict(FORMER, **fresh) is Verdict.REUSED
    assert verdict(FOREIGN, **fresh) is Verdict.REFUSED


def test_absent_session_refuses_every_token() -> None:
    assert judge(NEWEST.hashes, {}, NOW, 0) is Verdict.REFUSED


@pytest.mark.parametrize("missing", ["TokenHash", "FamilyHash"])
def test_missing_hash_equals_nothing(missing: str) -> None:
    """It does not even equal the placeholder that replaces it in the comparison."""
    nothing = Hashes(bytes(32), bytes(32))

    assert judge(nothing, item(**{missing: None}), NOW, 0) is Verdict.REFUSED


def test_hash_of_another_length_or_type_equals_nothing() -> None:
    short = item(TokenHash=b"", FamilyHash=b"short")
    text = item() | {"TokenHash": {"S": "x"}, "FamilyHash": {"S": "x"}}

    for stored in (short, text):
        assert judge(NEWEST.hashes, stored, NOW, 0) is Verdict.REFUSED


def test_number_of_comparisons_is_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are always four comparisons in constant time, so the time does not reveal which hash
    was equal.
    """
    compared: list[int] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(len(a) + len(b))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr(module, "hmac", type("Spy", (), {"compare_digest": staticmethod(compare)}))
    stored = [item(), item(RevokedAt=NOW), item(PreviousTokenHash=None, RetiredTokenHash=None), {}]

    for token, stored_item in product((NEWEST, FORMER, RETIRED, OLDER, FOREIGN), stored):
        compared.clear()
        judge(token.hashes, stored_item, NOW, 0)
        assert compared == [64] * 4


def test_successor_keeps_only_the_family() -> None:
    assert NEWEST.hashes.family == FORMER.hashes.family
    assert NEWEST.secret[:12] == FORMER.secret[:12]
    assert len(FORMER.secret) == 27
    assert len({token.secret[12:] for token in (NEWEST, FORMER, RETIRED, OLDER)}) == 4


def test_token_reads_back_as_it_was_written() -> None:
    assert Token.parse(str(NEWEST)) == NEWEST
    assert len(str(NEWEST)) == 40
    assert NEWEST.secret not in repr(NEWEST)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        str(NEWEST)[:-1],
        f"{NEWEST}A",
        f"{NEWEST}\n",
        f" {NEWEST}",
        "A" * 22 + "." + "B" * 43,
    ],
)
def test_malformed_text_is_no_token(text: str) -> None:
    assert Token.parse(text) is None
