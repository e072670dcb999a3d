"""Events for the API's function, with the route that API Gateway would match."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from tests.support.template import ROOT, resources


@cache
def routes() -> frozenset[str]:
    """The keys of the template's routes. The CDK takes milliseconds, and one thread at a time."""
    return frozenset(route["RouteKey"] for route in resources("AWS::ApiGatewayV2::Route").values())


def api_event(method: str, path: str) -> dict[str, Any]:
    """Return an event of this method and decoded path.

    A path that no route of the API matches makes an event of `$default`, as a function URL does.
    """
    event: dict[str, Any] = json.loads(_sample())
    event["rawPath"] = path
    event["requestContext"]["http"] |= {"method": method, "path": path}
    event["routeKey"], parameters = _match(method, path)
    event["requestContext"]["routeKey"] = event["routeKey"]
    del event["pathParameters"]
    if parameters:
        event["pathParameters"] = parameters
    return event


def _match(method: str, path: str) -> tuple[str, dict[str, str]]:
    # API Gateway selects the route of a path with more leading slashes as if it had one.
    for route, pattern in _patterns():
        if match := pattern.fullmatch(f"{method} /{path.lstrip('/')}"):
            return route, match.groupdict()
    return "$default", {}


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """The routes without a parameter first: they come before the others."""
    return [
        (route, re.compile(re.sub(r"{(\w+)}", "(?P<\\1>[^/]+)", route)))
        for route in sorted(routes(), key=lambda route: "{" in route)
    ]


@cache
def _sample() -> str:
    return (ROOT / "events" / "api_get_session.json").read_text()
