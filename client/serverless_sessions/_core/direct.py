"""Verify by reading the `Sessions` table itself."""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import time
import zlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from serverless_sessions._core.calls import Answer, Deadline, Plan, Request
from serverless_sessions._core.exact_json import number
from serverless_sessions._core.token import Token
from serverless_sessions.models import Client, Session

# So long the rules of the last answer hold: the kill switch arrives within that time.
_POLICY_SECONDS = 60
# One call asks for the rules anew before that, so that the others need not.
_REFRESH_SECONDS = 55
# A read takes a few milliseconds. After so long the API does better.
_READ_SECONDS = 0.5
# Times have ten digits at most, so that one in milliseconds is none.
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

    The read answers for the newest token of a live session that is not due for renewal, if that
    token has been presented before. What time it is comes with DynamoDB's answer, so the clock of
    this host ends and prolongs no session. The API decides everything else, also when the read
    fails or its answer has no time. One `verify` a minute goes to the API in any case, for its
    answer brings the rules. Until the first such answer, every call goes to the API.

    Needs `dynamodb:GetItem` on the table, and nothing else. Without `region`, the table is in the
    region of the API; without `endpoint`, it is behind that region's own.
    """

    def __init__(
        self, table: str, *, region: str | None = None, endpoint: str | None = None
    ) -> None:
        self._table = table
        self._region = region
        self._endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")
        self._policy: _Policy | None = None
        self._refreshing: _Policy | None = None

    def read(
        self, token: Token, region: str, deadline: Deadline, *, renew: bool
    ) -> Plan[Session | None]:
        """The session of `token`; None where the API has to decide."""
        policy = self._current_policy()
        if policy is None:
            return None
        outcome = yield self._get_item(token.session_id, self._region or region, deadline)
        if not isinstance(outcome, Answer) or outcome.status != 200 or not _is_whole(outcome):
            return None
        try:
            item = json.loads(outcome.body)["Item"]
            return _judge(item, token, policy, _answered_at(outcome), renew=renew)
        except (KeyError, ValueError, TypeError, AttributeError):
            return None

    def learn(self, header: str, asked_at: float) -> None:
        """The rules in the header `Sessions-Policy` of an answer to a call of that time.

        Without rules that can be read, those from before are used until their time is over.
        """
        match = _POLICY.fullmatch(header)
        if match and (fraction := float(match[2])) <= 1:
            self._policy = _Policy(int(match[1]), fraction, asked_at)

    def _current_policy(self) -> _Policy | None:
        """None if this call has to go to the API. Wall-clock time: it goes on while a process is
        frozen.
        """
        policy = self._policy
        age = time.time() - policy.learned_at if policy else -1
        if not 0 <= age < _POLICY_SECONDS:
            return None
        if age >= _REFRESH_SECONDS and self._refreshing is not policy:
            self._refreshing = policy
            return None
        return policy

    def _get_item(self, session_id: str, region: str, deadline: Deadline) -> Request:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        request = {
            "TableName": self._table,
            "Key": {"SessionId": {"S": session_id}},
            "ConsistentRead": True,
        }
        return Request(
            "POST",
            f"{self._endpoint or f'https://dynamodb.{region}.{suffix}'}/",
            {
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": "DynamoDB_20120810.GetItem",
            },
            json.dumps(request).encode(),
            region=region,
            signed_for="dynamodb",
            seconds=max(min(_READ_SECONDS, deadline.left / 4), 0),
        )


def _is_whole(answer: Answer) -> bool:
    checksum = answer.headers.get("x-amz-crc32")
    return checksum is None or checksum == str(zlib.crc32(answer.body))


def _answered_at(answer: Answer) -> int:
    """DynamoDB's time. Raises `KeyError` and `ValueError` for an answer that does not have it."""
    moment = parsedate_to_datetime(answer.headers["date"])
    if moment.tzinfo is None:  # Python would take it for the time zone of this host
        raise ValueError("no GMT")
    return int(moment.timestamp())


def _judge(
    item: dict[str, Any], token: Token, policy: _Policy, now: int, *, renew: bool
) -> Session | None:
    """The service's own rules, for the plain case alone."""
    session = _session(item)
    newest = hmac.compare_digest(base64.b64decode(item["TokenHash"]["B"]), token.hash)
    # The first use of a rotated token is a write, which starts the former one's grace period.
    seen = "PreviousTokenGrace" not in item
    live = (
        "RevokedAt" not in item
        and session.expires_at > now
        and session.created_at >= policy.not_before
    )
    worn = now - session.renewed_at >= session.ttl_seconds * policy.renewal_fraction
    due = renew and worn and session.expires_at < session.absolute_expires_at
    return session if newest and seen and live and not due else None


def _session(item: dict[str, Any]) -> Session:
    """The session in `item`. Raises `KeyError` and `ValueError` for what the API never stores."""
    _seconds(item, "RenewableUntil")  # not shown, but every session has it
    return Session(
        session_id=item["SessionId"]["S"],
        user_id=item["UserId"]["S"] if "UserId" in item else None,
        created_at=_seconds(item, "CreatedAt"),
        renewed_at=_seconds(item, "RenewedAt"),
        expires_at=_seconds(item, "ExpirationTime"),
        absolute_expires_at=_seconds(item, "AbsoluteExpirationTime"),
        ttl_seconds=_seconds(item, "TtlSeconds"),
        version=_seconds(item, "Version"),
        data=_value(item["Data"]),
        client=Client(**_value(item.get("Client", {"M": {}}))),
        last_client=Client(**_value(item.get("LastClient", {"M": {}}))),
    )


def _seconds(item: dict[str, Any], name: str) -> int:
    """A whole Number, as TTL and the service read it."""
    text: str = item[name]["N"]
    if not text.isdecimal() or not 1 <= int(text) < _TOO_LATE:
        raise ValueError(name)
    return int(text)


def _value(attribute: dict[str, Any]) -> Any:
    """The JSON value behind a DynamoDB attribute value."""
    [(kind, value)] = attribute.items()
    match kind:
        case "S" | "BOOL":
            return value
        case "N":
            return number(value)
        case "M":
            return {key: _value(each) for key, each in value.items()}
        case "L":
            return [_value(each) for each in value]
        case "NULL":
            return None
    raise ValueError(f"{kind} is not a JSON type")
