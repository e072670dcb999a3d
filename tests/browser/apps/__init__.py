"""The example apps, with what a test in a browser needs and they lack.

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
# The form field in the page of the examples. It is Django's name.
CSRF_FIELD = "csrfmiddlewaretoken"
# The local AWS answers as late as the machine is busy, and the apps wait for it.
DEADLINES: dict[str, Any] = {"deadline_seconds": 120, "verify_deadline_seconds": 120}


def is_csrf_token(sent: str, expected: str | None) -> bool:
    return expected is not None and hmac.compare_digest(sent.encode(), expected.encode())
