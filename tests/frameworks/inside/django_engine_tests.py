"""Django's tests of a session backend, on our engine."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.test import TestCase, override_settings

from serverless_sessions.django import SessionStore

theirs: Any = import_module("sessions_tests.tests")
# One of the middleware's tests creates a session with this class.
theirs.DatabaseSession = SessionStore


class EngineTests(theirs.SessionTestsMixin, TestCase):  # type: ignore[misc]
    backend = SessionStore


@override_settings(USE_TZ=True)
class EngineWithTimeZoneTests(EngineTests):
    pass
