"""Faults to plant into the limit for the sessions of a user, and how often the stories find them.

`python -m tests.simulation.session_limit_faults STORIES` prints the table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import pytest

from sessions import user_sessions
from sessions.user_sessions import UserSessions
from tests.simulation.session_limit import Story
from tests.support.plant import Plant, in_source

_in_limit = partial(in_source, UserSessions.enforce_limit)

# Each with the first story that finds it.
FAULTS: dict[str, tuple[Plant, int]] = {
    "the oldest sessions stay": (_in_limit("reverse=True", "reverse=False"), 1),
    "the new session ranks before all others": (
        _in_limit("reverse=True", "reverse=True, key=lambda r: (r[1] == new.session_id, *r)"),
        10,
    ),
    "the new session does not count": (
        _in_limit("{(new.created_at, new.session_id)}", "set[tuple[int, str]]()"),
        1,
    ),
    "the new session may end": (_in_limit(" if id != new.session_id", ""), 19),
    "one session more is left": (_in_limit("in ranking[most:]", "in ranking[most + 1 :]"), 1),
    "sessions that have ended count": (
        _in_limit(
            "from_item(item, now,",
            'from_item({name: item[name] for name in item if name != "RevokedAt"}, 0,',
        ),
        0,
    ),
    "impersonated sessions count": (
        _in_limit('if "Impersonator" not in item', ""),
        1,
    ),
    "only the first page is read": (_in_limit("if after is None", "if True"), 2),
    "no page is read after enough live sessions": (
        _in_limit("if after is None", "if after is None or len(newest) == most"),
        2,
    ),
    "a failure fails the creation": (_in_limit("return failure", "raise"), 1),
    "the limit takes as long as it needs": (
        lambda patch: patch.setattr(user_sessions, "_LIMIT_SECONDS", 60),
        3,
    ),
}


def find(plant: Plant, stories: range) -> Iterator[int]:
    """Return the seeds of the stories in which the planted fault breaks a promise."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        for seed in stories:
            if Story(seed).play().broken:
                yield seed


if __name__ == "__main__":
    total = int(sys.argv[1])
    for fault, (plant, _) in FAULTS.items():
        seeds = list(find(plant, range(total)))
        print(f"{len(seeds):6} of {total}, first {seeds[:1]}: {fault}", flush=True)
