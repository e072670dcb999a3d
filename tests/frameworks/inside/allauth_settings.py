"""The settings of allauth's own test project, with our sessions."""

from __future__ import annotations

import os
from importlib import import_module

from django_engine import SERVERLESS_SESSIONS, SESSION_ENGINE

__all__ = ["SERVERLESS_SESSIONS", "SESSION_ENGINE"]

_theirs = vars(import_module("tests.projects.regular.settings"))
globals().update({name: _theirs[name] for name in _theirs if name.isupper()})

if "POSTGRES" in os.environ:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["POSTGRES"],
            "NAME": "postgres",
            "USER": "postgres",
        }
    }
