"""The URL of the page, for `include`."""

from __future__ import annotations

from django.urls import path

from serverless_sessions.django.devices.views import devices

app_name = "serverless_sessions"
urlpatterns = [path("", devices, name="devices")]
