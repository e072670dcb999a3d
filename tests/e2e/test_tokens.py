"""Tokens and signing out, on the deployed local stack."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.stack import LocalStack
from tests.e2e.conftest import HeldCaller, eventually


def log_in(call: HeldCaller, user_id: str, **fields: object) -> tuple[str, str]:
    """Session id and token."""
    session = call("POST", "/sessions", {"user_id": user_id, **fields}).json
    return session["session_id"], session["token"]


def verify(call: HeldCaller, token: str) -> int:
    return call("POST", "/sessions/verify", {"token": token}).status


def types(call: HeldCaller, user_id: str) -> list[str]:
    events = call("GET", "/events", query={"user_id": user_id, "order": "asc"}).json["items"]
    return [event["type"] for event in events]


def test_stolen_token_is_found_out_and_on_record(call: HeldCaller) -> None:
    session_id, former = log_in(call, "robbed")
    new = call("POST", f"/sessions/{session_id}/rotate", {"grace_seconds": 1}).json["token"]
    assert verify(call, new) == verify(call, former) == 200
    assert call("POST", f"/sessions/{session_id}/rotate").status == 409
    time.sleep(2)

    assert verify(call, former) == 401
    assert verify(call, new) == 401

    eventually(lambda: types(call, "robbed") == ["created", "rotated", "revoked", "purged"])
    events = call("GET", "/events", query={"session_id": session_id}).json["items"]
    assert events[1]["reason"] == "token_reuse"


def test_one_of_many_concurrent_rotations_wins(call: HeldCaller) -> None:
    """The others are told so, and the winner's token is the one that counts."""
    session_id, former = log_in(call, "rotators")

    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda _: call("POST", f"/sessions/{session_id}/rotate"), range(10))
        )

    assert sorted(answer.status for answer in answers) == [200] + [409] * 9
    [new] = [answer.json["token"] for answer in answers if answer.status == 200]
    assert verify(call, new) == verify(call, former) == 200


def test_thousand_sessions_of_a_user_end_in_one_call(
    call: HeldCaller, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: log_in(call, "everywhere")[0], range(1000)))
    begin = time.monotonic()

    answer = call("DELETE", "/sessions", query={"user_id": "everywhere", "except": ids[0]})

    with capsys.disabled():
        print(f"\n999 sessions ended in {time.monotonic() - begin:.1f} s")
    assert answer.json == {"revoked": 999, "complete": True}
    listed = call("GET", "/sessions", query={"user_id": "everywhere", "limit": 100}).json["items"]
    assert [item["session_id"] for item in listed] in ([ids[0]], [])
    assert call("GET", f"/sessions/{ids[0]}").status == 200


def test_no_secret_in_tables_stream_trail_or_logs(call: HeldCaller, stack: LocalStack) -> None:
    """As the deployed functions leave them, after success and failure."""
    session_id, token = log_in(call, "secretive")
    verify(call, token)
    verify(call, token + "x")
    call("POST", "/sessions/verify", {"wrong": token})
    new = call("POST", f"/sessions/{session_id}/rotate", {"grace_seconds": 0}).json["token"]
    verify(call, token)
    eventually(lambda: "purged" in types(call, "secretive"))

    streams = stack.client("dynamodbstreams")
    table = stack.client("dynamodb").describe_table(TableName=stack.outputs["SessionsTableName"])
    stream = table["Table"]["LatestStreamArn"]
    records = []
    for shard in streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while found := streams.get_records(ShardIterator=iterator, Limit=1000):
            records += found["Records"]
            iterator = found.get("NextShardIterator")
            if not found["Records"] or not iterator:
                break
    audit = stack.client("dynamodb").scan(TableName=stack.outputs["AuditTableName"])["Items"]
    log = (stack.folder / "ministack.log").read_text()
    traces = repr(records) + repr(audit) + log

    assert session_id in repr(records)
    assert session_id in repr(audit)
    for secret in (each.partition(".")[2] for each in (token, new)):
        raw = base64.urlsafe_b64decode(secret + "=")
        for trace in (secret, raw.hex(), repr(raw)[2:-1], base64.b64encode(raw).decode()):
            assert trace not in traces
