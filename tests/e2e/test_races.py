"""Callers race for one session in real threads. All answers must be true in any order of the calls.

The races run on two services. On DynamoDB Local, every caller has its own process, as a host of
Lambda does, and some clocks are up to 2 s late. This finds more faults in less time. On the
deployed local stack, the requests also pass through API Gateway and Lambda.

A caller repeats a call after a 503, as the contract allows. `make soak` runs more rounds.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from secrets import token_urlsafe
from typing import Any

import pytest

from bench import service as on_dynamodb_local
from local.dynamodb import dynamodb_local
from local.stack import LocalStack
from serverless_sessions._core.token import Token, new_session_id
from tests.e2e import host
from tests.e2e.calls import ContractCaller, parsed
from tests.e2e.service import HostCaller, Service
from tests.support.caller import Answer, Caller
from tests.support.template import ROOT

# The error of every host's clock, in seconds. The first caller creates the sessions. Its clock is
# the latest, so no session is created in another host's future.
SKEWS = (-2, -2, -1, 0, 0)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Service]:
    """Hosts on DynamoDB Local: every caller has its own process."""
    if not (ROOT / ".venv-dynamodb/.ready").exists():
        pytest.skip("DynamoDB Local is not installed; 'make test' does so")
    with dynamodb_local() as endpoint, ExitStack() as running:
        client = on_dynamodb_local.dynamodb(endpoint)
        on_dynamodb_local.create_tables(client)
        environment = on_dynamodb_local.environment(endpoint)
        processes = [
            running.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), host.start, (environment, skew))
            )
            for skew in SKEWS
        ]
        yield Service(
            callers=[HostCaller(process) for process in processes],
            authorizer=lambda event: (
                processes[0].submit(host.invoke, "session_authorizer", event).result()
            ),
            dynamodb=client,
            table=on_dynamodb_local.SESSIONS,
            rounds=20,
            stagger_seconds=0.005,
        )


@pytest.fixture(scope="module")
def deployed(stack: LocalStack, call: ContractCaller) -> Service:
    functions = stack.client("lambda")

    def authorize(event: dict[str, Any]) -> Any:
        arn = stack.outputs["AuthorizerArn"]
        answer = functions.invoke(FunctionName=arn, Payload=json.dumps(event))
        return json.load(answer["Payload"])

    return Service(
        callers=[call] * len(SKEWS),
        authorizer=authorize,
        dynamodb=stack.client("dynamodb"),
        table=stack.outputs["SessionsTableName"],
        rounds=8,
        stagger_seconds=0.02,
    )


@pytest.fixture(scope="module", params=["hosts", "deployed"])
def service(request: pytest.FixtureRequest) -> Service:
    service: Service = request.getfixturevalue(request.param)
    return service


@pytest.fixture
def rounds(
    service: Service, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Iterator[range]:
    setting = os.environ.get("ROUNDS")
    rounds = range(int(setting or service.rounds))
    begin = time.monotonic()
    yield rounds
    if setting:
        with capsys.disabled():
            took = time.monotonic() - begin
            print(f"\n{request.node.name}: {len(rounds)} rounds in {took:.0f} s")


def begin(call: Caller, user_id: str = "ada", **fields: Any) -> tuple[str, str]:
    """Create a session and return its path and token.

    The client brings the secret, so only one session is created even if the call is repeated.
    """
    token = Token.issue(new_session_id())
    own = {
        "session_id": token.session_id,
        "token_sha256": token.token_sha256,
        "family_sha256": token.family_sha256,
    }
    answer = call("POST", "/sessions", {"user_id": user_id, **own, **fields})
    assert answer.status == 201, answer
    return f"/sessions/{token.session_id}", token.text


def id_in(path: str) -> str:
    return path.rpartition("/")[2]


def verify(call: Caller, token: str) -> Answer:
    return call("POST", "/sessions/verify", {"token": token})


def rotate(
    call: Caller, path: str, token: Token, *, presented: str | None = None, grace_seconds: int
) -> Answer:
    """Rotate to `token`, with the presented token or only with the session's id."""
    body: dict[str, Any] = {"grace_seconds": grace_seconds, "token_sha256": token.token_sha256}
    body |= {"token": presented} if presented else {"family_sha256": token.family_sha256}
    return call("POST", f"{path}/rotate", body)


@pytest.mark.parametrize("ttl_seconds", [1800, 2])
def test_log_out_stays_final(service: Service, rounds: range, ttl_seconds: int) -> None:
    """A log-out races with all other writes.

    A session of 2 seconds has expired by the clock of the log-out's host, but not by the clocks of
    the hosts that renew it.
    """
    late, late_too, slightly_late, punctual, other = service.callers
    for _ in rounds:
        user_id = token_urlsafe(8)
        path, token = begin(late, user_id, ttl_seconds=ttl_seconds)
        service.make_renewal_due(id_in(path))
        new = parsed(token).successor()

        log_out, *answers = service.race(
            partial(punctual, "DELETE", path),
            partial(late, "POST", f"{path}/renew"),
            partial(verify, late_too, token),
            partial(slightly_late, "PATCH", path, {"data": {"a": 1}}),
            partial(rotate, other, path, new, presented=token, grace_seconds=600),
        )

        assert log_out.status == 204
        assert {answer.status for answer in answers} <= {200, 401, 404}
        for method, suffix, body in (
            ("GET", "", None),
            ("POST", "/renew", None),
            ("POST", "/renew", {"ttl_seconds": 600}),
            ("PATCH", "", {"data": {"a": 1}}),
            ("PUT", "", {"data": {}}),
            ("POST", "/rotate", {"grace_seconds": 0}),
            ("GET", "", None),
        ):
            assert late(method, path + suffix, body).status == 404
        for text in (token, new.text):
            assert verify(late, text).status == 401
            assert not service.authorizes(text)
        assert late("GET", "/sessions", query={"user_id": user_id}).json["items"] == []


def test_replaced_token_renews_nothing(service: Service, rounds: range) -> None:
    """Without a grace period it is invalid at once. A request in progress with it is no theft."""
    late, _, _, punctual, other = service.callers
    for _ in rounds:
        path, token = begin(late)
        service.make_renewal_due(id_in(path))
        new = parsed(token).successor()

        rotated, *verified = service.race(
            partial(rotate, late, path, new, presented=token, grace_seconds=0),
            partial(verify, punctual, token),
            partial(verify, other, token),
        )

        assert rotated.status == 200
        assert {answer.status for answer in verified} <= {200, 401}
        # If the session was renewed, this happened before the rotation.
        item = service.stored(id_in(path))
        assert int(item["RenewedAt"]["N"]) == rotated.json["renewed_at"]
        assert verify(punctual, new.text).status == 200


@pytest.mark.parametrize("by_token", [True, False])
def test_one_rotation_wins_while_its_token_is_new(
    service: Service, rounds: range, by_token: bool
) -> None:
    """Every rotation is sent twice, and no request counts as a theft."""
    *rotators, reader = service.callers
    for _ in rounds:
        path, former = begin(rotators[0])
        ours, theirs = (
            parsed(former).successor() if by_token else Token.issue(id_in(path)) for _ in range(2)
        )
        presented = former if by_token else None

        verified, *answers = service.race(
            partial(verify, reader, former),
            *(
                partial(rotate, call, path, token, presented=presented, grace_seconds=3600)
                for call, token in zip(rotators, (ours, theirs, ours, theirs), strict=True)
            ),
        )

        assert verified.status == 200
        statuses = [answer.status for answer in answers]
        assert statuses in ([200, 409, 200, 409], [409, 200, 409, 200])
        won, lost = (ours, theirs) if statuses[0] == 200 else (theirs, ours)
        tokens = former, won.text, former, lost.text
        assert [verify(reader, token).status for token in tokens] == [200, 200, 200, 401]
        # The service never confirmed the lost token, so only a forger can have presented it. If it
        # is of the same family, this ended the session.
        assert verify(reader, won.text).status == (401 if by_token else 200)


def test_first_use_counts_for_the_token_that_was_used(service: Service, rounds: range) -> None:
    """The first use of a token must not count for the next token of a concurrent rotation."""
    late, late_too, slightly_late, punctual, other = service.callers
    for _ in rounds:
        path, first = begin(late)
        second = parsed(first).successor()
        third = second.successor()
        assert rotate(late, path, second, presented=first, grace_seconds=600).status == 200

        rotated, authorized, *verified = service.race(
            partial(rotate, other, path, third, presented=second.text, grace_seconds=600),
            partial(service.authorizes, second.text),
            *(partial(verify, call, second.text) for call in (late_too, slightly_late, punctual)),
        )

        assert rotated.status == 200
        assert authorized
        assert {answer.status for answer in verified} == {200}
        assert service.stored(id_in(path))["PreviousTokenGrace"] == {"N": "600"}
        tokens = second.text, first, third.text, second.text, first
        statuses = [verify(punctual, token).status for token in tokens]
        assert statuses == [200, 401, 200, 200, 401]


def test_lost_token_is_replaced_once_unless_it_is_used(service: Service, rounds: range) -> None:
    """It is used late, while two requests with the former token rotate."""
    late, _, slightly_late, punctual, other = service.callers
    for _ in rounds:
        path, former = begin(late)
        lost, ours, theirs = (parsed(former).successor() for _ in range(3))
        assert rotate(late, path, lost, presented=former, grace_seconds=600).status == 200
        service.lose_newest(id_in(path))

        verified, *answers = service.race(
            partial(verify, punctual, lost.text),
            partial(rotate, slightly_late, path, ours, presented=former, grace_seconds=600),
            partial(rotate, other, path, theirs, presented=former, grace_seconds=600),
        )

        statuses = [answer.status for answer in answers]
        assert sorted(statuses) in ([200, 409], [409, 409])
        won = [
            token for token, status in zip((ours, theirs), statuses, strict=True) if status < 300
        ]
        newest = won[0] if won else lost
        if isinstance(punctual, HostCaller):
            assert verified.status == (401 if won else 200)
        # On the local stack, recording the first use may fail, and the token is valid nevertheless.
        assert verified.status in (200, 401)
        tokens = former, newest.text, former, *([lost.text] if won else [])
        expected = [200, 200, 200, *([401] if won else [])]
        assert [verify(other, token).status for token in tokens] == expected
        assert verify(other, newest.text).status == 200


def test_last_of_the_rotations_without_grace_counts(service: Service, rounds: range) -> None:
    """Every rotation is made once. A repeated one has no effect if another one has followed."""
    *rotators, reader = service.callers
    for _ in rounds:
        path, _ = begin(rotators[0])
        tokens = repeated, *_ = [Token.issue(id_in(path)) for _ in range(3)]

        answers = service.race(
            *(
                partial(rotate, call, path, token, grace_seconds=0)
                for call, token in zip(rotators, (*tokens, repeated), strict=True)
            )
        )

        for answer in answers:
            again = answer in (answers[0], answers[3]) or answer.sends > 1
            assert answer.status == 200 or (again and answer.json["code"] == "token_superseded")
        item = service.stored(id_in(path))
        [current] = [token for token in tokens if item["TokenHash"]["B"] == token.hash]
        assert item["PreviousTokenHash"]["B"] in {token.hash for token in tokens} - {current.hash}
        assert verify(reader, current.text).status == 200


def test_every_change_of_a_known_version_is_made_once(service: Service, rounds: range) -> None:
    """All callers read a list and add their name to it. No name is lost or added twice."""

    def add_name(call: Caller, path: str, name: int, method: str) -> int | None:
        """Return the version that this created, or None if an earlier attempt created it."""
        while True:
            read = call("GET", path)
            names = read.json["data"]["names"]
            if name in names:
                return None
            body = {"data": {"names": [*names, name]}}
            answer = call(method, path, body, headers={"If-Match": read.headers["etag"]})
            if answer.status == 200:
                version: int = answer.json["version"]
                return version
            assert answer.status == 412

    for _ in rounds:
        path, _ = begin(service.callers[0], data={"names": []})

        versions = service.race(
            *(
                partial(add_name, call, path, name, "PUT" if name % 2 else "PATCH")
                for name, call in enumerate(service.callers)
            )
        )

        session = service.callers[0]("GET", path).json
        everyone = list(range(len(service.callers)))
        assert sorted(session["data"]["names"]) == everyone
        assert session["version"] == 1 + len(everyone)
        answered = [version for version in versions if version]
        assert len(set(answered)) == len(answered)


def test_every_change_of_any_version_is_made(service: Service, rounds: range) -> None:
    """A change without a version may be made again if it is sent again."""
    for _ in rounds:
        path, _ = begin(service.callers[0])

        answers = service.race(
            *(
                partial(call, "PATCH", path, {"data": {str(name): name}})
                for name, call in enumerate(service.callers)
            )
        )

        session = service.callers[0]("GET", path).json
        everyone = range(len(service.callers))
        assert session["data"] == {str(name): name for name in everyone}
        assert len(everyone) < session["version"] <= 1 + sum(answer.sends for answer in answers)
        assert len({answer.json["version"] for answer in answers}) == len(everyone)


def test_sign_out_ends_all_sessions_that_existed_when_it_began(
    service: Service, rounds: range
) -> None:
    """They end even while they are renewed. A session that begins later may live or end."""
    late, late_too, slightly_late, punctual, other = service.callers

    def sign_out(user_id: str) -> float:
        """Sign out before, between or after the log-ins, and return the time of the beginning."""
        time.sleep(random.uniform(0, 4 * service.stagger_seconds))
        began, query = time.monotonic(), {"user_id": user_id}
        while not (answer := punctual("DELETE", "/sessions", query=query).json)["complete"]:
            query["cursor"] = answer["next_cursor"]
        return began

    def begin_some(call: Caller, user_id: str) -> list[tuple[float, str]]:
        """Create sessions. Return their paths, and the times at which the answers arrived."""
        return [(time.monotonic(), path) for path, _ in (begin(call, user_id) for _ in range(2))]

    for _ in rounds:
        user_id = token_urlsafe(8)
        path, token = begin(late, user_id)
        service.make_renewal_due(id_in(path))

        began, *begun = service.race(
            partial(sign_out, user_id),
            partial(begin_some, slightly_late, user_id),
            partial(begin_some, other, user_id),
            partial(late, "POST", f"{path}/renew"),
            partial(verify, late_too, token),
        )

        assert late("GET", path).status == 404
        assert verify(late, token).status == 401
        for answered, other_path in begun[0] + begun[1]:
            assert answered > began or late("GET", other_path).status == 404
        for item in late("GET", "/sessions", query={"user_id": user_id}).json["items"]:
            assert punctual("GET", f"/sessions/{item['session_id']}").status == 200
