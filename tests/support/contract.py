"""Checks requests and answers against the contract, `docs/openapi.yaml`."""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace
from typing import Any

import yaml
from jsonschema_rs import Draft202012Validator
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers

from tests.support.template import ROOT

# Parts of the `detail` of a 422 for rules that no JSON Schema can express. The contract describes
# these rules in prose.
RULES_IN_WORDS = (
    "not a cursor that a page came with",
    "made for another query",
    "either session_id or user_id",
    "must not be later than until",
    "seconds, the absolute timeout",
    "a time of the last 400 days",
    "a number has at most 38 digits",
    "data nests at most 30 levels deep",
    "the body nests too deep",
    "got `float`",
)


@cache
def _contract() -> OpenAPI:
    config = Config(extra_media_type_deserializers={"application/problem+json": json.loads})
    return OpenAPI.from_file_path(str(ROOT / "docs/openapi.yaml"), config=config)


def assert_matches_contract(
    method: str, path: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Raise unless the contract allows this answer. The names in `headers` are in lower case."""
    request: Any = SimpleNamespace(
        host_url="https://example.execute-api.us-east-1.amazonaws.com",
        method=method.lower(),
        path=path,
        content_type="",
        body=None,
        parameters=RequestParameters(),
    )
    response: Any = SimpleNamespace(
        status_code=status,
        headers=Headers(headers),
        content_type=headers.get("content-type", ""),
        data=body,
    )
    _contract().validate_response(request, response)


def breaks_only_prose_rules(problem: dict[str, Any]) -> bool:
    """Return whether the body of a 422 only names rules that the contract describes in prose."""
    details = [error["detail"] for error in problem["errors"]]
    return all(any(rule in detail for rule in RULES_IN_WORDS) for detail in details)


def assert_request_matches_contract(route: str, body: bytes, status: int, answer: bytes) -> None:
    """Raise if the service accepted a body that the contract forbids, or rejected one that it
    allows.
    """
    validator = _body_validator(route)
    refused = status == 422
    if validator is None or not (refused or status < 300):
        return
    if refused and breaks_only_prose_rules(json.loads(answer)):
        return
    try:
        document = json.loads(body)
    except ValueError:  # there was no body
        return
    assert validator.is_valid(document) is not refused, (route, body[:200], status, answer[:200])


@cache
def _body_validator(route: str) -> Draft202012Validator | None:
    contract = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    method, _, path = route.partition(" ")
    operation = contract["paths"].get(path, {}).get(method.lower(), {})
    if "requestBody" not in operation:
        return None
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return Draft202012Validator(
        schema | {"components": contract["components"]}, validate_formats=True
    )
