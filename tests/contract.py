"""Holds answers against the written contract, `docs/openapi.yaml`."""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace
from typing import Any

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers

from tests.template import ROOT


@cache
def _contract() -> OpenAPI:
    config = Config(extra_media_type_deserializers={"application/problem+json": json.loads})
    return OpenAPI.from_file_path(str(ROOT / "docs/openapi.yaml"), config=config)


def hold(method: str, path: str, status: int, headers: dict[str, str], body: bytes) -> None:
    """Raise unless the contract foresees this answer; header names in lower case."""
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
