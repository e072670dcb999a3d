"""Creates events for the API's function, with the route that API Gateway would match."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from tests.support.template import ROOT, resources


@cache
def routes() -> frozenset[str]:
    """Return the keys of the template's routes."""
    return frozenset(route["RouteKey"] for route in resources("AWS::ApiGatewayV2::Route").values())


def api_event(method: str, path: str) -> dict[str, Any]:
    """Return an event of this method and decoded path.

    If no route of the API matches the path, the route is `$default`, as with a function URL.
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
    # API Gateway treats several leading slashes as one when it selects the route.
    for route, pattern in _patterns():
        if match := pattern.fullmatch(f"{method} /{path.lstrip('/')}"):
            return route, match.groupdict()
    return "$default", {}


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Return the patterns of all routes. Routes without a parameter come first."""
    return [
        (route, re.compile(re.sub(r"{(\w+)}", "(?P<\\1>[^/]+)", route)))
        for route in sorted(routes(), key=lambda route: "{" in route)
    ]


@cache
def _sample() -> str:
    return (ROOT / "events" / "api_get_session.json").read_text()
