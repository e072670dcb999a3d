"""A Lambda authorizer for other APIs: one read, and a write only where the token asks for it.

It imports next to nothing, because each cold start of it delays somebody's request.
"""

from __future__ import annotations

import gc

gc.disable()  # see the end

import logging
import os
import time
from typing import Any

from dynamodb.errors import DynamoDBError
from session_authorizer.credentials import find_token
from sessions.dynamodb import Item, connect
from sessions.errors import InvalidToken, SessionsError
from sessions.lifetime import NUMBERS, seconds
from sessions.table import TOKEN_ATTRIBUTES, Proof, SessionTable, Writer


def _now() -> int:
    return int(time.time())


logger = logging.getLogger()
logger.setLevel(logging.INFO)
cookie = os.environ["SESSION_COOKIE"]
authorize_anonymous = os.environ["AUTHORIZE_ANONYMOUS"] == "true"
# Who it is in the audit trail.
actor = os.environ["ROLE_ARN"]
table = SessionTable(
    connect(),
    os.environ["SESSIONS_TABLE"],
    clock=_now,
    not_before=int(os.environ["NOT_BEFORE"]),
)
# All but the data, which no answer shows.
_ATTRIBUTES = ", ".join(("UserId", "RevokedAt", *NUMBERS, *TOKEN_ATTRIBUTES))


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Allow the request of a live session's token; an anonymous session's by a setting only, since
    APIs take "allowed" for "logged in".

    Answers an HTTP API (payload 2.0) in the simple format and a REST API with a policy. When
    DynamoDB does not answer, the error rises and API Gateway refuses the request.
    """
    session = _session(event, Writer(actor=actor, request_id=context.aws_request_id))
    if event.get("version") == "2.0":
        return {"isAuthorized": session is not None, "context": session or {}}
    return _policy(event["methodArn"], session)


def _session(event: dict[str, Any], by: Writer) -> dict[str, Any] | None:
    """What the API learns of the session, None if there is no proof of a live one."""
    token = find_token(event, cookie)
    if token is None:
        return None
    try:
        proof = table.prove(token, attributes=_ATTRIBUTES, by=by)
        item = _mark_seen(proof, by) if proof.is_first_use else proof.item
    except InvalidToken:
        return None
    if not ("UserId" in item or authorize_anonymous):
        return None
    user = {"user_id": item["UserId"]["S"]} if "UserId" in item else {}
    expires_at = seconds(item, "ExpirationTime")
    return {"session_id": token.session_id, **user, "expires_at": expires_at}


def _mark_seen(proof: Proof, by: Writer) -> Item:
    """Trouble with writing is no trouble with knowing: the next request marks the token."""
    try:
        return table.use(proof, now=_now(), by=by)
    except InvalidToken:
        raise
    except (SessionsError, DynamoDBError) as failure:
        cause = str(failure) or type(failure).__name__
        logger.warning("first use not marked", extra={"cause": cause})
        return proof.item


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
