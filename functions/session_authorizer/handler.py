"""A Lambda authorizer for other APIs. It makes one read, and a write for some tokens.

It imports as little as possible, because every cold start delays somebody's request.
"""

from __future__ import annotations

import gc

gc.disable()  # the reason is at the end of the file

import logging
import os
from typing import Any

import clock
from dynamodb.errors import DynamoDBError
from session_authorizer.credentials import find_token
from sessions.authentication import (
    AUTHENTICATION_ATTRIBUTES,
    authentication,
    impersonator,
)
from sessions.dynamodb import connect
from sessions.errors import InvalidToken, SessionsError
from sessions.lifetime import NUMBERS, seconds
from sessions.table import TOKEN_ATTRIBUTES, Proof, SessionTable, Writer

logger = logging.getLogger()
logger.setLevel(logging.INFO)
cookie = os.environ["SESSION_COOKIE"]
authorize_anonymous = os.environ["AUTHORIZE_ANONYMOUS"] == "true"
# The name of the authorizer in the audit trail.
actor = os.environ["ROLE_ARN"]
table = SessionTable(
    connect(),
    os.environ["SESSIONS_TABLE"],
    not_before=int(os.environ["NOT_BEFORE"]),
)
# The data is not read, because no answer contains it.
_ATTRIBUTES = ", ".join(
    (
        *("UserId", "Impersonator", "RevokedAt", *NUMBERS),
        *(*TOKEN_ATTRIBUTES, *AUTHENTICATION_ATTRIBUTES),
    )
)


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Allow a request whose token proves a live session.

    Anonymous sessions are allowed only if a setting says so, because most APIs assume that an
    allowed caller is logged in. An HTTP API (payload 2.0) gets an answer in the simple format, and
    a REST API gets a policy. If DynamoDB does not answer, the error is raised and API Gateway
    refuses the request.
    """
    session = _session(event, Writer(actor=actor, request_id=context.aws_request_id))
    if event.get("version") == "2.0":
        return {"isAuthorized": session is not None, "context": session or {}}
    return _policy(event["methodArn"], session)


def _session(event: dict[str, Any], by: Writer) -> dict[str, Any] | None:
    """Return what the API learns about the session, or None if the token proves no live session."""
    token = find_token(event, cookie)
    if token is None:
        return None
    try:
        proof = table.prove(token, attributes=_ATTRIBUTES, by=by)
        if proof.is_first_use:
            proof = _record_first_use(proof, by)
    except InvalidToken:
        return None
    item = proof.item
    if not ("UserId" in item or authorize_anonymous):
        return None
    # API Gateway passes on scalars only, and no nulls.
    session = {"session_id": token.session_id, "expires_at": seconds(item, "ExpirationTime")}
    if "UserId" in item:
        session["user_id"] = item["UserId"]["S"]
    at, methods = authentication(item, former=proof.is_former)
    if at is not None:
        session |= {"authenticated_at": at, "methods": " ".join(methods)}
    if agent := impersonator(item):
        session["impersonator"] = agent["id"]
    return session


def _record_first_use(proof: Proof, by: Writer) -> Proof:
    """Record the first use of a token. After a failure, the next use is recorded instead."""
    try:
        return table.record_use(proof, now=clock.now(), by=by)
    except InvalidToken:
        raise
    except (SessionsError, DynamoDBError) as failure:
        cause = str(failure) or type(failure).__name__
        logger.warning("first use not marked", extra={"cause": cause})
        return proof


def _policy(method_arn: str, session: dict[str, Any] | None) -> dict[str, Any]:
    """Return a policy for the whole API.

    API Gateway caches it, so a policy for a single route would refuse the requests of all others.
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


# Imported objects are never freed. Looking for garbage among them would take a tenth of a cold
# start and delay a later request.
gc.freeze()
gc.enable()
