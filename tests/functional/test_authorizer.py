"""The authorizer of HTTP, REST and WebSocket APIs: headers and cookies, and what it must reject."""

from __future__ import annotations

import json
import logging
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

import pytest

from dynamodb.errors import TransientError
from sessions.errors import Unavailable
from tests.support.api import NOW, Api
from tests.support.functions import lambda_context, sample
from tests.support.seam import seam
from tests.support.tokens import ABSENT, SECRET, id_of, successor, verify

COOKIE = "__Host-session"


def http_event(*identity: str, **more: Any) -> dict[str, Any]:
    return sample("authorizer_http_api") | {"identitySource": list(identity)} | more


def rest_event(**headers: str) -> dict[str, Any]:
    multiple = {name: [value] for name, value in headers.items()}
    return sample("authorizer_rest_api") | {"headers": headers, "multiValueHeaders": multiple}


def allowed(authorizer: ModuleType, event: dict[str, Any]) -> bool:
    answer = authorizer.lambda_handler(event, lambda_context())
    if "isAuthorized" in answer:
        assert bool(answer["context"]) == answer["isAuthorized"]
        return bool(answer["isAuthorized"])
    return bool(answer["policyDocument"]["Statement"][0]["Effect"] == "Allow")


def test_http_api_gets_a_simple_answer_with_the_session(authorizer: ModuleType, api: Api) -> None:
    token = api.log_in("ada")
    seam.calls.clear()

    answer = authorizer.lambda_handler(http_event(f"Bearer {token}"), lambda_context())

    assert answer == {
        "isAuthorized": True,
        "context": {
            "session_id": id_of(token),
            "user_id": "ada",
            "expires_at": NOW + 1800,
            "authenticated_at": NOW,
            "methods": "",
        },
    }
    assert api.requests == ["GetItem"]


def test_policy_covers_all_routes_of_a_rest_api(authorizer: ModuleType, api: Api) -> None:
    """If a cached policy contained one route, the others would be refused."""
    token = api.log_in("ada")

    answer = authorizer.lambda_handler(
        rest_event(Cookie=f"a=b; {COOKIE}={token}"), lambda_context()
    )

    assert answer == {
        "principalId": "ada",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Action": "execute-api:Invoke",
                    "Effect": "Allow",
                    "Resource": "arn:aws:execute-api:us-east-1:111122223333:abcdef1234/*",
                }
            ],
        },
        "context": {
            "session_id": id_of(token),
            "user_id": "ada",
            "expires_at": NOW + 1800,
            "authenticated_at": NOW,
            "methods": "",
        },
    }


def test_policy_covers_the_route_connect_of_a_websocket_api(
    authorizer: ModuleType, api: Api
) -> None:
    """Its event is like that of a REST API, but its ARN has no HTTP method."""
    token = api.log_in("ada")
    event = sample("authorizer_websocket_api")
    assert not allowed(authorizer, event)
    event["multiValueHeaders"]["Cookie"] = [f"theme=dark; {COOKIE}={token}"]

    answer = authorizer.lambda_handler(event, lambda_context())

    [statement] = answer["policyDocument"]["Statement"]
    assert statement["Effect"] == "Allow"
    assert fnmatchcase(event["methodArn"], statement["Resource"])
    assert answer["context"]["session_id"] == id_of(token)


def test_anonymous_session_is_refused(authorizer: ModuleType, api: Api) -> None:
    """For an API, "allowed" means that somebody has logged in."""
    token = api.log_in(None)

    assert not allowed(authorizer, http_event(f"Bearer {token}"))
    assert not allowed(authorizer, rest_event(Authorization=f"Bearer {token}"))


def test_session_whose_user_id_was_removed_is_refused(
    authorizer: ModuleType, api: Api, tables: Any, stored: Any
) -> None:
    token = api.log_in("ada")
    item = stored(id_of(token))
    del item["UserId"]
    tables.client.put_item(TableName=tables.sessions, Item=item)

    assert not allowed(authorizer, http_event(f"Bearer {token}"))


def test_setting_authorizes_anonymous_sessions(
    authorizer: ModuleType, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The context then has no user."""
    monkeypatch.setattr(authorizer, "authorize_anonymous", True)
    token = api.log_in(None)
    session_id = id_of(token)
    context = {"session_id": session_id, "expires_at": NOW + 1800}

    answer = authorizer.lambda_handler(http_event(f"Bearer {token}"), lambda_context())
    assert answer == {"isAuthorized": True, "context": context}
    answer = authorizer.lambda_handler(
        rest_event(Authorization=f"Bearer {token}"), lambda_context()
    )
    assert (answer["principalId"], answer["context"]) == (session_id, context)
    assert not allowed(authorizer, http_event(f"Bearer {session_id}.{SECRET}"))


def test_all_refusals_are_the_same(authorizer: ModuleType) -> None:
    assert authorizer.lambda_handler(sample("authorizer_http_api"), lambda_context()) == {
        "isAuthorized": False,
        "context": {},
    }
    refused = authorizer.lambda_handler(sample("authorizer_rest_api"), lambda_context())
    assert refused["policyDocument"]["Statement"][0]["Effect"] == "Deny"
    assert (refused["principalId"], refused["context"]) == ("nobody", {})


@pytest.mark.parametrize(
    "identity",
    [
        ["Bearer {}"],
        ["bearer {}"],
        ["Bearer  {}"],
        [COOKIE + "={}"],
        ["a=b; " + COOKIE + "={}; c=d"],
        ["a=b;" + COOKIE + "={}"],
        ["Bearer {}", "GET /whoami"],
    ],
)
def test_token_is_read_from_the_identity_source(
    authorizer: ModuleType, api: Api, identity: list[str]
) -> None:
    token = api.log_in()

    assert allowed(authorizer, http_event(*(text.replace("{}", token) for text in identity)))


@pytest.mark.parametrize(
    "identity",
    [
        ["{}"],
        ["Basic {}"],
        ["Bearer"],
        ["Bearer {} x"],
        ["Bearer x{}"],
        ["session={}"],
        [COOKIE.lower() + "={}"],
        ["x" + COOKIE + "={}"],
        [COOKIE + "=x; " + COOKIE + "={}"],
        [COOKIE + "={}; " + COOKIE + "={}"],
        ["Bearer {}", COOKIE + "={}"],
        ["Bearer x", "Bearer {}"],
        [""],
    ],
)
def test_ambiguous_or_malformed_token_is_refused_without_a_request(
    authorizer: ModuleType, api: Api, identity: list[str]
) -> None:
    """With two tokens in a request, the authorizer does not know under which one API Gateway caches
    the answer.
    """
    token = api.log_in()
    seam.calls.clear()

    assert not allowed(authorizer, http_event(*(text.replace("{}", token) for text in identity)))
    assert api.requests == []


# Some characters that Python's `strip` removes, apart from space and tab.
STRANGE = ("\u2000", "\u00a0", "\u0085", "\u3000", "\u2028", "\x0b", "\x0c", "\x1c", "\x1f", "\r\n")


@pytest.mark.parametrize(
    "identity",
    [
        "?" + COOKIE + "={}",
        "a=b; ?" + COOKIE + "={}; c=d",
        COOKIE + "?={}",
        COOKIE + "={}?",
        COOKIE + "=?{}",
        "Bearer ?{}",
        "Bearer {}?",
        "Bearer?{}",
    ],
)
def test_only_space_and_tab_are_white_space(
    authorizer: ModuleType, api: Api, identity: str
) -> None:
    """If a character other than space and tab stands before `__Host-`, browsers see a name that
    does not begin with `__Host-`. A subdomain may set such a cookie.
    """
    token = api.log_in()
    seam.calls.clear()

    for strange in STRANGE:
        text = identity.replace("?", strange).replace("{}", token)
        assert not allowed(authorizer, http_event(text)), text
    assert api.requests == []


def test_cookie_with_a_similar_name_does_not_cause_a_refusal(
    authorizer: ModuleType, api: Api
) -> None:
    """It is a different cookie, so there are not two cookies with the same name."""
    token = api.log_in()

    for strange in STRANGE:
        assert allowed(authorizer, http_event(f"{strange}{COOKIE}=planted; {COOKIE}={token}"))


@pytest.mark.parametrize("space", [" ", "\t", " \t "])
def test_space_and_tab_are_white_space(authorizer: ModuleType, api: Api, space: str) -> None:
    token = api.log_in()

    for text in (
        f"{space}a=b{space};{space}{COOKIE}={token}{space};",
        f"Bearer {space}{token}{space}",
    ):
        assert allowed(authorizer, http_event(text)), text
    assert not allowed(authorizer, http_event(f"{COOKIE}{space}={token}"))
    assert not allowed(authorizer, http_event(f"{COOKIE}={token}; {space}{COOKIE}={token}"))


def test_only_the_configured_source_counts(authorizer: ModuleType, api: Api) -> None:
    """The answer is cached under the identity source, so a token in another place must not be
    accepted.
    """
    token = api.log_in()
    elsewhere = {"authorization": f"Bearer {token}"}

    assert not allowed(authorizer, http_event(f"{COOKIE}=stolen", headers=elsewhere))
    assert not allowed(
        authorizer, http_event("Bearer stolen", cookies=[f"{COOKIE}={token}"], headers={})
    )


def test_rest_api_with_an_authorizer_of_type_token(authorizer: ModuleType, api: Api) -> None:
    """Whichever header is the source, the event contains its value as `authorizationToken`."""
    token = api.log_in()
    event = {"type": "TOKEN", "methodArn": sample("authorizer_rest_api")["methodArn"]}

    assert allowed(authorizer, event | {"authorizationToken": f"Bearer {token}"})
    assert allowed(authorizer, event | {"authorizationToken": f"{COOKIE}={token}"})
    assert not allowed(authorizer, event | {"authorizationToken": token})


def test_rest_api_with_an_authorizer_of_type_request(authorizer: ModuleType, api: Api) -> None:
    """The authorizer accepts a token in `Authorization` or in `Cookie` if the other of these
    headers is absent.
    """
    token = api.log_in()
    bearer, cookie = f"Bearer {token}", f"{COOKIE}={token}"

    assert allowed(authorizer, rest_event(authorization=bearer))
    assert allowed(authorizer, rest_event(COOKIE=cookie))
    assert allowed(authorizer, rest_event(Cookie=f"theme=dark; {cookie}", Host="a"))
    assert not allowed(authorizer, rest_event())
    assert not allowed(authorizer, rest_event() | {"headers": None, "multiValueHeaders": None})


def test_token_is_refused_if_another_value_could_be_the_source(
    authorizer: ModuleType, api: Api
) -> None:
    """API Gateway may cache the answer under the value that is not the token. Then a request with
    only that value would get the answer for this token.
    """
    token = api.log_in()
    bearer, cookie = f"Bearer {token}", f"{COOKIE}={token}"

    assert not allowed(authorizer, rest_event(Authorization=bearer, Cookie="theme=dark"))
    assert not allowed(authorizer, rest_event(Authorization="Basic abc", Cookie=cookie))
    assert not allowed(authorizer, rest_event(Authorization="Bearer x", Cookie=cookie))
    twice = rest_event() | {"multiValueHeaders": {"cookie": ["theme=dark", cookie]}}
    assert not allowed(authorizer, twice | {"headers": {"cookie": cookie}})


def test_http_api_with_payload_1_0(authorizer: ModuleType, api: Api) -> None:
    """This is the CDK's default for an HTTP API.

    The source is a string, and the answer is a policy.
    """
    token = api.log_in()
    event = rest_event(Authorization=f"Bearer {token}", Cookie="theme=dark") | {"version": "1.0"}

    answer = authorizer.lambda_handler(
        event | {"identitySource": f"Bearer {token}"}, lambda_context()
    )
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    assert allowed(authorizer, event | {"identitySource": f"{COOKIE}={token}; theme=dark"})
    assert not allowed(authorizer, event | {"identitySource": "theme=dark"})


def test_http_api_without_an_identity_source(authorizer: ModuleType, api: Api) -> None:
    """This is only possible without a cache. Payload 2.0 has the cookies in a separate list."""
    token = api.log_in()
    event = http_event() | {"headers": {}}

    assert allowed(authorizer, event | {"cookies": ["a=b", f"{COOKIE}={token}"]})
    assert allowed(authorizer, event | {"headers": {"authorization": f"Bearer {token}"}})
    assert not allowed(authorizer, event)


def test_session_is_read_each_time(authorizer: ModuleType, api: Api) -> None:
    revoked, expired, kept = api.log_in(), api.log_in(ttl_seconds=10), api.log_in()
    for token in (revoked, expired, kept):
        assert allowed(authorizer, http_event(f"Bearer {token}"))
    api("DELETE", f"/sessions/{revoked.partition('.')[0]}")
    api.clock.now += 9
    assert allowed(authorizer, http_event(f"Bearer {expired}"))
    api.clock.now += 1

    assert not allowed(authorizer, http_event(f"Bearer {revoked}"))
    assert not allowed(authorizer, http_event(f"Bearer {expired}"))
    assert allowed(authorizer, http_event(f"Bearer {kept}"))
    assert not allowed(authorizer, http_event(f"Bearer {ABSENT}.{SECRET}"))
    assert not allowed(authorizer, http_event(f"Bearer {kept.partition('.')[0]}.{SECRET}"))


def test_refusal_is_not_logged(
    authorizer: ModuleType, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can send as many invalid tokens as they like."""
    session_id = api.create()

    with caplog.at_level(logging.INFO):
        assert not allowed(authorizer, http_event(f"Bearer {session_id}.{SECRET}"))

    assert caplog.records == []


def test_authorizer_never_renews(authorizer: ModuleType, api: Api, stored: Any) -> None:
    """If the token was used before, the authorizer writes nothing at all."""
    token = api.log_in()
    before = stored(id_of(token))
    api.clock.now += 1700
    seam.calls.clear()

    assert allowed(authorizer, http_event(f"Bearer {token}"))
    assert api.requests == ["GetItem"]
    assert stored(id_of(token)) == before


def test_stolen_token_is_refused_without_a_log_line(
    authorizer: ModuleType, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """No log line is needed: the audit trail records the theft, with the authorizer's role and
    request id. So the log contains no secret.
    """
    stolen = api.log_in()
    newest = successor(api, stolen, grace_seconds=5)
    assert verify(api, newest).status == 200
    api.clock.now += 5

    with caplog.at_level(logging.INFO):
        assert not allowed(authorizer, http_event(f"Bearer {stolen}"))
        assert not allowed(authorizer, rest_event(Authorization=f"Bearer {stolen}"))

    assert caplog.records == []
    assert not allowed(authorizer, http_event(f"Bearer {newest}"))


def test_no_request_reads_the_data(authorizer: ModuleType, api: Api) -> None:
    """Reading them would take time, and no answer contains them."""
    token = api.log_in(data={"a": 1})
    seam.calls.clear()

    assert allowed(authorizer, http_event(f"Bearer {token}"))

    [(_, request)] = seam.calls
    assert "Data" not in json.dumps(request)
    assert request["ProjectionExpression"].startswith("UserId, ")


def test_outage_is_an_error(authorizer: ModuleType, api: Api) -> None:
    """API Gateway refuses a request if its authorizer fails."""

    def fail() -> None:
        raise TransientError("TimeoutError")

    token = api.log_in()
    seam.before = fail

    with pytest.raises(Unavailable, match="TimeoutError"):
        allowed(authorizer, http_event(f"Bearer {token}"))
