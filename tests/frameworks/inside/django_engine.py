"""Replaces Django's session engine and middleware by those of the package.

Import it before anything else imports Django's middleware.
"""

from __future__ import annotations

import os
from typing import Any

from django.contrib.sessions import middleware

from serverless_sessions.django.middleware import SessionMiddleware

SESSION_ENGINE = "serverless_sessions.django"
SERVERLESS_SESSIONS: dict[str, Any] = {"url": os.environ["SESSIONS_URL"]}

# Some tests override MIDDLEWARE with Django's own middleware.
middleware.SessionMiddleware = SessionMiddleware  # type: ignore[misc]
