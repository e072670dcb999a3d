"""The example apps, extended for tests in a browser.

    SESSIONS_URL=… WEB_PORT=… VISITORS=yes python -m tests.browser.apps.flask_app

Each app gets two routes: `GET /who` returns the user as JSON, and also writes a value into the
session if the query says `write`; `POST /regenerate` gives the session a new token. The cookies are
those of production, `Secure` and with the prefix `__Host-`: Chromium accepts them from
http://localhost. With `VISITORS` the CSRF token of the log-in form is kept in a session, so that
each visitor has one before the log-in.
"""

import hmac
import os
from typing import Any

PORT = int(os.environ["WEB_PORT"])
VISITORS = bool(os.environ.get("VISITORS"))
# The form field in the pages of the examples. Django uses this name.
CSRF_FIELD = "csrfmiddlewaretoken"
# On a busy machine the local AWS is slow.
DEADLINES: dict[str, Any] = {"deadline_seconds": 120, "verify_deadline_seconds": 120}


def is_csrf_token(sent: str, expected: str | None) -> bool:
    return expected is not None and hmac.compare_digest(sent.encode(), expected.encode())
