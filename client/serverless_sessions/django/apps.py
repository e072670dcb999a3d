"""The Django app for INSTALLED_APPS. It adds a system check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

_ENGINE = "serverless_sessions.django"
_MIDDLEWARE = f"{_ENGINE}.middleware.SessionMiddleware"


class ServerlessSessionsConfig(AppConfig):
    """The configuration of `"serverless_sessions.django"` in INSTALLED_APPS."""

    name = "serverless_sessions.django"
    label = "serverless_sessions"
    verbose_name = "Serverless sessions"

    def ready(self) -> None:
        checks.register(check_middleware)


def check_middleware(
    app_configs: Sequence[AppConfig] | None, **_: Any
) -> list[checks.CheckMessage]:
    """Warn if the session engine is used without its middleware."""
    if settings.SESSION_ENGINE != _ENGINE or _MIDDLEWARE in settings.MIDDLEWARE:
        return []
    return [
        checks.Warning(
            "Sessions are kept by the service, but their middleware is not in MIDDLEWARE.",
            hint=(
                f"Put '{_MIDDLEWARE}' in the place of "
                "'django.contrib.sessions.middleware.SessionMiddleware'. With Django's own, a late "
                "answer can delete or replace the cookie of a newer session."
            ),
            id="serverless_sessions.W001",
        )
    ]
