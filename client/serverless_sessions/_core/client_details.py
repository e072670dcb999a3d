"""Adjusts the end user's details to the service's rules, so that they never prevent a log-in."""

from __future__ import annotations

import ipaddress
import re

from serverless_sessions.models import Client

_MAX_USER_AGENT = 512
# [2001:db8::1]:443, 192.0.2.1:443
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([0-9.]+):\d+")


def normalize(client: Client | None) -> dict[str, str]:
    """Return `client` as the API expects it. Values that cannot be made valid are omitted."""
    values = {
        "ip": _ip(client.ip) if client and client.ip else None,
        "user_agent": _user_agent(client.user_agent) if client and client.user_agent else None,
    }
    return {name: value for name, value in values.items() if value}


def _ip(text: str) -> str | None:
    """Return the first address of a list such as X-Forwarded-For, without its zone and port."""
    first = text.partition(",")[0].strip().strip('"')
    if match := _WITH_PORT.fullmatch(first):
        first = match[1] or match[2]
    address = first.partition("%")[0]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return None
    return address


def _user_agent(text: str) -> str:
    """Keep only printable characters: no control characters and no lone surrogates."""
    return "".join(character for character in text if character.isprintable())[
        :_MAX_USER_AGENT
    ].strip()
