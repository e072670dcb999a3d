"""Raw calls of the API, signed or not, for tests of its contract."""

from __future__ import annotations

import json
import socket
import time
from typing import Any, NamedTuple

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from local.stack import REGION

# API Gateway answers within 30 s. MiniStack has no such limit: it starts a process for each
# parallel call, which takes as long as the machine is busy.
_TIMEOUT_SECONDS = 300
# With Nagle's algorithm, the body would wait 40 ms for the acknowledgement of the headers.
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
_MAX_SENDS = 20


class Answer(NamedTuple):
    """An answer of the API.

    `headers` has names in lower case. `sends` is more than 1 if there were 503s before. A write
    that was answered with 503 may have happened, and the next send then finds its effect.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    sends: int = 1

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Calls the API at `url`. Without credentials the calls are not signed."""

    def __init__(
        self,
        url: str,
        credentials: Credentials | None,
        region: str = REGION,
        aws_service: str = "execute-api",
    ) -> None:
        self.url = url
        self.credentials = credentials
        self.region = region
        self.aws_service = aws_service
        self._http = URLLib3Session(
            timeout=_TIMEOUT_SECONDS,
            socket_options=[_NO_DELAY],  # type: ignore[list-item]  # its stubs say str
        )

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request. Repeat it after each 503 with `Retry-After`, up to 20 times.

        `body` is encoded as JSON unless it is bytes already.
        """
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        json_type = {} if data is None else {"Content-Type": "application/json"}
        request = AWSRequest(
            method, self.url + path, json_type | (headers or {}), data, params=query
        )
        sends = 1
        while (answer := self.send(request)).status == 503 and sends < _MAX_SENDS:
            if "retry-after" not in answer.headers:
                break
            time.sleep(int(answer.headers["retry-after"]))
            sends += 1
        return answer._replace(sends=sends)

    def send(self, request: AWSRequest) -> Answer:
        """Sign and send the request once."""
        if self.credentials:
            SigV4Auth(self.credentials, self.aws_service, self.region).add_auth(request)
        response = self._http.send(request.prepare())
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, response.content)
