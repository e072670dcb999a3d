"""Values that no request can be made of. They raise an error before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from botocore.credentials import ReadOnlyCredentials

_VISIBLE = re.compile(r"[!-~]+")
_REGION = re.compile(r"[a-z0-9-]+")
_METHOD = re.compile(r"[a-z0-9_.-]{1,32}")
_REASON = re.compile(r"[a-z0-9_.-]{1,64}")
# The reasons that only the service itself uses.
_OWN_REASONS = ("token_reuse", "session_limit")


def check_url(url: object, name: str) -> str:
    """Return `url` without slashes at its end. `name` says in the error which URL it is."""
    if not isinstance(url, str) or not url:
        raise ValueError(f"{name} is missing")
    fault = _fault(url)
    if fault:
        # What is before @ or after ? may be a secret.
        shown = "" if re.search("[@?#]", url) else f" {url!r}"
        raise ValueError(f"{name}{shown} {fault}")
    return url.rstrip("/")


def _fault(url: str) -> str | None:
    """Return why no request can be sent to `url`, or None."""
    if not _VISIBLE.fullmatch(url):
        return "has a blank, a line break or a character that is not ASCII"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port
        host.encode("idna")  # its labels have the right length
    except ValueError:
        return "has no valid host and port"
    if parts.scheme not in ("http", "https"):
        return "does not start with https:// or http://"
    if not host or port == 0:
        return "has no valid host and port"
    if "@" in parts.netloc:
        return "must not contain a user or a password"
    if "?" in url or "#" in url:
        return "must not contain a query or a fragment"
    return None


def check_region(region: str) -> str:
    if not _REGION.fullmatch(region):
        raise ValueError(f"{region!r} is not the name of an AWS region")
    return region


def check_keys(keys: ReadOnlyCredentials) -> None:
    """Raise `ValueError` if the headers of a request cannot contain these credentials.

    The usual cause is a line break at the end, from a file.
    """
    for name, value in {
        "access key": keys.access_key,
        "secret key": keys.secret_key,
        "session token": keys.token or "none",
    }.items():
        if not value:
            raise ValueError(f"the {name} of the AWS credentials is empty")
        if not _VISIBLE.fullmatch(value):
            raise ValueError(
                f"the {name} of the AWS credentials has a blank, a line break or a character that "
                "is not ASCII"
            )


def names(methods: Collection[str]) -> list[str]:
    if isinstance(methods, str):
        raise TypeError("methods is a collection of names, not a string")
    return list(methods)


def check_methods(methods: Collection[str]) -> list[str]:
    """Return the methods, which must be names that the service accepts."""
    checked = names(methods)
    are_names = all(_METHOD.fullmatch(method) for method in checked)
    if len(checked) > 8 or len({*checked}) < len(checked) or not are_names:
        raise ValueError("methods are up to 8 different names, each 1 to 32 of a-z 0-9 _ . -")
    return checked


def check_reason(reason: str) -> None:
    if not _REASON.fullmatch(reason) or reason in _OWN_REASONS:
        reserved = " or ".join(_OWN_REASONS)
        raise ValueError(f"reason is 1 to 64 of a-z 0-9 _ . -, and not {reserved}")


def check_max_sessions(limit: object) -> None:
    if limit is not None and (type(limit) is not int or not 1 <= limit <= 100):
        raise ValueError("max_sessions is 1 to 100")


def check_string(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a string, not {type(value).__name__}")


def check_text(name: str, value: object) -> None:
    """Raise `ValueError` for a lone surrogate, which UTF-8 and therefore a URL cannot represent."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{name} contains a lone surrogate, which is not a character"
            ) from None
