"""The embedded service: the real functions in one process, for developing and testing apps.

    request: server.py → gateway.py → service.py → the API's function → tables.py
    stream:  tables.py → service.py → the audit function → tables.py

It is always a process of its own, `python -m serverless_sessions.serve` or `sessions serve`. The
functions have top-level names such as `sessions`, which must not get onto the path of an app.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGED = Path(__file__).parent / "_functions"
_IN_CHECKOUT = Path(__file__).parents[3] / "functions"


def add_functions_to_path() -> None:
    """Make the code of the functions importable: that of the wheel, or that of the checkout."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _IN_CHECKOUT
    # It comes first, because the current folder may have a package with one of their names.
    sys.path.insert(0, str(folder))
