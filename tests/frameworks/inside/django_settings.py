"""Settings for Django's `runtests.py`."""

from __future__ import annotations

from django_engine import SERVERLESS_SESSIONS, SESSION_ENGINE

__all__ = ["SERVERLESS_SESSIONS", "SESSION_ENGINE"]

TEST_RUNNER = "django_runner.Runner"
SECRET_KEY = "not a secret"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3"},
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
