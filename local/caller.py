"""A service caller: HTTP requests signed with SigV4."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

REGION = "us-east-1"


class Answer(NamedTuple):
    """`headers` by their names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Calls the API at `url`; without credentials, unsigned."""

    def __init__(self, url: str, credentials: Credentials | None) -> None:
        self.url = url
        self.credentials = credentials
        self._http = URLLib3Session(timeout=35)

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request. `body` is encoded as JSON unless it is bytes already."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        json_type = {} if data is None else {"Content-Type": "application/json"}
        request = AWSRequest(
            method, self.url + path, json_type | (headers or {}), data, params=query
        )
        if self.credentials:
            SigV4Auth(self.credentials, "execute-api", REGION).add_auth(request)
        response = self._http.send(request.prepare())
        answered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, answered, response.content)
