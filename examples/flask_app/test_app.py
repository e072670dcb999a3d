"""Tests of the app on the embedded service.

pytest -p serverless_sessions.testing examples/flask_app
"""

import pytest
from flask.testing import FlaskClient

from app import app
from serverless_sessions.testing import SessionsService


@pytest.fixture
def browser(sessions_service: SessionsService) -> FlaskClient:
    return app.test_client()


def page(browser: FlaskClient) -> str:
    return browser.get("/").text


def test_counts_for_a_user(browser: FlaskClient) -> None:
    assert browser.post("/count").status_code == 401
    browser.post("/log-in", data={"user": "ada"})
    browser.post("/count")
    assert "Signed in: ada. Counted: 1." in page(browser)


def test_session_expires(browser: FlaskClient, sessions_service: SessionsService) -> None:
    browser.post("/log-in", data={"user": "ada"})
    sessions_service.advance(29 * 60, browser)
    assert "Signed in: ada" in page(browser)
    sessions_service.advance(31 * 60, browser)
    assert "Signed in" not in page(browser)
    assert [event.type for event in sessions_service.events("ada")] == ["created", "expired"]


def test_other_device_is_signed_out(
    browser: FlaskClient, sessions_service: SessionsService
) -> None:
    phone = app.test_client()
    browser.post("/log-in", data={"user": "ada"})
    sessions_service.advance(1)
    phone.post("/log-in", data={"user": "ada"})
    on_phone, _ = sessions_service.sessions.list("ada")  # newest first
    assert "(this device)" in browser.get("/account/devices/").text
    answer = browser.post(
        "/account/devices/",
        data={"sign_out": on_phone.session_id},
        headers={"Sec-Fetch-Site": "same-origin"},
        follow_redirects=True,
    )
    assert "The device is signed out." in answer.text
    assert "Signed in" not in page(phone)
    [end] = [event for event in sessions_service.events("ada") if event.type == "revoked"]
    assert (end.session_id, end.reason) == (on_phone.session_id, "device_signed_out")


def test_outage_signs_nobody_out(browser: FlaskClient, sessions_service: SessionsService) -> None:
    browser.post("/log-in", data={"user": "ada"})
    sessions_service.fail("unavailable")
    assert browser.get("/").status_code == 503
    sessions_service.recover()
    assert "Signed in: ada" in page(browser)
