"""The Django app for INSTALLED_APPS. It makes the templates available, and adds system checks."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.template import TemplateDoesNotExist
from django.template.loader import get_template

from serverless_sessions._web.devices import TEMPLATE, TEMPLATES
from serverless_sessions.django import SessionStore
from serverless_sessions.django.apps import check_middleware


class DevicesConfig(AppConfig):
    """The configuration of `"serverless_sessions.django.devices"` in INSTALLED_APPS."""

    name = "serverless_sessions.django.devices"
    label = "serverless_sessions_devices"
    verbose_name = "Where you are signed in"
    # Django looks for the folder `templates` here.
    path = str(TEMPLATES.parent)

    def ready(self) -> None:
        checks.register(check_engine)
        # Django registers it only once, even if "serverless_sessions.django" is installed as well.
        checks.register(check_middleware)
        checks.register(check_template)


def check_engine(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """Report if the service does not keep the sessions that the page lists."""
    if issubclass(import_module(settings.SESSION_ENGINE).SessionStore, SessionStore):
        return []
    return [
        checks.Error(
            'The page "Where you are signed in" needs sessions that are kept by the service.',
            hint="Set SESSION_ENGINE = 'serverless_sessions.django'.",
            id="serverless_sessions.E001",
        )
    ]


def check_template(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """Report if no template engine finds the page's template."""
    try:
        get_template(TEMPLATE)
    except TemplateDoesNotExist:
        return [
            checks.Error(
                f"The template '{TEMPLATE}' cannot be found.",
                hint="Set 'APP_DIRS': True in TEMPLATES.",
                id="serverless_sessions.E002",
            )
        ]
    return []
