"""Makes what an app knows of its end user fit the service, so that it never blocks a log-in."""

from __future__ import annotations

import ipaddress
import re

from serverless_sessions.models import Client

_MAX_USER_AGENT = 512
# [2001:db8::1]:443, 192.0.2.1:443
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([0-9.]+):\d+")


def fitted(client: Client | None) -> dict[str, str]:
    """`client` as a call takes it; what can't be made to fit is left out."""
    found = {
        "ip": _ip(client.ip) if client and client.ip else None,
        "user_agent": _user_agent(client.user_agent) if client and client.user_agent else None,
    }
    return {name: value for name, value in found.items() if value}


def _ip(text: str) -> str | None:
    """The first address of a list such as X-Forwarded-For, without zone and port."""
    first = text.partition(",")[0].strip().strip('"')
    if ported := _WITH_PORT.fullmatch(first):
        first = ported[1] or ported[2]
    address = first.partition("%")[0]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return None
    return address


def _user_agent(text: str) -> str:
    """Printable characters alone; neither controls nor halves of surrogate pairs."""
    return "".join(each for each in text if each.isprintable())[:_MAX_USER_AGENT].strip()
