"""Faults to plant into the function or its mapping, each with the scenario that must find it.

`python -m tests.mapping.planted_faults` prints what each scenario finds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

import pytest

from audit import batch, classify, event
from audit.trail import AuditTrail
from dynamodb import batches
from tests.mapping.delivery import InMemory
from tests.mapping.mapping import Settings
from tests.mapping.scenarios import Outcome, day, forged, morning, poisoned, trouble
from tests.support.functions import function
from tests.support.plant import Plant, in_source


class Fault(NamedTuple):
    plant: Plant
    scenario: Callable[..., Outcome]


def worse_trouble(seed: int = 1) -> Outcome:
    """Run with fewer records and more faults, which is fast."""
    return trouble(InMemory(), 600, fault_share=0.6, seed=seed)


def _denied() -> Outcome:
    return morning(InMemory(), "AccessDeniedException")


def _day() -> Outcome:
    return day(InMemory())


def _poisoned(seed: int = 1) -> Outcome:
    return poisoned(InMemory(), seed=seed)


def _forged(seed: int = 1) -> Outcome:
    return forged(InMemory(), seed=seed)


def _poisoned_and_slow(seed: int = 1) -> Outcome:
    """Run with so many faults that the function's time ends in the middle of a batch."""
    return poisoned(InMemory(), fault_share=0.9, shards=2, seed=seed)


def _handler(name: str, old: str, new: str) -> Plant:
    """Replace `old` by `new` in a function of the handler's module.

    The module is imported when the fault is planted, because importing it needs the function's
    environment.
    """

    def plant(patch: pytest.MonkeyPatch) -> None:
        in_source(getattr(function("session_audit"), name), old, new)(patch)

    return plant


def _mapping(**settings: Any) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        deployed = Settings.deployed()._replace(**settings)
        patch.setattr(Settings, "deployed", lambda: deployed)

    return plant


def _denial_is_permanent(patch: pytest.MonkeyPatch) -> None:
    codes = (*batches._PERMANENT_ERRORS, "AccessDeniedException")
    patch.setattr(batches, "_PERMANENT_ERRORS", codes)


def _new_key_at_each_delivery(patch: pytest.MonkeyPatch) -> None:
    count, event_id = itertools.count(), event.event_id
    patch.setattr(classify, "event_id", lambda at, number: event_id(at + next(count) % 2, number))


def _another_new_key_at_each_delivery(patch: pytest.MonkeyPatch) -> None:
    count = itertools.count()
    patch.setattr(classify, "sha256", lambda text: sha256(text + str(next(count)).encode()))


FAULTS: dict[str, Fault] = {
    "the checkpoint is the highest failed record": Fault(
        in_source(batch._lowest, "min(", "max("), worse_trouble
    ),
    "the checkpoint compares numbers as strings": Fault(
        in_source(batch._lowest, "key=int", "key=str"), worse_trouble
    ),
    "a rejected statement counts as written": Fault(
        in_source(batches._execute_once, "elif code:", "elif False:"), worse_trouble
    ),
    "a request without an answer counts as written": Fault(
        in_source(
            batches._execute_once,
            "cause = str(failure)\n            temporary.extend(batch)",
            "cause = str(failure)",
        ),
        worse_trouble,
    ),
    "an event that exists already counts as rejected": Fault(
        in_source(batches._execute_once, "elif code in _CONDITION_FAILED", "elif False"),
        worse_trouble,
    ),
    "an existing event that can't be read counts as the same event": Fault(
        in_source(
            AuditTrail._compare,
            "unread += [batch[key] for key in batch.keys() - stored.keys()]",
            "pass",
        ),
        _forged,
    ),
    "any existing event under the key counts as the same event": Fault(
        in_source(
            AuditTrail._compare,
            "if (other := _event_in(item)) != batch[key]",
            "if not (other := batch[key])",
        ),
        _forged,
    ),
    "an event whose key exists gets a new key at each delivery": Fault(
        _another_new_key_at_each_delivery, _forged
    ),
    "errors are assigned to the wrong statements": Fault(
        in_source(
            batches._execute_once,
            'zip(batch, answer["Responses"]',
            'zip(batch[::-1], answer["Responses"]',
        ),
        worse_trouble,
    ),
    "sequence numbers are not padded": Fault(
        in_source(event.event_id, "zfill(40)", "zfill(1)"), worse_trouble
    ),
    "an event gets a new key at each delivery": Fault(_new_key_at_each_delivery, worse_trouble),
    "the mapping accepts no partial batch responses": Fault(
        _mapping(reports_failures=False), worse_trouble
    ),
    "ten retries": Fault(_mapping(retries=10), _denied),
    "retries for three hours": Fault(_mapping(age=3 * 3600), _denied),
    "a missing permission counts as permanent": Fault(_denial_is_permanent, _denied),
    "retries for as long as the stream keeps records": Fault(_mapping(age=-1), _day),
    "a queue as destination": Fault(_mapping(keeps_records=False), _day),
    "permanently rejected events are dropped": Fault(
        _handler("lambda_handler", "for _, record in first.refused]", "for _, record in []]"),
        _poisoned,
    ),
    "a permanently rejected request fails all of its events": Fault(
        in_source(batches._execute_once, "elif len(batch) > 1", "elif False"), _poisoned
    ),
    "events that were not sent before the deadline are forgotten": Fault(
        in_source(
            batches._execute_once,
            "temporary.extend(batch)\n            continue\n        statements",
            "temporary.extend(batch)\n            break\n        statements",
        ),
        _poisoned_and_slow,
    ),
    "a record counts as stored although the bucket rejected it": Fault(
        in_source(batch.response, "if to_keep and not failed", "if to_keep and None is failed"),
        _poisoned,
    ),
    "a record that Lambda does not repeat is not stored": Fault(
        in_source(batch._is_retried, ">= int(lowest)", "< int(lowest)"), _poisoned
    ),
    "an unreadable record breaks the function": Fault(
        in_source(classify.classify, "return unreadable(record)", "raise"), _poisoned
    ),
}


_RANDOM_SCENARIOS = worse_trouble, _poisoned, _poisoned_and_slow, _forged


def find(fault: Fault) -> list[str]:
    """Return the promises that the fault breaks."""
    with pytest.MonkeyPatch.context() as patch:
        fault.plant(patch)
        broken = fault.scenario().broken
        # A small run may not contain a situation in which the fault has an effect.
        for seed in range(2, 16) if fault.scenario in _RANDOM_SCENARIOS else ():
            broken = broken or fault.scenario(seed).broken
        return broken


if __name__ == "__main__":
    for name, fault in FAULTS.items():
        broken = find(fault)
        print(f"{name}: {[promise.partition(', such as')[0] for promise in broken]}", flush=True)
