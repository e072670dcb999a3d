"""What lies between the client and a host: its name, proxies and certificate authorities."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
from concurrent.futures import Future
from functools import cache
from urllib.parse import urlsplit

import httpcore2
from botocore.httpsession import ProxyConfiguration
from botocore.loaders import create_loader
from botocore.session import Session as BotocoreSession
from botocore.utils import get_environ_proxies

from serverless_sessions._core import clock
from serverless_sessions._core.background import Lookup

# For this long the addresses of a name are used without another look-up. After that they are used
# while the name is looked up again, so a slow name server does not stop a client that knows them.
_FRESH_SECONDS = 10
_USABLE_SECONDS = 300


class Names:
    """The addresses of the hosts that a process connects to."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], _Name] = {}

    def find(self, host: str, port: int) -> list[str] | Future[list[str]]:
        """Return the addresses of `host`, or those that are being looked up. This never blocks."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return self._names.setdefault((host, port), _Name(host, port)).find()
        return [host]


class _Name:
    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lookup = Lookup(self._load)
        self._addresses: list[str] = []
        self._found_at = 0.0

    def find(self) -> list[str] | Future[list[str]]:
        # The monotonic clock may stop while the process is frozen, as in Lambda.
        age = clock.time() - self._found_at
        if 0 <= age < _FRESH_SECONDS:
            return self._addresses
        future = self._lookup.start()
        return self._addresses if 0 <= age < _USABLE_SECONDS else future

    def _load(self) -> list[str]:
        results = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        self._addresses = [str(address[0]) for *_, address in results]
        self._found_at = clock.time()
        return self._addresses


def result_of(addresses: Future[list[str]], host: str) -> list[str]:
    """Return the result of a look-up, or raise the error of httpcore2 that fits."""
    if not addresses.done():
        raise httpcore2.ConnectTimeout(f"the name {host} is still being looked up")
    if error := addresses.exception():
        raise httpcore2.ConnectError(error) from error
    return addresses.result()


def find_proxy(url: str) -> tuple[str, dict[str, str]] | None:
    """Return the proxy that boto3 would use for `url`, and the headers that it requires."""
    configuration = ProxyConfiguration(get_environ_proxies(url))
    proxy = configuration.proxy_url_for(url)
    return (proxy, configuration.proxy_headers_for(proxy)) if proxy else None


def create_tls_context(profile: str | None) -> ssl.SSLContext:
    """Return a context with the authorities that boto3 would trust.

    Without such a setting these are the ones in `SSL_CERT_FILE` or `SSL_CERT_DIR`, or those of the
    operating system. Raises `OSError` with the name of a file that cannot be read.
    """
    configured = BotocoreSession(profile=profile).get_config_variable("ca_bundle")
    bundle = configured or os.environ.get("REQUESTS_CA_BUNDLE")
    try:
        if not bundle:
            return httpcore2.default_ssl_context()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(bundle)
        return context
    except OSError as error:
        file = bundle or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise OSError(f"the certificate authorities in {file} cannot be read: {error}") from None


def host_and_port(url: str) -> str:
    """Return the host of a URL, and its port if there is one, without a user or password."""
    return urlsplit(url).netloc.rpartition("@")[2]


@cache
def domain_of(region: str) -> str:
    """Return the domain of AWS's endpoints in the region's partition, such as "amazonaws.com"."""
    for partition in create_loader().load_data("partitions")["partitions"]:
        if re.match(partition["regionRegex"], region):
            return str(partition["outputs"]["dnsSuffix"])
    return "amazonaws.com"
