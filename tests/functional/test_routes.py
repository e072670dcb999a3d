"""Routing by the route that API Gateway matched, or by the path if it matched none."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import pytest

from tests.support.api import Answer, Api, Entrance, through_api
from tests.support.functions import sample
from tests.support.gateway import api_event, by_function_url, routes
from tests.support.tokens import id_of


def behind(prefix: str) -> Entrance:
    """Return the event as behind a custom domain with a mapping key."""

    def enter(event: dict[str, Any]) -> None:
        path = prefix + event["rawPath"]
        event["rawPath"] = event["requestContext"]["http"]["path"] = path

    return enter


def in_stage(event: dict[str, Any]) -> None:
    """The name of a stage is the first segment of the path."""
    event["requestContext"]["stage"] = "prod"
    behind("/prod")(event)


def mapped_to_stage(event: dict[str, Any]) -> None:
    """On a custom domain, the path has the mapping key instead of the stage."""
    event["requestContext"]["stage"] = "prod"
    behind("/internal")(event)


ENTRANCES = {
    "API": through_api,
    "mapping key": behind("/auth"),
    "mapping key of two segments": behind("/auth/v1"),
    "mapping key like a route": behind("/sessions"),
    "stage": in_stage,
    "mapping key of a stage": mapped_to_stage,
    "function URL": by_function_url,
}


@pytest.fixture(params=ENTRANCES)
def entered(request: pytest.FixtureRequest, api: Api) -> Api:
    """The API, called through one of these entrances."""
    api.entrance = ENTRANCES[request.param]
    return api


def test_every_route_works_from_every_entrance(entered: Api) -> None:
    called: set[str] = set()

    def call(route: str, body: object = None, query: str = "", status: int = 200) -> Answer:
        called.add(route)
        method, _, path = route.partition(" ")
        answer = entered(method, path.replace("{session_id}", session_id), body, query=query)
        assert answer.status == status, (route, answer)
        return answer

    session_id = ""
    token = call("POST /sessions", {"user_id": "ada"}, status=201).json["token"]
    session_id = id_of(token)
    one_session = "/sessions/{session_id}"
    assert call("POST /sessions/verify", {"token": token}).json["session_id"] == session_id
    assert call(f"GET {one_session}").json["session_id"] == session_id
    assert call(f"PATCH {one_session}", {"data": {"a": 1}}).json["data"] == {"a": 1}
    assert call(f"PUT {one_session}", {"data": {"b": 2}}).json["data"] == {"b": 2}
    assert call(f"POST {one_session}/renew").json["session_id"] == session_id
    assert call(f"POST {one_session}/rotate", {"token": token}).json["token"] != token
    step_up = {"methods": ["otp"], "grace_seconds": 0}
    assert call(f"POST {one_session}/authenticate", step_up).json["methods"] == ["otp"]
    assert len(call("GET /sessions", query="user_id=ada").json["items"]) == 1
    assert call("GET /events", query="user_id=ada").json["items"] == []
    call(f"DELETE {one_session}", status=204)
    call(f"GET {one_session}", status=404)
    assert call("DELETE /sessions", query="user_id=ada").json["complete"]
    assert called == routes()


def test_revocation_from_every_entrance_ends_the_session(entered: Api, stored: Any) -> None:
    session_id = entered.create()

    assert entered("DELETE", f"/sessions/{session_id}").status == 204

    assert "RevokedAt" in stored(session_id)


def test_revocation_with_a_doubled_slash_ends_the_session(api: Api, stored: Any) -> None:
    """API Gateway selects the route as if there were one slash, but does not change the path."""
    session_id = api.create()
    event = api_event("DELETE", f"//sessions/{session_id}")
    assert event["routeKey"] == "DELETE /sessions/{session_id}"

    assert api.send(event, f"/sessions/{session_id}").status == 204

    assert "RevokedAt" in stored(session_id)


MALFORMED = (
    *("x", "A" * 11, "A" * 13, "A" * 11 + "%", "%41" + "A" * 11, "ä" * 12, '"', "\\", "`", "~"),
    *("a\nb", "A" * 12 + "\n", "A" * 12 + "\r", "\n" + "A" * 12, " " + "A" * 12, "\ud800"),
    *("{session_id}", "<session_id>", "$&", "\\g<0>", "verify"),
)


def test_malformed_id_costs_no_request(entered: Api) -> None:
    for session_id in MALFORMED:
        path = f"/sessions/{session_id}"
        calls: list[tuple[str, str, object]] = [
            ("GET", path, None),
            ("PATCH", path, {"data": {"a": 1}}),
            ("PUT", path, {"data": {}}),
            ("POST", f"{path}/renew", None),
            ("POST", f"{path}/rotate", None),
            ("POST", f"{path}/authenticate", {"methods": []}),
        ]
        for method, where, body in calls:
            assert entered(method, where, body).json["code"] == "session_not_found", where
            assert entered.requests == []
        assert entered("DELETE", path).status == 204, path
        assert entered.requests == []


@pytest.mark.parametrize("session_id", ["a/b", f"{'A' * 12}/renew", "/", f"/{'A' * 12}"])
def test_id_that_arrives_with_a_slash_is_malformed(api: Api, session_id: str) -> None:
    """The parameter of a route can be decoded once more than the matched path."""
    for method, status in (("GET", 404), ("DELETE", 204)):
        event = api_event(method, "/sessions/x")
        event["pathParameters"] = {"session_id": session_id}
        assert api.send(event).status == status


UNKNOWN = (
    "GET /",
    "GET ",
    "POST /events",
    "POST /sessions/AAAAAAAAAAAA",
    "GET /sessions/a/b",
    "GET /sessions/verify/renew",
    "DELETE /sessions/",
    "DELETE /sessions/AAAAAAAAAAAA/",
    "DELETE /sessions/AAAAAAAAAAAA/renew",
    "DELETE /sessions/a/b",
    "DELETE //sessions//AAAAAAAAAAAA",
    "DELETE /auth/sessions/AAAAAAAAAAAA",
    "DELETE /sessions\n/AAAAAAAAAAAA",
    "DELETE /\nsessions/AAAAAAAAAAAA",
    "DELETE /sessions\n",
    "DELETE /Sessions/AAAAAAAAAAAA",
    "DELETE /events",
    "DELETE /sessions/~/~",
    "HEAD /sessions/AAAAAAAAAAAA",
    "HEAD /sessions",
    "OPTIONS /sessions/AAAAAAAAAAAA",
    "OPTIONS /sessions",
    "TRACE /sessions/AAAAAAAAAAAA",
)


def test_unknown_route_is_a_problem_too(api: Api) -> None:
    """API Gateway sends no such event, but a function URL and `make invoke` can do so.

    A function URL decodes `%2F`, so an id with a slash is two segments of the path.
    """
    for route in UNKNOWN:
        answer = api(*route.split(" ", 1))
        assert (answer.status, answer.json["code"]) == (404, "route_not_found"), route
        assert api.requests == []


@pytest.mark.parametrize("route", ["/sessions/{session_id}", "/sessions/{id}", "/{proxy+}"])
@pytest.mark.parametrize("parameters", [None, {"session_id": ""}, {"id": "A" * 12}])
def test_route_without_a_session_id_uses_the_path(
    api: Api, stored: Any, route: str, parameters: Any
) -> None:
    """204 means that a session has ended. A request that matches nothing must not get it."""
    session_id = api.create()
    path = f"/sessions/{session_id}"

    def revoke(raw_path: str) -> Answer:
        event = api_event("DELETE", raw_path)
        event["routeKey"] = f"DELETE {route}"
        event["pathParameters"] = parameters
        return api.send(event, path)

    assert revoke(f"/auth{path}").json["code"] == "route_not_found"
    assert "RevokedAt" not in stored(session_id)
    assert revoke(path).status == 204
    assert "RevokedAt" in stored(session_id)


def test_sample_of_a_function_url_is_a_creation(api: Api, stored: Any) -> None:
    """Its writer is the caller whose signature Lambda has checked."""
    event = sample("api_function_url")

    answer = api.send(event)

    assert answer.status == 201
    caller = event["requestContext"]["authorizer"]["iam"]["userArn"]
    assert stored(answer.json["session_id"])["Actor"] == {"S": caller}


def test_sample_of_a_custom_domain_is_a_list(api: Api) -> None:
    """The local stack has no mapping keys. `make invoke` can use this event."""
    session_id = api.create("ada")

    answer = api.send(sample("api_custom_domain"), "/sessions")

    assert [item["session_id"] for item in answer.json["items"]] == [session_id]


@pytest.mark.parametrize(
    ("base", "resource"),
    [
        ("https://example.execute-api.us-east-1.amazonaws.com", "/sessions/"),
        ("https://example.execute-api.us-east-1.amazonaws.com/prod", "/prod/sessions/"),
        ("https://api.example.com/auth", "/auth/sessions/"),
    ],
)
def test_location_is_relative_to_the_request(api: Api, base: str, resource: str) -> None:
    """Only the caller knows the path before `/sessions` (RFC 9110, 10.2.2; RFC 3986, 5.2)."""
    answer = api("POST", "/sessions", {"user_id": "ada"})

    location = urljoin(f"{base}/sessions", answer.headers["location"])

    assert location == urljoin(base, f"{resource}{answer.json['session_id']}")
