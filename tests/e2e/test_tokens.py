"""Tokens and signing out, on the deployed local stack."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.stack import LocalStack
from tests.e2e.calls import ALSO_EMBEDDED, ContractCaller, log_in, log_in_and_rotate, parsed, rotate
from tests.support.caller import Answer
from tests.support.waiting import eventually


def verify(call: ContractCaller, token: str) -> int:
    return call("POST", "/sessions/verify", {"token": token}).status


def types(call: ContractCaller, session_id: str) -> list[str]:
    query = {"session_id": session_id, "order": "asc"}
    events = call("GET", "/events", query=query).json["items"]
    return [event["type"] for event in events]


def test_former_token_verifies_in_its_grace_and_no_rotation_cuts_it_short(
    call: ContractCaller,
) -> None:
    session_id, former, new = log_in_and_rotate(call, "graced", grace_seconds=3600)

    assert verify(call, new) == verify(call, former) == 200
    assert call("POST", f"/sessions/{session_id}/rotate").status == 409
    assert verify(call, former) == 200


@ALSO_EMBEDDED
def test_stolen_token_is_detected_and_recorded(call: ContractCaller) -> None:
    """The grace of the former token begins with the first use of the new one."""
    session_id, former, new = log_in_and_rotate(call, "robbed", grace_seconds=1)
    time.sleep(2)
    assert verify(call, former) == 200
    assert verify(call, new) == 200

    eventually(lambda: verify(call, former) == 401)
    assert verify(call, new) == 401

    eventually(lambda: types(call, session_id) == ["created", "rotated", "revoked", "purged"])
    events = call("GET", "/events", query={"session_id": session_id}).json["items"]
    assert events[1]["reason"] == "token_reuse"


def test_old_token_of_a_frequently_rotated_session_ends_it(call: ContractCaller) -> None:
    """Its family identifies it, however many tokens the session has had since."""
    session_id, stolen, new = log_in_and_rotate(call, "robbed", grace_seconds=1)
    for _ in range(3):
        new = rotate(call, new, grace_seconds=3600)

    assert verify(call, stolen) == 401
    assert verify(call, new) == 401
    assert call("GET", f"/sessions/{session_id}").status == 404


@ALSO_EMBEDDED
def test_token_whose_answer_was_lost_is_replaced(call: ContractCaller) -> None:
    """Nobody has used it during its grace period, and the user still has the former token."""
    session_id, former, lost = log_in_and_rotate(call, "unlucky", grace_seconds=1)
    time.sleep(2)

    new = rotate(call, former, grace_seconds=3600)

    # The lost token is refused, but its use does not count as a theft.
    assert [verify(call, token) for token in (lost, former, new, former)] == [401, 200, 200, 200]


@ALSO_EMBEDDED
@pytest.mark.parametrize("by_token", [True, False])
def test_one_of_many_concurrent_rotations_wins(call: ContractCaller, by_token: bool) -> None:
    """The other rotations get a 409, and only the winner's token is new.

    If a second rotation had been made, the first token would no longer be valid.
    """
    session_id, former = log_in(call, "rotators")
    path = f"/sessions/{session_id}/rotate"
    body = {"grace_seconds": 3600} | ({"token": former} if by_token else {})

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: call("POST", path, body), range(10)))

    won = [answer.json["token"] for answer in answers if answer.status == 200]
    assert [answer.status for answer in answers].count(409) == 10 - len(won)
    # If the winner's first answer was a 503, its next attempt conflicts with its own rotation.
    assert len(won) == 1 or any(answer.sends > 1 for answer in answers)
    assert {verify(call, token) for token in (former, *won)} == {200}


def test_thousand_sessions_of_a_user_end(
    call: ContractCaller, capsys: pytest.CaptureFixture[str]
) -> None:
    """One call is enough if it takes less than 20 s."""

    def begin_session(_: int) -> Answer:
        return call("POST", "/sessions", {"user_id": "everywhere"})

    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(begin_session, range(1000)))
    keep = begun[0].json["session_id"]
    query = {"user_id": "everywhere", "except": keep}
    begin = time.monotonic()

    ended = [call("DELETE", "/sessions", query=query)]
    while not ended[-1].json["complete"]:
        ended.append(call("DELETE", "/sessions", query=query))

    with capsys.disabled():
        print(f"\n999 sessions ended in {time.monotonic() - begin:.1f} s, calls: {len(ended)}")
    revoked = sum(answer.json["revoked"] for answer in ended)
    # Sessions that ended before a 503 are not counted.
    assert revoked == 999 or any(answer.sends > 1 for answer in begun + ended)
    assert call("GET", f"/sessions/{keep}").status == 200

    def listed() -> list[str]:
        page = call("GET", "/sessions", query={"user_id": "everywhere", "limit": 100}).json
        return [item["session_id"] for item in page["items"]]

    # A page can be incomplete until TTL has removed the ended sessions.
    eventually(lambda: listed() == [keep])


def test_no_secret_in_tables_stream_trail_or_logs(call: ContractCaller, stack: LocalStack) -> None:
    """They are those of the deployed functions, after calls that succeed and fail."""
    session_id, former, new = log_in_and_rotate(call, "secretive", grace_seconds=0)
    verify(call, new)
    verify(call, new + "x")
    call("POST", "/sessions/verify", {"wrong": new})
    for _ in range(2):
        new = rotate(call, new, grace_seconds=0)
    verify(call, former)
    eventually(lambda: "purged" in types(call, session_id))

    streams = stack.client("dynamodbstreams")
    table = stack.client("dynamodb").describe_table(TableName=stack.outputs["SessionsTableName"])
    stream = table["Table"]["LatestStreamArn"]
    records = []
    for shard in streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while page := streams.get_records(ShardIterator=iterator, Limit=1000):
            records += page["Records"]
            iterator = page.get("NextShardIterator")
            if not page["Records"] or not iterator:
                break
    audit = stack.client("dynamodb").scan(TableName=stack.outputs["AuditTableName"])["Items"]
    log = (stack.folder / "ministack.log").read_text()
    traces = repr(records) + repr(audit) + log

    assert session_id in repr(records)
    assert session_id in repr(audit)
    secrets = [parsed(token).secret for token in (former, new)]
    families = {secret[:12] for secret in secrets}
    assert len(families) == 1
    for secret in (*secrets, *families):
        raw = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
        for trace in (secret, raw.hex(), repr(raw)[2:-1], base64.b64encode(raw).decode()):
            assert trace not in traces
