"""Creates events for the API's function, as API Gateway and the function URL would."""

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
    event: dict[str, Any] = json.loads(_sample("api_get_session"))
    event["rawPath"] = path
    event["requestContext"]["http"] |= {"method": method, "path": path}
    event["routeKey"], parameters = match_route(method, path)
    event["requestContext"]["routeKey"] = event["routeKey"]
    del event["pathParameters"]
    if parameters:
        event["pathParameters"] = parameters
    return event


def by_function_url(event: dict[str, Any]) -> None:
    """Change an event of the API into one of the function URL, which has no routes."""
    sample = json.loads(_sample("api_function_url"))
    context = event["requestContext"]
    for name in ("apiId", "domainName", "domainPrefix", "routeKey", "stage"):
        context[name] = sample["requestContext"][name]
    event["routeKey"] = sample["routeKey"]
    event["headers"] |= {"host": context["domainName"]}
    event.pop("pathParameters", None)


def match_route(method: str, path: str) -> tuple[str, dict[str, str]]:
    """Return the key of the route that API Gateway selects, and the parameters in its path."""
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
def _sample(name: str) -> str:
    return (ROOT / "events" / f"{name}.json").read_text()
