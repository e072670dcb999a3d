"""Ports for servers that a test starts."""

from __future__ import annotations

import socket

from local.stack import HOST


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
