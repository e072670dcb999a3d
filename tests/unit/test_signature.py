"""Signature Version 4, compared with botocore's signer."""

from __future__ import annotations

import datetime
import random
import string
import time

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from dynamodb.credentials import Credentials
from dynamodb.signature import signed_headers

MIDNIGHT = 1_795_392_000
OPERATIONS = ("GetItem", "PutItem", "UpdateItem", "Query", "BatchGetItem", "BatchExecuteStatement")
HOSTS = {
    "us-east-1": ("dynamodb.us-east-1.amazonaws.com", "127.0.0.1:4566", "dynamodb.internal"),
    "us-gov-west-1": ("dynamodb.us-gov-west-1.amazonaws.com",),
    "cn-north-1": ("dynamodb.cn-north-1.amazonaws.com.cn",),
    "eu-central-2": ("dynamodb.eu-central-2.amazonaws.com", "localhost:8000"),
}


def text(random_: random.Random, most: int) -> str:
    """Any Unicode except lone surrogates, with plain letters in it."""
    planes = random_.choices((0x7F, 0xFF, 0xFFFF, 0x10FFFF), k=random_.randint(0, most))
    chars = (chr(random_.randint(0, last)) for last in planes)
    return "".join(char for char in chars if not 0xD800 <= ord(char) <= 0xDFFF)


def key(random_: random.Random, length: int) -> str:
    return "".join(random_.choices(string.ascii_letters + string.digits + "+/=", k=length))


@pytest.mark.parametrize("seed", range(10))
def test_signature_is_botocores(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signatures are equal for bodies of any Unicode, regions and hosts, with and without a
    session token.
    """
    random_ = random.Random(seed)
    for _ in range(400):
        region = random_.choice(list(HOSTS))
        host = random_.choice(HOSTS[region])
        operation = random_.choice(OPERATIONS)
        body = text(random_, 200).encode()
        token = key(random_, random_.randint(1, 900)) if random_.random() < 0.7 else ""
        credentials = Credentials(key(random_, 20), key(random_, 40), token)
        # Around midnight. The day in the scope must be the day of the date.
        now = MIDNIGHT + random_.choice((random_.uniform(-2, 2), random_.uniform(0, 10**8)))

        ours = signed_headers(
            operation, body, host=host, region=region, credentials=credentials, now=now
        )

        monkeypatch.setattr(
            auth,
            "get_current_datetime",
            lambda now=now: datetime.datetime.fromtimestamp(now, datetime.UTC),
        )
        request = AWSRequest(
            "POST",
            f"https://{host}/",
            {
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            },
            body,
        )
        auth.SigV4Auth(BotoCredentials(*credentials), "dynamodb", region).add_auth(request)
        theirs = {name.lower(): value for name, value in request.headers.items()}
        assert ours == {"host": host} | theirs


def test_time_is_utc_wherever_the_host_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "HERE-9")
    time.tzset()
    try:
        headers = signed_headers(
            "GetItem",
            b"",
            host="localhost",
            region="us-east-1",
            credentials=Credentials("key", "secret", ""),
            now=MIDNIGHT,
        )
    finally:
        monkeypatch.undo()
        time.tzset()

    assert headers["x-amz-date"] == "20261123T000000Z"
    assert "/20261123/us-east-1/" in headers["authorization"]
