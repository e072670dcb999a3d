"""The Django app for INSTALLED_APPS. It makes the templates available."""

from __future__ import annotations

from django.apps import AppConfig

from serverless_sessions._web.devices import TEMPLATES


class DevicesConfig(AppConfig):
    """The configuration of `"serverless_sessions.django.devices"` in INSTALLED_APPS."""

    name = "serverless_sessions.django.devices"
    label = "serverless_sessions_devices"
    verbose_name = "Where you are signed in"
    # Django looks for the folder `templates` here.
    path = str(TEMPLATES.parent)
