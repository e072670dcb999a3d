"""A client of WebSockets, as far as tests need one. https://www.rfc-editor.org/rfc/rfc6455"""

from __future__ import annotations

import os
import socket
from base64 import b64encode
from urllib.parse import urlsplit

_CLOSE, _PING, _PONG = 8, 9, 10
_FINAL = _MASKED = 0x80
_TIMEOUT_SECONDS = 300


class Refused(Exception):
    """The server did not open the socket, but answered with this HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class WebSocket:
    """An open WebSocket. `url` is one without TLS, such as `ws://127.0.0.1:8000/path`.

    Raises `Refused`. Every wait for the server ends after five minutes with `TimeoutError`.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), _TIMEOUT_SECONDS)
        self._file = self._socket.makefile("rb")
        request = {
            "Host": parts.netloc,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": b64encode(os.urandom(16)).decode(),
            **headers,
        }
        lines = [f"{name}: {value}\r\n" for name, value in request.items()]
        self._socket.sendall(f"GET {parts.path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode())
        status = int(self._file.readline().split()[1])
        if status != 101:
            self.close()
            raise Refused(status)
        while self._file.readline().strip():
            pass

    def close(self) -> None:
        """Close the connection without a closing handshake."""
        self._file.close()
        self._socket.close()

    @property
    def is_open(self) -> bool:
        """Whether the server answers a ping."""
        # The mask of a client's frame may be zero, which leaves the payload as it is.
        self._socket.sendall(bytes((_FINAL | _PING, _MASKED | 0, 0, 0, 0, 0)))
        return self._receive(_PONG, _CLOSE) == _PONG

    def wait_until_closed(self) -> None:
        """Wait until the server closes the socket. Messages that it sends before are ignored."""
        self._receive(_CLOSE)

    def _receive(self, *opcodes: int) -> int:
        """Receive frames up to one of these, and return its opcode. The end counts as `_CLOSE`."""
        while head := self._file.read(2):
            opcode, length = head[0] & 0xF, head[1]
            if length >= 126:
                length = int.from_bytes(self._file.read(2 if length == 126 else 8), "big")
            self._file.read(length)
            if opcode in opcodes:
                return opcode
        return _CLOSE
