"""Faults to plant, each a fix taken back or a condition left out, and how often stories find them.

`python -m tests.simulation.planted_faults STORIES` prints the table.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessions import live as liveness
from sessions import store, token
from sessions.store import SessionStore
from tests.simulation.callers import live
from tests.simulation.story import draw

Plant = Callable[[pytest.MonkeyPatch], None]

_KNOWN = "judge(token_hash, item, now, self._not_before) is Verdict.VALID"
_UNKNOWN = "judge(token_hash, item, now, self._not_before) is not Verdict.VALID"
_HASHES = '(item.get("TokenHash"), item.get("PreviousTokenHash"))'


def in_source(function: Any, old: str, new: str) -> Plant:
    """Put `new` in place of `old` in a function's source, wherever the function is held."""
    bare = inspect.unwrap(function)

    def plant(patch: pytest.MonkeyPatch) -> None:
        source = textwrap.dedent(inspect.getsource(bare))
        assert source.count(old) == 1, f"{old!r} is not in {bare.__qualname__} once"
        scope: dict[str, Any] = {}
        exec(source.replace(old, new), bare.__globals__, scope)  # noqa: S102
        patch.setattr(bare, "__code__", inspect.unwrap(scope[bare.__name__]).__code__)

    return plant


def _constant(name: str, old: str, new: str) -> Plant:
    """Put `new` in place of `old` in a constant of the store."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        value = getattr(store, name)
        assert old in str(value), f"{old!r} is not in {name}"
        patch.setattr(store, name, type(value)(str(value).replace(old, new)))

    return plant


FAULTS: dict[str, Plant] = {
    "a log-out just after an expiry leaves no mark": _constant("_JUST_NOW_SECONDS", "60", "0"),
    "verify renews whatever its token is by then": in_source(
        SessionStore._renew, "RenewedAt <= :now{condition}", "RenewedAt <= :now"
    ),
    "a rotation is known by a former hash": in_source(
        SessionStore.rotate, _UNKNOWN, f'{{"B": token_hash}} not in {_HASHES}'
    ),
    "a rotation is not known again": in_source(SessionStore.rotate, _UNKNOWN, "True"),
    "a creation is known by a former hash": in_source(
        SessionStore.create, _KNOWN, f'{{"B": token_hash}} in {_HASHES}'
    ),
    "an own request id counts without its effect": in_source(
        SessionStore._write, "not shows(failed.item)", "False"
    ),
    "a write in the second of expiry": _constant("_LIVE", "Time > :now", "Time >= :now"),
    "a revoked session is live": in_source(liveness.is_live, '"RevokedAt" not in item', "True"),
    "a write that is sent twice happens twice": in_source(
        SessionStore._write, "{condition} AND RequestId <> :request_id", "{condition}"
    ),
    "a late clock takes a renewal back": in_source(
        SessionStore._renew, " AND RenewedAt <= :now{condition}", "{condition}"
    ),
    "a former token works a second too long": in_source(token.judge, '"0")) > now', '"0")) >= now'),
    "a former hash becomes current again": in_source(
        SessionStore.rotate,
        "attribute_not_exists(PreviousTokenHash) OR",
        "attribute_exists(TokenHash) OR",
    ),
    "a renewal forgets who used the session": in_source(
        SessionStore._renew, "{window}{assignments}", "{window}"
    ),
    "a revoked session keeps who used it": in_source(
        SessionStore.revoke, "Client, LastClient,", "Client,"
    ),
    "a renewal passes the absolute end": in_source(
        SessionStore._renew, "{fits.format(comparison)} AND ", ""
    ),
}


def find(plant: Plant, stories: range) -> Iterator[int]:
    """The seeds of those stories in which the planted fault breaks a promise."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        for seed in stories:
            if live(draw(seed)).broken:
                yield seed


if __name__ == "__main__":
    total = int(sys.argv[1])
    for fault, plant in FAULTS.items():
        found = list(find(plant, range(total)))
        print(f"{len(found):6} of {total}, first {found[:1]}: {fault}", flush=True)
