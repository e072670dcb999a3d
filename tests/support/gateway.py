"""Creates events for the API's function, as API Gateway and the function URL would."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from serverless_sessions.serve.gateway import find_route
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
    route, parameters = find_route(method, path)
    event["routeKey"] = route or "$default"
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


@cache
def _sample(name: str) -> str:
    return (ROOT / "events" / f"{name}.json").read_text()
