"""The sockets of each session: `connect` and `disconnect` keep track of them, `close` closes them.

A session has one item, with the ids of its connections. After its end, the item has `EndedAt`.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import boto3

# API Gateway closes every connection after this time:
# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
_LONGEST_SECONDS = 2 * 3600

origin = os.environ["ORIGIN"]
connections = boto3.resource("dynamodb").Table(os.environ["CONNECTIONS_TABLE"])
api = boto3.client("apigatewaymanagementapi")

Event = dict[str, Any]


def connect(event: Event, context: object) -> dict[str, int]:
    """Remember a connection that is being opened, or refuse it.

    Two things are left to check. A browser may also send the cookie if a page of another origin
    opens the socket. And the session may have ended since the authorizer allowed the connection:
    then `close` has missed it.
    """
    if _origin(event) != origin:
        return {"statusCode": 403}
    try:
        _update(
            _session_id(event),
            "SET ExpirationTime = :expires ADD ConnectionIds :ids",
            {":ids": {event["requestContext"]["connectionId"]}},
            ConditionExpression="attribute_not_exists(EndedAt)",
        )
    except connections.meta.client.exceptions.ConditionalCheckFailedException:
        return {"statusCode": 403}
    return {"statusCode": 200}


def disconnect(event: Event, context: object) -> dict[str, int]:
    """Forget a connection that has been closed."""
    _update(
        _session_id(event),
        "SET ExpirationTime = :expires DELETE ConnectionIds :ids",
        {":ids": {event["requestContext"]["connectionId"]}},
    )
    return {"statusCode": 200}


def close(event: Event, context: object) -> None:
    """Close the sockets of a session that has ended.

    The event may come more than once, and Lambda repeats a call that failed.
    """
    item = _update(
        event["detail"]["session_id"],
        "SET ExpirationTime = :expires, EndedAt = :at",
        {":at": event["detail"]["at"]},
    )
    for connection_id in item.get("ConnectionIds", ()):
        with suppress(api.exceptions.GoneException):
            api.delete_connection(ConnectionId=connection_id)


def _update(
    session_id: str, expression: str, values: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """Change a session's item, and return it.

    By the time `:expires`, API Gateway has closed all connections that are open now.
    """
    expires = int(time.time()) + _LONGEST_SECONDS
    answer = connections.update_item(
        Key={"SessionId": session_id},
        UpdateExpression=expression,
        ExpressionAttributeValues={":expires": expires, **values},
        ReturnValues="ALL_NEW",
        **more,
    )
    return dict(answer["Attributes"])


def _session_id(event: Event) -> str:
    """Return the session that the authorizer found. All events of a connection have it."""
    return str(event["requestContext"]["authorizer"]["session_id"])


def _origin(event: Event) -> str | None:
    headers = {name.lower(): value for name, value in event["headers"].items()}
    return headers.get("origin")
