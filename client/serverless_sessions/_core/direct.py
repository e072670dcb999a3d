"""Verification that reads the `Sessions` table directly instead of calling the API."""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import zlib
from dataclasses import dataclass
from typing import Any

from serverless_sessions._core import clock
from serverless_sessions._core.calls import Answer, Deadline, Plan, Request
from serverless_sessions._core.checks import check_region, check_url
from serverless_sessions._core.exact_json import parse_number
from serverless_sessions._core.network import domain_of
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.token import Token
from serverless_sessions.models import Client, Impersonator, Session

# How long a policy from the API is used. A new `not_before` takes effect within this time.
_POLICY_SECONDS = 60
# After this time one call goes to the API to refresh the policy, and the others still use it.
_REFRESH_SECONDS = 55
# A read takes a few milliseconds. If it takes this long, the API is the better choice.
_READ_SECONDS = 0.5
# A time has at most ten digits, so that a time in milliseconds is rejected.
_TOO_LATE = 10**10
_POLICY = re.compile(
    r"not_before=([0-9]{1,15}), renewal_fraction=([0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)"
)


@dataclass(frozen=True)
class _Policy:
    not_before: int
    renewal_fraction: float
    learned_at: float


class DirectReader:
    """Lets `verify` read the table `table` first, with one strongly consistent GetItem.

    The read is enough if the token is the newest one of a live session, has been presented before,
    and the session is not due for renewal. The current time is taken from DynamoDB's response, so
    the clock of this host can neither end nor prolong a session. In all other cases the API
    decides, including a failed read and a response without a time.

    One `verify` a minute always goes to the API, because its response contains the policy:
    `not_before`, before which a session must not have been created, and the fraction of the idle
    timeout after which a session is renewed. Until the first such response, every call goes to the
    API.

    The reader needs the permission `dynamodb:GetItem` on the table, and no other. By default the
    table is in the region of the API. `endpoint` is by default the one in the environment, which
    AWS's SDKs read as well, or else DynamoDB's endpoint in that region.
    """

    def __init__(
        self, table: str, *, region: str | None = None, endpoint: str | None = None
    ) -> None:
        self._table = table
        self._region = region and check_region(region)
        for name in ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"):
            endpoint = endpoint or os.environ.get(name)
        self._endpoint = endpoint and check_url(endpoint, "the endpoint of DynamoDB")
        self._policy: _Policy | None = None
        # The last policy for whose refresh a call has gone to the API.
        self._refreshed_policy: _Policy | None = None

    def read(
        self, token: Token, region: str, deadline: Deadline, *, renew: bool
    ) -> Plan[Session | None]:
        """Return the session of `token`, or None if the API has to decide."""
        policy = self._current_policy()
        if policy is None:
            return None
        outcome = yield self._get_item(token.session_id, self._region or region, deadline)
        if (
            not isinstance(outcome, Answer)
            or outcome.status != 200
            or not _checksum_matches(outcome)
        ):
            return None
        try:
            item = json.loads(outcome.body)["Item"]
            return _judge(item, token, policy, outcome.time, renew=renew)
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return None

    def learn(self, header: str, sent_at: float) -> None:
        """Store the policy in the header `Sessions-Policy` of a response.

        `sent_at` is the time at which the call was sent. If the header cannot be parsed, the former
        policy is used until it is too old.
        """
        match = _POLICY.fullmatch(header)
        if match and (fraction := float(match[2])) <= 1:
            self._policy = _Policy(int(match[1]), fraction, sent_at)

    def _current_policy(self) -> _Policy | None:
        """Return the policy, or None if this call has to go to the API.

        Its age is measured with the wall clock, because a monotonic clock may stop while the
        process is frozen, as in Lambda.
        """
        policy = self._policy
        age = clock.time() - policy.learned_at if policy else -1
        if not 0 <= age < _POLICY_SECONDS:
            return None
        if age >= _REFRESH_SECONDS and self._refreshed_policy is not policy:
            self._refreshed_policy = policy
            return None
        return policy

    def _get_item(self, session_id: str, region: str, deadline: Deadline) -> Request:
        seconds = max(min(_READ_SECONDS, deadline.left / 4), 0)
        parameters = {
            "TableName": self._table,
            "Key": {"SessionId": {"S": session_id}},
            "ConsistentRead": True,
        }
        return Request(
            "POST",
            f"{self._endpoint or f'https://dynamodb.{region}.{domain_of(region)}'}/",
            {
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": "DynamoDB_20120810.GetItem",
            },
            Secret(json.dumps(parameters).encode()),
            region=region,
            aws_service="dynamodb",
            seconds=seconds,
            patience_seconds=seconds,
        )


def _checksum_matches(answer: Answer) -> bool:
    checksum = answer.headers.get("x-amz-crc32")
    return checksum is None or checksum == str(zlib.crc32(answer.body))


def _judge(
    item: dict[str, Any], token: Token, policy: _Policy, now: int, *, renew: bool
) -> Session | None:
    """Apply the service's rules. Return None for every case that is left to the API."""
    session = _session(item)
    is_newest = hmac.compare_digest(base64.b64decode(item["TokenHash"]["B"]), token.hash)
    # The first use of a new token has to be written: it starts the former token's grace period.
    is_confirmed = "PreviousTokenGrace" not in item
    is_live = (
        "RevokedAt" not in item
        and session.expires_at > now
        and session.created_at >= policy.not_before
    )
    is_old = now - session.renewed_at >= session.ttl_seconds * policy.renewal_fraction
    is_due = renew and is_old and session.expires_at < session.absolute_expires_at
    return session if is_newest and is_confirmed and is_live and not is_due else None


def _session(item: dict[str, Any]) -> Session:
    """Parse an item. Raises `KeyError` or `ValueError` for anything that the API never stores."""
    _seconds(item, "RenewableUntil")  # not part of a session's JSON, but in every item
    has_user, is_impersonated = "UserId" in item, "Impersonator" in item
    # A session that was created before the attribute existed has proved its user at its creation.
    proved_at = "AuthenticatedAt" if "AuthenticatedAt" in item else "CreatedAt"
    methods = _value(item.get("Methods", {"L": []}))
    if not isinstance(methods, list) or not all(isinstance(name, str) for name in methods):
        raise ValueError("Methods")
    return Session(
        session_id=item["SessionId"]["S"],
        user_id=item["UserId"]["S"] if has_user else None,
        created_at=_seconds(item, "CreatedAt"),
        renewed_at=_seconds(item, "RenewedAt"),
        expires_at=_seconds(item, "ExpirationTime"),
        absolute_expires_at=_seconds(item, "AbsoluteExpirationTime"),
        ttl_seconds=_seconds(item, "TtlSeconds"),
        version=_seconds(item, "Version"),
        data=_value(item["Data"]),
        client=Client(**_value(item.get("Client", {"M": {}}))),
        last_client=Client(**_value(item.get("LastClient", {"M": {}}))),
        authenticated_at=(_seconds(item, proved_at) if has_user and not is_impersonated else None),
        methods=tuple(methods) if has_user and not is_impersonated else (),
        impersonator=Impersonator(**_value(item["Impersonator"])) if is_impersonated else None,
    )


def _seconds(item: dict[str, Any], name: str) -> int:
    """Return an integer number of seconds. TTL and the service accept no other numbers."""
    text: str = item[name]["N"]
    if not text.isdecimal() or not 1 <= int(text) < _TOO_LATE:
        raise ValueError(name)
    return int(text)


def _value(attribute: dict[str, Any]) -> Any:
    """Convert a DynamoDB attribute value to a JSON value."""
    [(kind, value)] = attribute.items()
    match kind:
        case "S" | "BOOL":
            return value
        case "N":
            return parse_number(value)
        case "M":
            return {key: _value(member) for key, member in value.items()}
        case "L":
            return [_value(element) for element in value]
        case "NULL":
            return None
    raise ValueError(f"{kind} is not a JSON type")
