"""Standard input, output and errors, in whatever state the caller left them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper


def prepare() -> None:
    """Make all three streams usable.

    A stream that the caller closed is None. It becomes the null device, so that its descriptor
    does not go to a connection. A character that the encoding does not have is written as an
    escape, such as `\\u2026`.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def encodable(text: str) -> str:
    """Return `text` as standard output will show it."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def flush() -> None:
    """Flush standard output and errors, and discard what can't be written.

    Otherwise Python would try again when it ends, and complain.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # Without a descriptor, or if the stream is closed, there is nothing left to flush.
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
