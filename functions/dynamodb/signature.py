"""Signature Version 4 for requests of DynamoDB's JSON protocol: POST to `/`, no query.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import time
from functools import lru_cache
from hashlib import sha256
from hmac import digest

from dynamodb.credentials import Credentials

_ALGORITHM = "AWS4-HMAC-SHA256"


def signed_headers(
    operation: str, body: bytes, *, host: str, region: str, credentials: Credentials, now: float
) -> dict[str, str]:
    """Return the headers of a request that is signed at `now`, in epoch seconds.

    `host` is the value of the Host header, without the default port of the scheme. The names are in
    lower case, and all headers except `authorization` are signed.
    """
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "host": host,
        "x-amz-date": date,
    }
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    headers["x-amz-target"] = f"DynamoDB_20120810.{operation}"
    # A signature requires the alphabetical order, which is the order of the headers above.
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"POST\n/\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
    scope = f"{date[:8]}/{region}/dynamodb/aws4_request"
    text = f"{_ALGORITHM}\n{date}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    signature = digest(_key(credentials.secret_key, date[:8], region), text.encode(), "sha256")
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope},"
        f" SignedHeaders={names}, Signature={signature.hex()}"
    )
    return headers


@lru_cache(maxsize=2)
def _key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "dynamodb", "aws4_request"):
        key = digest(key, part.encode(), "sha256")
    return key
