"""A Lambda authorizer for other APIs: one read, and nothing is ever written.

It imports next to nothing, because each cold start of it delays somebody's request.
"""

from __future__ import annotations

import gc

gc.disable()  # see the end

import logging
import os
import time
from typing import Any

from session_authorizer.credentials import find_token
from sessions.dynamodb import connect
from sessions.token import Verdict, judge

logger = logging.getLogger()
logger.setLevel(logging.INFO)
client = connect()
table_name = os.environ["SESSIONS_TABLE"]
cookie = os.environ["SESSION_COOKIE"]
not_before = int(os.environ["NOT_BEFORE"])
authorize_anonymous = os.environ["AUTHORIZE_ANONYMOUS"] == "true"


def lambda_handler(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Allow the request of a live session's token; an anonymous session's by a setting only, since
    APIs take "allowed" for "logged in".

    Answers an HTTP API (payload 2.0) in the simple format and a REST API with a policy. When
    DynamoDB does not answer, the error rises and API Gateway refuses the request.
    """
    session = _session(event)
    if event.get("version") == "2.0":
        return {"isAuthorized": session is not None, "context": session or {}}
    return _policy(event["methodArn"], session)


def _session(event: dict[str, Any]) -> dict[str, Any] | None:
    """What the API learns of the session, None if there is no proof of a live one."""
    token = find_token(event, cookie)
    if token is None:
        return None
    answer = client.get_item(
        TableName=table_name,
        Key={"SessionId": {"S": token.session_id}},
        ProjectionExpression=(
            "UserId, ExpirationTime, RevokedAt, CreatedAt, TokenHash, PreviousTokenHash,"
            " PreviousTokenUntil"
        ),
        ConsistentRead=True,
    )
    item: Any = answer.get("Item", {})
    verdict = judge(token.hash, item, int(time.time()), not_before)
    if verdict is Verdict.REUSED:
        # Ending the session takes a permission to write, which `verify` has and this has not.
        logger.warning("token_reuse_seen", extra={"session_id": token.session_id})
    if verdict is not Verdict.VALID or not ("UserId" in item or authorize_anonymous):
        return None
    user = {"user_id": item["UserId"]["S"]} if "UserId" in item else {}
    expires_at = int(item["ExpirationTime"]["N"])
    return {"session_id": token.session_id, **user, "expires_at": expires_at}


def _policy(method_arn: str, session: dict[str, Any] | None) -> dict[str, Any]:
    """A policy on all of the API: a cached one that named a single route would refuse the others.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html
    """
    api = method_arn.partition("/")[0]
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": "Allow" if session else "Deny",
        "Resource": f"{api}/*",
    }
    return {
        "principalId": session.get("user_id", session["session_id"]) if session else "nobody",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": session or {},
    }


# What has been imported stays for good. To look for garbage among it would take a tenth of a cold
# start, and hold up some later request.
gc.freeze()
gc.enable()
