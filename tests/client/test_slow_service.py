"""A service that is slow is not taken for one that is down, and is not sent more and more.

The faults wait for events instead of for seconds, so that a busy machine changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serverless_sessions import InvalidRequest, OutcomeUnknown, Session, Sessions, Unavailable
from serverless_sessions._core import calls
from serverless_sessions._core.calls import Answer, NoAnswer, Plan, Request
from serverless_sessions._core.operations import Operations
from serverless_sessions._core.secret import Secret
from tests.support import service as faults
from tests.support.service import Call, Fault, Service

# Far more than a busy machine needs.
SOON = 30.0
SESSION_ID = "A" * 12
OPERATIONS = Operations(
    "http://localhost",
    "us-east-1",
    deadline_seconds=10.0,
    verify_deadline_seconds=2.0,
    sign_out_deadline_seconds=30.0,
    reader=None,
)
TIMED_OUT = NoAnswer("no answer (ReadTimeout)", sent=True)
NOT_SENT = NoAnswer("no answer (ConnectTimeout)", sent=False)
BUSY = Answer(503, {"retry-after": "0"}, b"{}")


def requests(plan: Plan[object], *outcomes: Any) -> Iterator[Request]:
    """Yield the requests of the plan, whose outcomes are these."""
    remaining = list(outcomes)
    outcome: Any = None
    while True:
        try:
            step = plan.send(outcome)
        except StopIteration:
            return
        outcome = None
        if isinstance(step, Request):
            yield step
            if not remaining:
                return
            outcome = remaining.pop(0)


def verify() -> Plan[Session | None]:
    return OPERATIONS.verify(Secret(f"{SESSION_ID}.{'B' * 27}"), renew=True, client=None)


def change(version: int | None = None) -> Plan[Session]:
    return OPERATIONS.change(SESSION_ID, Secret({"a": 1}), version=version)


def sign_out() -> Plan[int]:
    return OPERATIONS.revoke_all("ada", keep=None, reason="logout")


def test_first_send_has_all_of_the_time() -> None:
    """At a latency of 1.1 s, half of 2 s is not enough."""
    [first] = requests(verify())
    assert first.seconds > 1.9
    assert first.is_hedged


def test_connection_has_half_of_the_time() -> None:
    """A host that takes no connection leaves time for another attempt."""
    first, second = requests(verify(), NOT_SENT)
    assert 0.9 < first.patience_seconds <= 1.0
    assert second.seconds > 1.7


@pytest.mark.parametrize("version", [None, 1])
def test_change_leaves_time_to_look_whether_it_was_made(version: int | None) -> None:
    [first] = requests(change(version))
    assert 8.5 < first.seconds < 9.5
    assert not first.is_hedged, "the answer to the second send would be a conflict with the first"


def test_sign_out_has_a_deadline_of_its_own() -> None:
    """The service works on it for up to 20 s, and API Gateway waits for up to 30 s."""
    [first] = requests(sign_out())
    assert first.seconds > 29
    assert not first.is_hedged


def test_sign_out_is_sent_again_only_after_an_answer() -> None:
    """A `DELETE` that is still under way could end a session that is created in the meantime."""
    with pytest.raises(OutcomeUnknown):
        list(requests(sign_out(), TIMED_OUT))
    assert len(list(requests(sign_out(), BUSY, NOT_SENT, Answer(429, {}, b"{}")))) == 4


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second send comes after a moment, and the call has a lot of time."""
    monkeypatch.setattr(calls, "_PATIENCE", 0.01)


@pytest.fixture
def patient(connect: Callable[..., Sessions], early: None) -> Sessions:
    return connect(deadline_seconds=SOON, verify_deadline_seconds=SOON)


class Slow:
    """Answers `first` when the second send has arrived, and then does `then` to the second one."""

    def __init__(self, first: Fault, second: Fault) -> None:
        self.faults = (self._hold, self._let_go)
        self._first = first
        self._second = second
        self._has_second = threading.Event()
        self._has_answered = threading.Event()

    def _hold(self, call: Call) -> None:
        assert self._has_second.wait(SOON)
        self._first(call)
        self._has_answered.set()

    def _let_go(self, call: Call) -> None:
        self._has_second.set()
        self._second(call)


def pass_on(call: Call) -> None:
    call.send(call.forward())


def test_slow_answer_is_taken_though_the_request_was_sent_again(
    patient: Sessions, service: Service
) -> None:
    issued = patient.create("ada")
    service.plan(*Slow(pass_on, faults.frozen).faults)
    assert patient.verify(issued.token) == issued.session
    assert len(service.calls) == 2


def test_second_answer_is_taken_where_the_first_never_comes(
    patient: Sessions, service: Service
) -> None:
    """The connection may have been lost without a trace."""
    issued = patient.create("ada")
    service.plan(faults.frozen)
    assert patient.verify(issued.token) == issued.session
    assert len(service.calls) == 2
    assert patient.verify(issued.token) == issued.session


@pytest.mark.parametrize("refusal", [faults.throttled, faults.unavailable, faults.reset])
def test_refusal_of_the_second_send_does_not_end_the_first(
    patient: Sessions, service: Service, refusal: Fault
) -> None:
    issued = patient.create("ada")
    service.plan(*Slow(after(0.2, pass_on), refusal).faults)
    assert patient.verify(issued.token) == issued.session
    assert len(service.calls) == 2


@pytest.mark.parametrize("refusal", [faults.throttled, faults.unavailable, faults.reset])
def test_second_send_is_waited_for_when_the_first_is_refused(
    patient: Sessions, service: Service, refusal: Fault
) -> None:
    issued = patient.create("ada")
    slow = Slow(refusal, lambda call: None)

    def second(call: Call) -> None:
        slow._has_second.set()
        assert slow._has_answered.wait(SOON)
        after(0.2, pass_on)(call)

    service.plan(slow.faults[0], second)
    assert patient.verify(issued.token) == issued.session
    assert len(service.calls) == 2


def test_error_that_the_service_answers_is_raised_at_once(
    patient: Sessions, service: Service
) -> None:
    service.plan(*Slow(pass_on, faults.frozen).faults)
    with pytest.raises(InvalidRequest):
        patient.create("ada", ttl_seconds=0)
    assert len(service.calls) == 2


def test_slow_creation_makes_one_session(patient: Sessions, service: Service) -> None:
    service.plan(*Slow(pass_on, pass_on).faults)
    issued = patient.create("ada")
    assert [item["SessionId"]["S"] for item in service.items()] == [issued.session.session_id]
    assert patient.verify(issued.token) == issued.session


def test_no_request_is_sent_more_than_twice_at_once(
    connect: Callable[..., Sessions], service: Service, early: None
) -> None:
    sessions = connect(verify_deadline_seconds=1.0)
    issued = connect(deadline_seconds=SOON).create("ada")
    service.plan(always=faults.frozen)
    with pytest.raises(Unavailable):
        sessions.verify(issued.token)
    assert len(service.calls) == 2


def test_slow_sign_out_is_sent_once(connect: Callable[..., Sessions], service: Service) -> None:
    """It took 10 s and five `DELETE`s to fail, and some of them landed later."""
    for _ in range(3):
        connect(deadline_seconds=SOON).create("ada")
    sessions = connect(deadline_seconds=0.1)
    service.plan(after(1.0, pass_on))
    assert sessions.revoke_all("ada") == 3
    assert len(service.calls) == 1


@pytest.mark.parametrize("fault", [faults.lose_answer, faults.cut, faults.reset])
def test_lost_sign_out_is_not_sent_again(
    sessions: Sessions, service: Service, fault: Fault
) -> None:
    sessions.create("ada")
    service.plan(fault)
    with pytest.raises(OutcomeUnknown):
        sessions.revoke_all("ada")
    assert len(service.calls) == 1


def after(seconds: float, fault: Fault) -> Fault:
    def wait(call: Call) -> None:
        time.sleep(seconds)
        fault(call)

    return wait
