"""Tests of the app on the embedded service.

pytest -p serverless_sessions.testing examples/django_app
"""

import pytest
from django.core.management import call_command
from django.test import Client

from app import User
from serverless_sessions.testing import SessionsService


@pytest.fixture(scope="session", autouse=True)
def database() -> None:
    call_command("migrate", verbosity=0)


@pytest.fixture
def browser(sessions_service: SessionsService) -> Client:
    return Client(SERVER_NAME="localhost")


def test_counts_for_a_user(browser: Client) -> None:
    browser.post("/log-in", {"user": "ada"})
    browser.post("/count")
    assert "Signed in: ada. Counted: 1." in browser.get("/").text


def test_session_expires(browser: Client, sessions_service: SessionsService) -> None:
    browser.post("/log-in", {"user": "ada"})
    ada = str(User.objects.get(username="ada").pk)
    sessions_service.advance(13 * 86_400, browser)
    assert "Signed in: ada" in browser.get("/").text
    sessions_service.advance(15 * 86_400, browser)
    assert "Signed in" not in browser.get("/").text
    assert [event.type for event in sessions_service.events(ada)] == ["created", "expired"]


def test_force_login(browser: Client) -> None:
    browser.force_login(User.objects.create(username="lin"))
    assert "Signed in: lin" in browser.get("/").text


def test_other_device_is_signed_out(browser: Client, sessions_service: SessionsService) -> None:
    browser.post("/log-in", {"user": "ada"})
    ada = str(User.objects.get(username="ada").pk)
    phone = sessions_service.sessions.create(ada).session.session_id
    assert "(this device)" in browser.get("/account/devices/").text
    answer = browser.post("/account/devices/", {"sign_out": phone}, follow=True)
    assert "The device is signed out." in answer.text
    [end] = [event for event in sessions_service.events(ada) if event.type == "revoked"]
    assert (end.session_id, end.reason) == (phone, "device_signed_out")


def test_outage_signs_nobody_out(browser: Client, sessions_service: SessionsService) -> None:
    browser.post("/log-in", {"user": "ada"})
    sessions_service.fail("unavailable")
    assert browser.get("/").status_code == 503
    sessions_service.recover()
    assert "Signed in: ada" in browser.get("/").text
